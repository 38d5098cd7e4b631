"""The authorisation path over a real store and a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.topics import ACCEPTED, DECISIONS, partition_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Action, Decision, StandInCause
from fraudstream.v1.scoring_pb2 import ScoreBatchRequest, ScoreRequest
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import (
    PARTITIONS,
    ScoringWorld,
    batch_of,
    canonical,
    card_token,
    feature_rows,
    scoring_world,
    some_transaction,
)


@pytest.fixture
async def world(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ScoringWorld]:
    """Scoring with the tiny model."""
    tiny_artefact(tmp_path / "model")
    async with scoring_world(topics, tmp_path / "model") as running:
        yield running


async def test_call_is_decided_and_reaches_the_log(world: ScoringWorld) -> None:
    """What came by gRPC is in the accepted topic with its decision, and that is published."""
    transaction = some_transaction(1)

    decision = await world.front.Score(ScoreRequest(transaction=transaction), timeout=10)

    assert decision.transaction_id == "t-1"
    assert not decision.stand_in
    assert decision.reasons
    assert not decision.vector, "the model's inputs stay in the log"
    (published,) = [Decision.FromString(v) for v in await world.log.read(DECISIONS, 1)]
    (accepted,) = [AcceptedTransaction.FromString(v) for v in await world.log.read(ACCEPTED, 1)]
    assert published.decision_id == decision.decision_id
    assert accepted.decision == published
    assert accepted.transaction.amount_reference_minor == transaction.amount_minor


async def test_repeat_gets_the_same_decision_marked_replayed(world: ScoringWorld) -> None:
    """The same transaction again is answered with what was recorded."""
    request = ScoreRequest(transaction=some_transaction(1))
    first = await world.front.Score(request, timeout=10)

    again = await world.front.Score(request, timeout=10)

    assert again.replayed
    again.replayed = False
    assert again == first


async def test_known_id_with_another_amount_is_already_exists(world: ScoringWorld) -> None:
    """A changed body under a known id is refused, not decided."""
    await world.front.Score(ScoreRequest(transaction=some_transaction(1)), timeout=10)

    changed = ScoreRequest(transaction=some_transaction(1, amount_minor=5))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await world.front.Score(changed, timeout=10)

    assert failed.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_both_doors_give_one_decision(world: ScoringWorld) -> None:
    """The stream's later copy of a transaction gets the decision that its caller was given."""
    transaction = some_transaction(1)
    decided = await world.front.Score(ScoreRequest(transaction=transaction), timeout=10)
    partition = partition_of(card_token(1).encode(), PARTITIONS)

    (same,) = (await world.stream(batch_of(feature_rows([transaction]), partition))).results
    changed = some_transaction(1, amount_minor=7)
    (other,) = (await world.stream(batch_of(feature_rows([changed]), partition))).results

    assert same.decision.decision_id == decided.decision_id
    assert same.decision.score == decided.score
    assert same.decision.replayed
    assert other.error.code == grpc.StatusCode.ALREADY_EXISTS.value[0]


async def test_burst_of_one_card_sees_itself(world: ScoringWorld) -> None:
    """Authorisations that are faster than the stream count each other, in the list's order."""
    stub = world.front
    calls = [
        stub.Score(ScoreRequest(transaction=some_transaction(n)), timeout=10) for n in range(12)
    ]

    await asyncio.gather(*calls)

    decisions = [Decision.FromString(v) for v in await world.log.read(DECISIONS, 12)]
    column = FEATURE_NAMES.index("card_count_1h")
    counts = [int(np.frombuffer(d.vector, "<f4")[column]) for d in decisions]
    assert sorted(counts) == list(range(1, 13))
    assert sorted(len(d.freshness.pending_identities) for d in decisions) == list(range(12))


