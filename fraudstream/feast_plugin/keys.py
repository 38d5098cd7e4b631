"""Where the rows lie that Feast serves: a card's value in its shard, a batch view's on their own.

Budget: three round trips for any number of cards (partitions, generations, values).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey

from fraudstream.errors import ShardClosed
from fraudstream.feast_plugin.store_client import Plan
from fraudstream.features.stored_values import CARD
from fraudstream.store.connection import Command
from fraudstream.store.shard import Role, ShardKeys, ShardRef, shard_of
from fraudstream.topics import partition_of, partitions_of

_KEY_VERSION = 3


def read_cards(prefix: str, cards: Sequence[str]) -> Plan[dict[str, bytes | None]]:
    """Read the packed values of cards, each in the generation that its shard's marker names.

    Raises:
        ShardClosed: A shard has no marker, or one of another log or layout.

    >>> next(read_cards("fraud", ["card-1"]))
    [('HGETALL', 'fraud:{p0}:marker')]
    """
    if not cards:
        return {}
    (answer,) = yield [_marker_command(prefix, 0)]
    incarnation = shard_of(Role.CARD, 0, answer).incarnation
    partitions = partitions_of(incarnation)
    partition_of_card = {card: partition_of(card.encode(), partitions) for card in cards}
    wanted = sorted(set(partition_of_card.values()))
    answers = yield [_marker_command(prefix, partition) for partition in wanted]
    shards = {
        partition: _shard(partition, incarnation, answer)
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


def _shard(partition: int, incarnation: str, marker: Mapping[bytes, bytes]) -> ShardRef:
    shard = shard_of(Role.CARD, partition, marker)
    if shard.incarnation != incarnation:
        msg = f"shard p{partition} follows log {shard.incarnation}: expected {incarnation}"
        raise ShardClosed(msg)
    return shard
