"""Every topic: name, key, retention, compaction and who writes it; and where a key lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2

DAY_MS: Final = 86_400_000


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


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as Kafka's Java client chooses it (murmur2).

    Scoring and features use it to find a card's shard, so it must be the producers' partitioner.
    murmur2 costs 15 microseconds here, so the last keys are remembered.

    >>> partition_of(b"tok", 4)
    3
    """
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
