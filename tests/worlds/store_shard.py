"""A shard of the store as the tests of its scripts use it: names, rows, and short ways to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import SecretStr

from fraudstream.errors import FraudStreamError
from fraudstream.settings import RedisSettings
from fraudstream.store.shard import (
    DoorAnswer,
    DoorRow,
    RecordAnswer,
    RecordOutcome,
    RecordRow,
    Role,
    ShardRef,
    pack_claim,
)
from fraudstream.store.shard_store import ShardWrite, StateStore, StoredValue
from fraudstream.topics import incarnation_of

SHARD: Final = ShardRef(Role.CARD, 3, incarnation_of(bytes(16), 6))
CARD: Final = "bank.k1.card"
X, Y, Z = (bytes([number] * 16) for number in (1, 2, 3))
D1, D2 = b"1" * 32, b"2" * 32
NOW_MS: Final = 1_700_000_000_000


def store_settings(environment: Mapping[str, str], **more: float) -> RedisSettings:
    """Return the store of a test, with a patient time-out unless told another."""
    return RedisSettings(
        url=SecretStr(environment["FRAUD_REDIS_URL"]),
        key_prefix=environment["FRAUD_REDIS_KEY_PREFIX"],
        is_cluster=environment.get("FRAUD_REDIS_IS_CLUSTER") == "true",
        timeout_s=more.get("timeout_s", 5.0),
    )


def decision_row(
    identity: bytes, digest: bytes, offset: int | None, value: bytes = b"D"
) -> RecordRow:
    """Return a decision to record."""
    return RecordRow(identity, digest, value, offset)


async def record(
    store: StateStore, shard: ShardRef, rows: Sequence[RecordRow]
) -> list[RecordAnswer]:
    """Record decisions of one shard; its error is raised."""
    (answers,) = await store.record_decisions([(shard, rows)])
    if isinstance(answers, FraudStreamError):
        raise answers
    return answers


async def admit(store: StateStore, shard: ShardRef, rows: Sequence[DoorRow]) -> list[DoorAnswer]:
    """Admit transactions of one shard; its error is raised."""
    (answers,) = await store.admit([(shard, rows)])
    if isinstance(answers, FraudStreamError):
        raise answers
    return answers


async def record_row(store: StateStore, row: RecordRow) -> tuple[RecordOutcome, bytes]:
    """Record one decision; return what became of it."""
    answer = (await record(store, SHARD, [row]))[0]
    return answer.outcome, answer.value


async def write_claim(store: StateStore, identity: bytes, digest: bytes, begin: int) -> None:
    """Write a state write of one row: its claim, and `next` one further."""
    key = store.keys(SHARD).claim(identity)
    write = ShardWrite(
        begin,
        begin + 1,
        [StoredValue(key, pack_claim(digest, begin), 60)],
        cards=[CARD],
        finished=[identity + digest],
    )
    await store.write_shard(SHARD, write)


async def next_offset(store: StateStore) -> int:
    """Return where the shard stands."""
    marker = await store.marker(SHARD)
    assert marker is not None
    return marker.next_offset


def door_row(identity: bytes, digest: bytes = D1, row: bytes = b"row") -> DoorRow:
    """Return a transaction at the gRPC door."""
    return DoorRow(identity, digest, CARD, row)


async def pending_of(store: StateStore, identity: bytes = b"p" * 16) -> list[bytes]:
    """Return the identities that a further transaction of the card finds pending."""
    answer = (await admit(store, SHARD, [door_row(identity)]))[0]
    await store.refuse(SHARD, CARD, identity)
    return [entry.identity for entry in answer.pending]
