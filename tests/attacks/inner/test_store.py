"""Somebody with the features service's login at the store, who writes decisions there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import grpc.aio
import pytest
import redis.asyncio as redis

from fraudstream.store.shard import ShardRef
from fraudstream.topics import ACCEPTED, DECISIONS
from fraudstream.transaction.identity import digest_of, identity_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Action, Decision
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.transaction_pb2 import Transaction
from harness.servers import ValkeyServer
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.accepted_rows import decision_about
from tests.worlds.scoring_world import (
    ScoringWorld,
    batch_of,
    canonical,
    card_shard,
    feature_rows,
    scoring_world,
    some_transaction,
)
from tests.worlds.shard_line import eventually

pytestmark = pytest.mark.attack

_EVIL: Final = "EVIL"
Door = Callable[[ScoringWorld, Transaction], Awaitable[Decision]]


async def _by_grpc(world: ScoringWorld, transaction: Transaction) -> Decision:
    answer: Decision = await world.front.Score(ScoreRequest(transaction=transaction), timeout=20)
    return answer


async def _by_stream(world: ScoringWorld, transaction: Transaction) -> Decision:
    rows = feature_rows([transaction])
    (result,) = (
        await world.stream(batch_of(rows, _shard_of(world, transaction).partition))
    ).results
    assert result.WhichOneof("outcome") == "decision", result.error
    return result.decision


DOORS: Final = pytest.mark.parametrize("door", [_by_grpc, _by_stream])


def _shard_of(world: ScoringWorld, transaction: Transaction) -> ShardRef:
    return world.shard_of(transaction.card_token)


def _identity_of(transaction: Transaction) -> bytes:
    return identity_of(transaction.bank_id, transaction.card_token, transaction.transaction_id)


class Thief:
    """Writes to the store as the features service may."""

    def __init__(self, world: ScoringWorld, client: redis.Redis) -> None:
        self._world = world
        self._client = client

    def _key(self, transaction: Transaction) -> str:
        names = self._world.store.keys(_shard_of(self._world, transaction))
        return names.record(_identity_of(transaction))

    async def record_of(self, transaction: Transaction) -> bytes:
        """Return what is recorded of a transaction."""
        record = await self._client.get(self._key(transaction))
        assert isinstance(record, bytes)
        return record

    async def forge(self, transaction: Transaction, record: bytes) -> None:
        """Put a record where scoring looks for that of a transaction."""
        await self._client.set(self._key(transaction), record)

    async def put_out(self, transaction: Transaction) -> None:
        """Put a transaction into the outbox, as one that nobody has held for long."""
        outbox = self._world.store.keys(_shard_of(self._world, transaction)).outbox
        await self._client.zadd(outbox, {_identity_of(transaction): 1})

    async def is_out(self, transaction: Transaction) -> bool:
        """Return whether a transaction is in the outbox."""
        outbox = self._world.store.keys(_shard_of(self._world, transaction)).outbox
        return await self._client.zscore(outbox, _identity_of(transaction)) is not None


@pytest.fixture
async def world(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ScoringWorld]:
    """Scoring with the keys of its records, which the attacker lacks."""
    from fraudstream.broker.wire.record_keys import make_files

    make_files(tmp_path / "keys")
    tiny_artefact(tmp_path / "model")
    environment = {**topics, "FRAUD_KAFKA_RECORD_KEYS_DIR": str(tmp_path / "keys")}
    times: dict[str, Any] = {"sweep_every_ms": 100, "default_deadline_ms": 5_000}
    async with scoring_world(environment, tmp_path / "model", **times) as running:
        yield running


@pytest.fixture
async def thief(world: ScoringWorld, valkey: ValkeyServer) -> AsyncIterator[Thief]:
    """The attacker, who knows no key."""
    async with redis.from_url(valkey.url) as client:
        yield Thief(world, client)


def _evil_about(transaction: Transaction) -> bytes:
    """Return a decision in one's favour, as scoring would write it."""
    decision = decision_about(canonical(transaction), Action.ACTION_APPROVE, is_of_log=True)
    decision.model_hash = _EVIL
    return decision.SerializeToString()