async def test_bad_rows_of_a_batch_fail_alone(world: ScoringWorld) -> None:
    """A batch is answered row by row: decisions, and the reason of each bad row."""
    bad = some_transaction(2)
    bad.amount_minor = -1
    good = [some_transaction(1), some_transaction(3, card=9)]

    request = ScoreBatchRequest(transactions=[good[0], bad, good[1]])
    results = (await world.front.ScoreBatch(request, timeout=10)).results

    assert [r.WhichOneof("outcome") for r in results] == ["decision", "error", "decision"]
    assert results[1].error.reason == "AMOUNT_SIGN"
    assert results[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_stream_answers_in_the_order_of_its_requests(world: ScoringWorld) -> None:
    """Results of a bidirectional stream come in order, errors among them."""
    numbers = list(range(150))

    async def send() -> AsyncIterator[ScoreRequest]:
        for number in numbers:
            transaction = some_transaction(number, card=number % 7)
            if number == 40:
                transaction.currency = "XXX?"
            yield ScoreRequest(transaction=transaction)

    results = [result async for result in world.front.ScoreStream(send(), timeout=30)]

    assert len(results) == 150
    assert results[40].error.reason == "CURRENCY"
    answered = [r.decision.transaction_id for r in results if r.HasField("decision")]
    assert answered == [f"t-{n}" for n in numbers if n != 40]


async def test_too_little_time_gives_a_stand_in_inside_the_deadline(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """With no time for the model the answer is a recorded review that says so."""
    tiny_artefact(tmp_path / "model")
    async with scoring_world(topics, tmp_path / "model", reserve_ms=1_000) as world:
        request = ScoreRequest(transaction=some_transaction(1))

        decision = await world.front.Score(request, timeout=10)

        assert decision.stand_in_cause == StandInCause.STAND_IN_CAUSE_DEADLINE
        assert decision.action == Action.ACTION_REVIEW
        assert (await world.front.Score(request, timeout=10)).replayed


async def test_deadline_over_on_arrival_begins_no_work(world: ScoringWorld) -> None:
    """A call with no time left is DEADLINE_EXCEEDED, and nothing is recorded."""
    request = ScoreRequest(transaction=some_transaction(1))

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await world.front.Score(request, timeout=0.0005)

    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not (await world.front.Score(request, timeout=10)).replayed


async def test_closed_shard_gives_a_provisional_stand_in_that_the_log_has(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """With no open shard the accepted row that carries the decision is in the log on answer."""
    tiny_artefact(tmp_path / "model")
    async with scoring_world(topics, tmp_path / "model", is_open=False) as world:
        decision = await world.front.Score(
            ScoreRequest(transaction=some_transaction(1)), timeout=10
        )

        assert decision.stand_in_cause == StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE
        (accepted,) = await world.log.read(ACCEPTED, 1)
        carried = AcceptedTransaction.FromString(accepted)
        assert carried.decision.decision_id == decision.decision_id
        assert carried.transaction.card_token == canonical(some_transaction(1)).card_token
        assert not await world.log.read(DECISIONS, 1, timeout_s=0.5)


async def test_answer_after_ack_means_the_log_has_it(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """With `answer_after=ack` the outbox is empty when the caller is answered.

    An approval: an alert may wait in the outbox for its measured reasons.
    """
    tiny_artefact(tmp_path / "model", thresholds=(0.997, 0.998, 0.999))
    async with scoring_world(topics, tmp_path / "model", answer_after="ack") as world:
        decision = await world.front.Score(
            ScoreRequest(transaction=some_transaction(1)), timeout=10
        )

        assert decision.action == Action.ACTION_APPROVE
        identity = bytes.fromhex(decision.decision_id)
        shard = world.shard_of(decision.card_token)
        assert not await world.store.outbox_identities(shard, [identity])


async def test_pan_is_refused_without_token_keys(world: ScoringWorld) -> None:
    """A door without keys takes card tokens only, and says so without the number."""
    transaction = some_transaction(1)
    transaction.pan = "4" + "1" * 15

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await world.front.Score(ScoreRequest(transaction=transaction), timeout=10)

    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "1111" not in str(failed.value.details())


async def test_known_rows_of_a_late_batch_keep_their_answers(world: ScoringWorld) -> None:
    """Wherever a deadline falls in a round, a repeat has its decision or says that it may not."""
    stub = world.front
    known = ScoreBatchRequest(transactions=[some_transaction(number) for number in range(8)])
    first = (await stub.ScoreBatch(known, timeout=10)).results
    expected = [(row.decision.action, row.decision.score) for row in first]

    for wave in range(60):
        fresh = [some_transaction(n, card=n) for n in range(100 + 40 * wave, 140 + 40 * wave)]
        load = stub.ScoreBatch(ScoreBatchRequest(transactions=fresh), timeout=10)
        repeats = [stub.ScoreBatch(known, timeout=0.011 + wave / 2_000) for _ in range(2)]

        for repeat in repeats:
            try:
                results = (await repeat).results
            except grpc.aio.AioRpcError as exc:
                if exc.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
                continue
            assert len(results) == len(expected)
            for row, (action, score) in zip(results, expected, strict=True):
                same = (row.decision.action, row.decision.score) == (action, score)
                assert same or row.decision.provisional
        await load
