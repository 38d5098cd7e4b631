"""Every topic: name, key, retention and who writes it; and where a key lies.

Every topic of live traffic has `message.timestamp.type=LogAppendTime`, because each is judged by
its records' timestamps, and no writer's clock may move them:

- raw: lateness, and how long a record waited for ingest. Banks write it.
- accepted, labels: order of arrival, what was known when, and the progress of shared entities.
- decisions: how long the record of a decision lives after a rebuild.
- rules: when a version was taken, whatever its signer says.
- entities, late, dlq, quarantine and the rest: retention. A stamp in the past would delete a record
  at once.

Topics of a replay (`KafkaSettings.is_replay`) have `CreateTime` and no expiry instead: the old
records bring their own clock.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

DAY_MS: Final = 86_400_000
_COUNT_DIGITS: Final = 10

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
        writers: The rooms that write it.
        is_signed: Whether its records carry a MAC of their writer, which every reader checks.
    """

    name: str
    key: str
    retention_ms: int
    writers: tuple[str, ...]
    is_signed: bool = False


RAW: Final = Topic("transactions.raw.v1", "any", 3 * DAY_MS, ("banks",))
ACCEPTED: Final = Topic(
    name="transactions.accepted.v1",
    key="card token",
    retention_ms=45 * DAY_MS,
    writers=("ingest", "scoring"),
    is_signed=True,
)
LATE: Final = Topic("transactions.late.v1", "as the source", 30 * DAY_MS, ("ingest", "features"))
# `dlq replay` sends what is in a letter on, and writes a mark behind it.
DLQ: Final = Topic(
    name="transactions.dlq.v1",
    key="as the source",
    retention_ms=30 * DAY_MS,
    writers=("ingest", "features", "operator"),
    is_signed=True,
)
ENTITIES: Final = Topic(
    name="entities.keyed.v1",
    key="entity",
    retention_ms=45 * DAY_MS,
    writers=("features",),
    is_signed=True,
)
DECISIONS: Final = Topic(
    name="decisions.made.v1",
    key="card token",
    retention_ms=45 * DAY_MS,
    writers=("scoring",),
    is_signed=True,
)
STAND_INS: Final = Topic(
    name="decisions.stood_in.v1",
    key="card token",
    retention_ms=30 * DAY_MS,
    writers=("scoring",),
    is_signed=True,
)
RESCORES: Final = Topic(
    name="decisions.rescored.v1",
    key="card token",
    retention_ms=45 * DAY_MS,
    writers=("scoring",),
    is_signed=True,
)
SHADOWED: Final = Topic(
    name="decisions.shadowed.v1",
    key="card token",
    retention_ms=45 * DAY_MS,
    writers=("scoring",),
    is_signed=True,
)
ALERTS: Final = Topic(
    name="alerts.raised.v1",
    key="card token",
    retention_ms=30 * DAY_MS,
    writers=("scoring",),
    is_signed=True,
)
LABELS: Final = Topic(
    name="labels.settled.v1",
    key="card token",
    retention_ms=400 * DAY_MS,
    writers=("console", "ingest"),
    is_signed=True,
)
LABELS_RAW: Final = Topic("labels.raw.v1", "any", 7 * DAY_MS, ("banks",))
QUARANTINE: Final = Topic(
    "quarantine.v1",
    "as the source",
    30 * DAY_MS,
    ("features", "scoring", "archive", "console"),
)
# Its records carry the signature of a person, which is more than a writer's MAC. Not compacted:
# whoever may write would take the last good version away by junk under its key.
RULES: Final = Topic("rules.published.v1", "rule-set id", -1, ("console", "command line"))

ALL: Final = (
    RAW,
    ACCEPTED,
    LATE,
    DLQ,
    QUARANTINE,
    ENTITIES,
    DECISIONS,
    STAND_INS,
    RESCORES,
    SHADOWED,
    ALERTS,
    LABELS_RAW,
    LABELS,
    RULES,
)

# What our services read of each other.
BEHIND_INGEST: Final = (
    ACCEPTED,
    ENTITIES,
    DECISIONS,
    STAND_INS,
    RESCORES,
    SHADOWED,
    ALERTS,
    LABELS,
    RULES,
)


@lru_cache(maxsize=256)
def base_name(name: str) -> str:
    """Return the name of a topic without the prefix of its deployment.

    >>> base_name("bank-labels.settled.v1"), base_name("others.v1")
    ('labels.settled.v1', 'others.v1')
    """
    return next((topic.name for topic in ALL if name.endswith(topic.name)), name)


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


def incarnation_of(topic_id: bytes, partitions: int) -> str:
    """Return the name of a log's incarnation: a topic made again or widened has another.

    >>> incarnation_of(bytes(2), 4)
    '0000:4'
    """
    return f"{topic_id.hex()}:{partitions}"


def topic_id_of(incarnation: str) -> bytes:
    """Return the topic id inside an incarnation.

    >>> topic_id_of(incarnation_of(bytes(16), 4)) == bytes(16)
    True
    """
    return bytes.fromhex(incarnation.partition(":")[0])


def partitions_of(incarnation: str) -> int:
    """Return the partition count inside an incarnation; 0 for what no service of ours wrote.

    >>> partitions_of(incarnation_of(bytes(16), 4)), partitions_of("00:many")
    (4, 0)
    """
    count = incarnation.rpartition(":")[2]
    return int(count) if count.isdecimal() and len(count) < _COUNT_DIGITS else 0
