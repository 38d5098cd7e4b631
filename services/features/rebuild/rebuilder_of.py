"""Which filling belongs to which role."""

from __future__ import annotations

from functools import partial

from fraudstream.broker.log_reader import chunks_of
from fraudstream.broker.topic_info import Log
from fraudstream.store.shard import Role
from services.features.rebuild.card_filler import CardFiller
from services.features.rebuild.entity_filler import EntityFiller
from services.features.rebuild.rebuilder import Rebuilder, RebuildParts
from services.features.shards.source_ends import SourceEnds


def rebuilder_of(parts: RebuildParts, role: Role, log: Log) -> Rebuilder:
    """Return what rebuilds the shards of a role that follow a log."""
    chunks = partial(chunks_of, parts.kafka)
    if role is Role.CARD:
        return Rebuilder(parts, role, log, CardFiller(parts.store, chunks, parts.clock_ms))
    return Rebuilder(parts, role, log, EntityFiller(parts.store, chunks, SourceEnds(parts.kafka)))
