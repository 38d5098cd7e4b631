"""Every topic: name, key, retention, compaction and who writes it; and where a key lies."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

DAY_MS: Final = 86_400_000

_MASK: Final = 0xFFFFFFFF
_MURMUR: Final = 0x5BD1E995
_MURMUR_SEED: Final = 0x9747B28C


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic promises.

    Attributes:
        name: `<noun>.<past participle>.v<n>`, without the deployment's prefix.
        key: What its records are keyed by.
        retention_ms: How long records are kept; -1 for ever.
        is_compacted: Whether only the last record of a key is kept.
        writers: The rooms that write it.
    """

    name: str
    key: str
    retention_ms: int
    is_compacted: bool
    writers: tuple[str, ...]


RAW: Final = Topic("transactions.raw.v1", "any", 3 * DAY_MS, False, ("banks",))
ACCEPTED: Final = Topic(
    "transactions.accepted.v1", "card token", 45 * DAY_MS, False, ("ingest", "scoring")
)
LATE: Final = Topic(
    "transactions.late.v1", "as the source", 30 * DAY_MS, False, ("ingest", "features")
)
DLQ: Final = Topic(
    "transactions.dlq.v1", "as the source", 30 * DAY_MS, False, ("ingest", "features")
)
ENTITIES: Final = Topic("entities.keyed.v1", "entity", 45 * DAY_MS, False, ("features",))
DECISIONS: Final = Topic("decisions.made.v1", "card token", 45 * DAY_MS, False, ("scoring",))
STAND_INS: Final = Topic("decisions.stood_in.v1", "card token", 30 * DAY_MS, False, ("scoring",))
RESCORES: Final = Topic("decisions.rescored.v1", "card token", 45 * DAY_MS, False, ("scoring",))
SHADOWED: Final = Topic("decisions.shadowed.v1", "card token", 45 * DAY_MS, False, ("scoring",))
ALERTS: Final = Topic("alerts.raised.v1", "card token", 30 * DAY_MS, False, ("scoring",))
LABELS: Final = Topic(
    "labels.settled.v1", "card token", 400 * DAY_MS, False, ("console", "chargeback import")
)
RULES: Final = Topic("rules.published.v1", "rule-set id", -1, True, ("console", "command line"))

ALL: Final = (
    RAW,
    ACCEPTED,
    LATE,
    DLQ,
    ENTITIES,
    DECISIONS,
    STAND_INS,
    RESCORES,
    SHADOWED,
    ALERTS,
    LABELS,
    RULES,
)


def _murmur2(key: bytes) -> int:
    """Return the 32-bit MurmurHash2 of a key, with the seed of Kafka's Java client.

    Half the cost of the client libraries' own: every card of every stage pays it.

    >>> hex(_murmur2(b"21"))
    '0xc5f2f8ec'
    """
    length = len(key)
    hashed = (_MURMUR_SEED ^ length) & _MASK
    for word in struct.unpack_from(f"<{length // 4}I", key):
        mixed = word * _MURMUR & _MASK
        hashed = (hashed * _MURMUR ^ (mixed ^ mixed >> 24) * _MURMUR) & _MASK
    rest = key[length & ~3 :]
    if rest:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * _MURMUR & _MASK
    hashed = (hashed ^ hashed >> 13) * _MURMUR & _MASK
    return hashed ^ hashed >> 15


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as Kafka's Java client chooses it (murmur2).

    Scoring and features use it to find a card's shard, so it must be the producers' partitioner.
    >>> partition_of(b"tok", 4)
    3
    """
    return (_murmur2(key) & 0x7FFFFFFF) % partitions