async def _forged_records(
    thief: Thief, known: Transaction, wanted: Transaction
) -> dict[str, bytes]:
    """Return records of a transaction that scoring never wrote, by what they are."""
    from fraudstream.broker.wire.record_keys import KeyFile
    from services.scoring.shards.seal import Seal

    evil, digest, true = _evil_about(wanted), digest_of(wanted), await thief.record_of(known)
    sealed = Seal(KeyFile.new(), lambda: 0).sealed(_identity_of(wanted), digest, evil)
    return {
        "unsealed": digest + evil,
        "sealed by another key": digest + sealed,
        "with the seal of another": digest + evil + true[-21:],
        "copied, with its digest changed": digest + true[32:],
        "copied": true,
        "of another body": b"0" * 32 + evil,
        "junk": digest + b"\xff",
        "empty": b"",
    }


@DOORS
async def test_forged_record_is_no_answer(door: Door, world: ScoringWorld, thief: Thief) -> None:
    """The features service's login dictated decisions: scoring answered what it found there."""
    known = some_transaction(0)
    await door(world, known)
    names = list(await _forged_records(thief, known, known))

    for number, name in enumerate(names, start=1):
        wanted = some_transaction(number, card=number)
        await thief.forge(wanted, (await _forged_records(thief, known, wanted))[name])
        answer = await door(world, wanted)
        again = await door(world, wanted)

        assert (answer.transaction_id, answer.replayed) == (wanted.transaction_id, False), name
        assert answer.model_hash != _EVIL, name
        assert again.replayed, name
        again.ClearField("replayed")
        assert again == answer, name
    published = map(Decision.FromString, await world.log.read(DECISIONS, len(names) + 1))
    assert {one.transaction_id for one in published if one.model_hash != _EVIL} == {
        f"t-{number}" for number in range(len(names) + 1)
    }


async def test_forged_outbox_entry_is_not_published(world: ScoringWorld, thief: Thief) -> None:
    """A sweeper published whatever lay there; it leaves the outbox, and the honest one goes on."""
    known = some_transaction(0)
    await _by_grpc(world, known)
    names = list(await _forged_records(thief, known, known))
    forged = [some_transaction(number, card=number) for number in range(1, len(names) + 1)]
    for name, wanted in zip(names, forged, strict=True):
        await thief.forge(wanted, (await _forged_records(thief, known, wanted))[name])
        await thief.put_out(wanted)

    async def is_swept() -> bool:
        return not any([await thief.is_out(one) for one in forged])

    await eventually(is_swept)
    await _by_grpc(world, some_transaction(99))

    published = map(Decision.FromString, await world.log.read(DECISIONS, 2))
    assert {one.transaction_id for one in published} == {"t-0", "t-99"}


async def test_true_record_still_answers_and_still_conflicts(
    world: ScoringWorld, thief: Thief
) -> None:
    """What scoring sealed counts, and no caller is shown the seal."""
    first = await _by_grpc(world, some_transaction(1))
    again = await _by_grpc(world, some_transaction(1))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _by_grpc(world, some_transaction(1, amount_minor=999))

    (published,) = await world.log.read(DECISIONS, 1)
    assert (first.seal, again.seal, again.replayed) == (b"", b"", True)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert (await thief.record_of(some_transaction(1)))[32:] == published
    assert Decision.FromString(published).seal


async def test_row_brings_no_decision_that_scoring_did_not_seal(world: ScoringWorld) -> None:
    """The features service is believed about features, not about decisions."""
    await _by_grpc(world, some_transaction(1))
    (true,) = await world.log.read(ACCEPTED, 1)
    sealed, forged = feature_rows([some_transaction(2), some_transaction(3)])
    sealed.transaction.CopyFrom(AcceptedTransaction.FromString(true).transaction)
    sealed.digest = digest_of(sealed.transaction)
    sealed.carried_decision.CopyFrom(AcceptedTransaction.FromString(true).decision)
    forged.carried_decision.CopyFrom(decision_about(forged.transaction))
    forged.carried_decision.model_hash = _EVIL

    # In the shard of another card nothing is recorded of the first one.
    answers = (await world.stream(batch_of([sealed, forged], partition=_other(world)))).results

    assert answers[0].decision == AcceptedTransaction.FromString(true).decision
    assert answers[1].decision.model_hash not in {"", _EVIL}


def _other(world: ScoringWorld) -> int:
    own: Any = _shard_of(world, some_transaction(1)).partition
    return next(p for p in range(6) if card_shard(p).partition != own)
