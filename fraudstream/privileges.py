"""Who may do what: each service's principal, its rights in Kafka and its rights in the store.

The one table of it. `python -m services.ingest privileges` makes the broker's and the store's
scripts from it; the files in `ops/` are what it says for a deployment without prefixes. A right
that is not here is not granted, so a service that learns to read a topic is refused until its
line says so.

Kafka: the right to write or read a topic includes describing it, and the right to write any topic
includes the idempotent producer (Kafka 2.8 on). No service uses transactions of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraudstream.topics import (
    ACCEPTED,
    ALERTS,
    DECISIONS,
    DLQ,
    ENTITIES,
    LABELS,
    LABELS_RAW,
    LATE,
    QUARANTINE,
    RAW,
    RESCORES,
    RULES,
    SHADOWED,
    STAND_INS,
    Topic,
)

# Keys of card shards and of entity shards: `<prefix>:{p7}:...`, `<prefix>:{e7}:...`.
CARDS: Final = "{p*"
ENTITY_SHARDS: Final = "{e*"
# What any client of ours says before it asks for a key.
_GREETING: Final = ("auth", "hello", "ping", "select", "client|setinfo", "cluster|slots")
_SCRIPTS: Final = ("evalsha", "script|load", "time", "info")
_READS: Final = ("get", "hgetall")


@dataclass(frozen=True, slots=True)
class StoreRights:
    """What a user of the store may do.

    Attributes:
        commands: Commands that it may give; scripts give theirs as their caller.
        writes: Keys that it may read and write, behind the deployment's prefix.
        reads: Keys that it may read.
        seals: Whether it seals what it writes there, with a key of its own.
    """

    commands: tuple[str, ...]
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    seals: bool = False


@dataclass(frozen=True, slots=True)
class Principal:
    """One user of the broker, and of the store where it has rights there.

    Attributes:
        name: Its name, without the deployment's prefix.
        room: Who it is among the writers of a topic.
        reads: Topics that it reads.
        writes: Topics that it writes.
        describes: Topics of which it only looks up the partitions.
        group: The consumer group that it joins, without the deployment's prefix; empty for none.
        operations: What else it may do with every topic.
        store: What it may do in the store; None for nothing.
    """

    name: str
    room: str
    reads: tuple[Topic, ...] = ()
    writes: tuple[Topic, ...] = ()
    describes: tuple[Topic, ...] = ()
    group: str = ""
    operations: tuple[str, ...] = ()
    store: StoreRights | None = None


_CARD_STATES: Final = StoreRights(
    commands=(
        *_GREETING, *_SCRIPTS, *_READS, "set", "del", "unlink", "exists", "expire",
        "hmget", "hset", "lrange", "lrem", "zadd",
    ),
    writes=(CARDS,),
    reads=(ENTITY_SHARDS,),
)  # fmt: skip
_ENTITY_STATES: Final = StoreRights(
    commands=(
        *_GREETING, *_SCRIPTS, *_READS, "set", "del", "unlink", "exists", "expire", "hmget", "hset",
    ),
    writes=(ENTITY_SHARDS,),
)  # fmt: skip
_DECISION_RECORDS: Final = StoreRights(
    commands=(
        *_GREETING, *_SCRIPTS, *_READS, "mget", "set", "del", "exists", "expire", "hmget",
        "lrange", "lrem", "rpush", "zadd", "zrem", "zmscore", "zrangebyscore",
    ),
    writes=(CARDS,),
    reads=(ENTITY_SHARDS,),
    seals=True,
)  # fmt: skip
_ALL_STATES: Final = StoreRights(commands=_CARD_STATES.commands, writes=(CARDS, ENTITY_SHARDS))
_FEATURE_READS: Final = StoreRights(
    commands=(*_GREETING, *_READS, "getrange"), reads=(CARDS, ENTITY_SHARDS)
)

SERVICES: Final = (
    Principal("ingest", "ingest", reads=(RAW,), writes=(ACCEPTED, LATE, DLQ), group="ingest"),
    Principal("labels", "ingest", reads=(LABELS_RAW,), writes=(LABELS, DLQ), group="bank-labels"),
    Principal(
        "features-card",
        "features",
        reads=(ACCEPTED, DECISIONS, ALERTS),
        writes=(ENTITIES, DLQ, QUARANTINE),
        group="features-card",
        store=_CARD_STATES,
    ),
    Principal(
        "features-entity",
        "features",
        reads=(ENTITIES,),
        writes=(QUARANTINE,),
        # Whether a row claims more than its source has reached.
        describes=(ACCEPTED, LABELS),
        group="features-entity",
        store=_ENTITY_STATES,
    ),
    Principal(
        "features-label",
        "features",
        reads=(LABELS,),
        writes=(ENTITIES, QUARANTINE),
        group="features-label",
    ),
    Principal(
        "scoring",
        "scoring",
        reads=(RULES, STAND_INS),
        writes=(ACCEPTED, DECISIONS, STAND_INS, RESCORES, SHADOWED, ALERTS, QUARANTINE),
        describes=(ENTITIES,),
        group="scoring-rescore",
        store=_DECISION_RECORDS,
    ),
    Principal("console", "console", reads=(ALERTS,), writes=(LABELS, QUARANTINE), group="console"),
    Principal(
        "archive",
        "archive",
        reads=(ACCEPTED, DECISIONS, LABELS, SHADOWED),
        writes=(QUARANTINE,),
        group="archive",
    ),
)
"""What runs all the time."""

PEOPLE: Final = (
    # Publishes rules. A signature is needed besides.
    Principal("publisher", "command line", reads=(RULES,), writes=(RULES,)),
    # Corrects and replays dead letters, and looks into the quarantine.
    Principal("operator", "operator", reads=(DLQ, QUARANTINE), writes=(RAW, DLQ)),
    # Fills the store again while the line runs.
    Principal(
        "rebuilder",
        "operator",
        reads=(ACCEPTED, DECISIONS, ALERTS, ENTITIES),
        describes=(LABELS,),
        store=_ALL_STATES,
    ),
    # Makes training sets, certifies features, makes recorded decisions again.
    Principal(
        "trainer",
        "training",
        reads=(ACCEPTED, DECISIONS, LABELS, ENTITIES, RULES),
        store=_FEATURE_READS,
    ),
    # Makes and compares topics, and reads or writes none.
    Principal("administrator", "operator", operations=("Create", "Describe", "DescribeConfigs")),
    # A bank's sender; each bank has a user of its own with these rights.
    Principal("bank", "banks", writes=(RAW, LABELS_RAW)),
    # Whoever acts on decisions. It sees those of every bank of the deployment.
    Principal("decision-reader", "banks", reads=(DECISIONS, RESCORES, LATE)),
)
"""Commands of people, and the systems of banks."""

PRINCIPALS: Final = (*SERVICES, *PEOPLE)


def principal(name: str) -> Principal:
    """Return a principal by its name.

    >>> [topic.name for topic in principal("console").writes]
    ['labels.settled.v1', 'quarantine.v1']
    """
    return next(one for one in PRINCIPALS if one.name == name)


def writer_rooms(topic: Topic) -> set[str]:
    """Return the rooms whose principals write a topic.

    >>> sorted(writer_rooms(ACCEPTED))
    ['ingest', 'scoring']
    """
    return {one.room for one in PRINCIPALS if topic in one.writes}
