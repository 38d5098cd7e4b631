"""Which filling belongs to which role."""

from __future__ import annotations

from functools import partial

from fraudstream.shard import Role
from services.features.card_filling import CardFiller
from services.features.entity_filling import EntityFiller
from services.features.log_lots import lots_of
from services.features.logs import Log
from services.features.rebuild import Rebuilder, RebuildParts


def rebuilder_of(parts: RebuildParts, role: Role, log: Log) -> Rebuilder:
    """Return what rebuilds the shards of a role that follow a log."""
    lots = partial(lots_of, parts.kafka)
    if role is Role.CARD:
        return Rebuilder(parts, role, log, CardFiller(parts.store, lots, parts.clock_ms))
    return Rebuilder(parts, role, log, EntityFiller(parts.store, lots))
