"""Where the rows lie that Feast serves: a card's value in its shard, a batch view's on their own.

Budget: three round trips for any number of cards (partitions, generations, values).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.feast_link import Plan
from fraudstream.features.codec import CARD
from fraudstream.features.state import LAYOUT_HASH
from fraudstream.shard import Role, ShardKeys, ShardRef
from fraudstream.store_line import Command
from fraudstream.topics import partition_of

_KEY_VERSION = 3


def read_cards(prefix: str, cards: Sequence[str]) -> Plan[dict[str, bytes | None]]:
    """Read the packed values of cards, each in the generation that its shard's marker names.

    Raises:
        OnlineStoreUnavailable: A shard has no marker, or one of another log or layout.

    >>> next(read_cards("fraud", ["card-1"]))
    [('HGETALL', 'fraud:{p0}:marker')]
    """
    if not cards:
        return {}
    (answer,) = yield [_marker_command(prefix, 0)]
    incarnation = _fields_of(answer, 0)["incarnation"]
    partitions = int(incarnation.rpartition(":")[2])
    partition_of_card = {card: partition_of(card.encode(), partitions) for card in cards}
    wanted = sorted(set(partition_of_card.values()))
    answers = yield [_marker_command(prefix, partition) for partition in wanted]
    shards = {
        partition: _shard(partition, incarnation, _fields_of(answer, partition))
        for partition, answer in zip(wanted, answers, strict=True)
    }
    values = yield [
        ("GET", ShardKeys(prefix, shards[partition]).state(CARD, card))
        for card, partition in partition_of_card.items()
    ]
    return dict(zip(partition_of_card, values, strict=True))


def batch_key(prefix: str, view: str, entity: EntityKey) -> str:
    """Return the key of a batch view's row.

    >>> batch_key("fraud", "merchant_risk", EntityKey())
    'fraud:batch:merchant_risk:00000000'
    """
    packed = serialize_entity_key(entity, entity_key_serialization_version=_KEY_VERSION)
    return f"{prefix}:batch:{view}:{packed.hex()}"


def batch_pattern(prefix: str, view: str) -> str:
    """Return the pattern of all keys of a batch view.

    >>> batch_pattern("fraud", "merchant_risk")
    'fraud:batch:merchant_risk:*'
    """
    return f"{prefix}:batch:{view}:*"


def _marker_command(prefix: str, partition: int) -> Command:
    return ("HGETALL", ShardKeys(prefix, ShardRef(Role.CARD, partition, "")).marker)


def _fields_of(answer: Mapping[bytes, bytes] | Any, partition: int) -> dict[str, str]:
    if not answer:
        msg = f"shard p{partition} has no marker: no features worker has opened it"
        raise OnlineStoreUnavailable(msg)
    return {name.decode(): content.decode() for name, content in answer.items()}


def _shard(partition: int, incarnation: str, marker: Mapping[str, str]) -> ShardRef:
    found = (marker["incarnation"], marker["layout"])
    if found != (incarnation, LAYOUT_HASH):
        msg = (
            f"shard p{partition} holds log {found[0]} in layout {found[1]}: expected log"
            f" {incarnation} in layout {LAYOUT_HASH}; features and this software must be of one"
            " version"
        )
        raise OnlineStoreUnavailable(msg)
    return ShardRef(Role.CARD, partition, incarnation, marker["generation"])
