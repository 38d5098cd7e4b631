"""A store or a broker that is there and does not answer: every call is answered all the same."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path

import grpc
import grpc.aio
import pytest

from fraudstream.topics import ACCEPTED
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision, StandInCause
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.transaction_pb2 import Transaction
from harness.servers import EmbeddedBroker, ValkeyServer
from tests.conftest import create_topics, environment_of_test
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import ScoringWorld, scoring_world, some_transaction

_DEADLINE_S = 1.0
# Half of it is the answer's way, on a machine that does much else.
_RESERVE_MS = 600
_CALLERS = 8
_KNOWN = range(24)
_FRESH = range(1_000, 1_400)

Answers = dict[int, Decision | grpc.StatusCode]


@cache
def transaction_of(number: int) -> Transaction:
    """Return a transaction, the same to the second whenever it is asked again."""
    return some_transaction(number, card=number)


@pytest.fixture
def mortal_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of this test's own, which it may stop."""
    (tmp_path / "broker").mkdir()
    server = EmbeddedBroker(tmp_path / "broker")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stalling_env(
    mortal_broker: EmbeddedBroker, mortal_valkey: ValkeyServer, tmp_path: Path
) -> Mapping[str, str]:
    """Variables of servers that this test may stop."""
    environment = environment_of_test(mortal_broker, mortal_valkey)
    create_topics(environment, tmp_path)
    tiny_artefact(tmp_path / "model")
    return environment


@contextmanager
def standing_still(*servers: EmbeddedBroker | ValkeyServer) -> Iterator[None]:
    """Stop servers as a host that hangs: connections stay, nobody answers."""
    for server in servers:
        server._process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            server._process.signal(signal.SIGCONT)


@asynccontextmanager
async def decided_world(
    environment: Mapping[str, str], folder: Path
) -> AsyncIterator[tuple[ScoringWorld, Answers]]:
    """Yield scoring, and what it answered to some transactions while all was well."""
    async with scoring_world(environment, folder / "model", reserve_ms=_RESERVE_MS) as world:
        await world.front.Score(ScoreRequest(transaction=transaction_of(9_999)), timeout=30)
        yield world, await ask(world, _KNOWN, timeout_s=30)


async def ask(world: ScoringWorld, numbers: Sequence[int], timeout_s: float) -> Answers:
    """Return the answer to each transaction, or the status of its call; some callers at once."""
    stub = world.front
    answers: Answers = {}

    async def call(own: Sequence[int]) -> None:
        for number in own:
            request = ScoreRequest(transaction=transaction_of(number))
            try:
                answers[number] = await stub.Score(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as exc:
                answers[number] = exc.code()

    await asyncio.gather(*(call(numbers[begin::_CALLERS]) for begin in range(_CALLERS)))
    return answers


def decisions_of(answers: Answers) -> dict[int, Decision]:
    """Return answers that are all decisions."""
    decided = {n: answer for n, answer in answers.items() if isinstance(answer, Decision)}
    refused = [answer for answer in answers.values() if not isinstance(answer, Decision)]
    assert refused == []
    return decided


def said(decision: Decision) -> tuple[int, float, str]:
    """Return what a caller acts upon."""
    return decision.action, decision.score, decision.model_hash


async def test_stalled_store_holds_no_answer_and_contradicts_none(
    stalling_env: Mapping[str, str], mortal_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Fresh rows get a stand-in that says `provisional`, repeats the decision that they had."""
    async with decided_world(stalling_env, tmp_path) as (world, first):
        with standing_still(mortal_valkey):
            stalled = decisions_of(await ask(world, [*_FRESH, *_KNOWN], _DEADLINE_S))

        for number, decision in decisions_of(first).items():
            assert said(stalled[number]) == said(decision)
            assert stalled[number].replayed
        for number in _FRESH:
            assert stalled[number].provisional
            assert stalled[number].stand_in
        rows = [AcceptedTransaction.FromString(v) for v in await world.log.read(ACCEPTED, 425)]
        carried = {row.decision.transaction_id for row in rows}
        assert {f"t-{number}" for number in _FRESH} <= carried
        assert not any(row.decision.provisional for row in rows), "only an answer says it"


async def test_store_that_answers_again_is_asked_again(
    stalling_env: Mapping[str, str], mortal_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """After a stall decisions are the model's and recorded, without a restart."""
    async with decided_world(stalling_env, tmp_path) as (world, _):
        with standing_still(mortal_valkey):
            await ask(world, _FRESH[:20], _DEADLINE_S)
        number = 5_000
        async with asyncio.timeout(30):
            while decisions_of(await ask(world, [number], 10))[number].provisional:
                number += 1

        (again,) = decisions_of(await ask(world, [number], 10)).values()

    assert again.replayed
    assert again.stand_in_cause == StandInCause.STAND_IN_CAUSE_UNSPECIFIED


async def test_stalled_broker_holds_no_answer(
    stalling_env: Mapping[str, str], mortal_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """The store has each decision, so the answers are final and repeats are the same."""
    async with decided_world(stalling_env, tmp_path) as (world, _):
        with standing_still(mortal_broker):
            stalled = decisions_of(await ask(world, _FRESH, _DEADLINE_S))
            again = decisions_of(await ask(world, _FRESH, _DEADLINE_S))

    assert not any(decision.provisional for decision in stalled.values())
    assert {n: said(d) for n, d in again.items()} == {n: said(d) for n, d in stalled.items()}


async def test_acknowledged_answers_say_so_when_the_broker_stalls(
    stalling_env: Mapping[str, str], mortal_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """Who asked for Kafka's word before the answer is told inside the deadline that it is out."""
    async with scoring_world(
        stalling_env, tmp_path / "model", answer_after="ack", reserve_ms=_RESERVE_MS
    ) as world:
        await world.front.Score(ScoreRequest(transaction=transaction_of(9_999)), timeout=30)
        with standing_still(mortal_broker):
            stalled = decisions_of(await ask(world, _FRESH[:24], _DEADLINE_S))

    assert all(decision.provisional for decision in stalled.values())


async def test_store_and_broker_stalled_is_an_answer_or_unavailable(
    stalling_env: Mapping[str, str],
    mortal_broker: EmbeddedBroker,
    mortal_valkey: ValkeyServer,
    tmp_path: Path,
) -> None:
    """With both away no call is left alone: repeats are known, fresh ones say `provisional`."""
    async with decided_world(stalling_env, tmp_path) as (world, first):
        with standing_still(mortal_broker, mortal_valkey):
            stalled = await ask(world, [*_FRESH[:24], *_KNOWN], _DEADLINE_S)

    for number, decision in decisions_of(first).items():
        answer = stalled[number]
        assert isinstance(answer, Decision)
        assert said(answer) == said(decision)
    for number in _FRESH[:24]:
        answer = stalled[number]
        assert answer is grpc.StatusCode.UNAVAILABLE or (
            isinstance(answer, Decision) and answer.provisional
        )
