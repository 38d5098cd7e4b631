"""Batches and streams at their limits: each row has its own answer, a slow reader its own delay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from fraudstream.client import ScoringClient
from fraudstream.errors import InvalidTransaction, LateTransaction
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import ScoreBatchRequest, ScoreRequest
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.api.methods import STREAM_WINDOW
from services.scoring.rpc.messages import MAX_ROWS
from tests.worlds.scoring_world import ScoringWorld, scoring_world, some_transaction

# 256 KiB of rows of 130 bytes wait to be read by the service, and as many bytes of answers of 600
# to be read by the client; and as much again.
MOST_SENT = 2 * (STREAM_WINDOW + 256 * 1024 // 130 + 256 * 1024 // 600)


@pytest.fixture
async def world(topics: Mapping[str, str]) -> AsyncIterator[ScoringWorld]:
    """Scoring without a model: every row costs little."""
    async with scoring_world(topics, None, default_deadline_ms=20_000) as running:
        yield running


async def test_largest_batch_has_an_answer_for_each_row(world: ScoringWorld) -> None:
    """1,024 rows, some of them bad in different ways: as many results, each in its place."""
    rows = [some_transaction(number, card=number) for number in range(MAX_ROWS)]
    rows[0].amount_minor = -1
    rows[500].event_time_ms -= 3 * 86_400_000
    rows[MAX_ROWS - 1].currency = "???"

    response = await world.front.ScoreBatch(ScoreBatchRequest(transactions=rows), timeout=60)

    failed = {n: r.error.reason for n, r in enumerate(response.results) if r.HasField("error")}
    assert len(response.results) == MAX_ROWS
    assert failed == {0: "AMOUNT_SIGN", 500: "LateTransaction", MAX_ROWS - 1: "CURRENCY"}
    ids = [r.decision.transaction_id for r in response.results if r.HasField("decision")]
    assert ids == [f"t-{n}" for n in range(MAX_ROWS) if n not in failed]


async def test_client_tells_bad_rows_of_a_batch_apart(world: ScoringWorld) -> None:
    """The errors of rows are the errors of calls."""
    late, bad = some_transaction(1), some_transaction(2)
    late.event_time_ms -= 3 * 86_400_000
    bad.mcc = "1"
    async with ScoringClient(f"127.0.0.1:{world.service.ports[0]}", timeout_s=10) as client:
        answers = await client.score_batch([late, bad, some_transaction(3)])

    assert [type(answer) for answer in answers] == [LateTransaction, InvalidTransaction, Decision]


async def test_caller_who_does_not_read_holds_back_its_own_stream_alone(
    world: ScoringWorld,
) -> None:
    """It can send no more than the windows hold, the others are served, and its rows then come."""
    sent = 0

    async def send() -> AsyncIterator[Transaction]:
        nonlocal sent
        while True:
            yield some_transaction(sent, card=sent)
            sent += 1

    address = f"127.0.0.1:{world.service.ports[0]}"
    async with ScoringClient(address, timeout_s=20) as deaf, ScoringClient(address, 20) as other:
        stream = deaf.score_stream(send())
        answers = [await anext(stream)]
        before, number = -1, 1_000_000
        while sent != before and sent < MOST_SENT:  # until it stands still while others are served
            before = sent
            others = [some_transaction(number + n, card=number + n) for n in range(100)]
            assert all(isinstance(a, Decision) for a in await other.score_batch(others, 10))
            number += 100
        stuck_at = sent
        answers += [await anext(stream) for _ in range(stuck_at)]
        await stream.aclose()

    assert stuck_at < MOST_SENT
    ids = [a.transaction_id if isinstance(a, Decision) else str(a) for a in answers]
    assert ids == [f"t-{n}" for n in range(stuck_at + 1)]


async def test_cancelled_stream_leaves_the_door_open(world: ScoringWorld) -> None:
    """Rows that were on their way when their caller left hold nothing back."""

    async def send() -> AsyncIterator[ScoreRequest]:
        for number in range(500):
            yield ScoreRequest(transaction=some_transaction(number, card=number))

    for _ in range(20):
        call = world.front.ScoreStream(send(), timeout=30)
        await call.read()
        call.cancel()

    decision = await world.front.Score(
        ScoreRequest(transaction=some_transaction(9_999)), timeout=10
    )
    assert decision.transaction_id == "t-9999"
