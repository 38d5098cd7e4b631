"""The features service's door over a real store and a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import grpc
import grpc.aio
import pytest

from fraudstream.store.shard_store import ShardWrite
from fraudstream.topics import ALERTS, DECISIONS
from fraudstream.transaction.actions import needs_person
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Action, Decision
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.accepted_rows import decision_about
from tests.worlds.scoring_world import (
    ScoringWorld,
    batch_of,
    card_shard,
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


async def test_batch_is_decided_recorded_published_and_settled(world: ScoringWorld) -> None:
    """An answered row is in the log, with its alert where one is due; the outbox is empty."""
    transactions = [some_transaction(number, card=number) for number in range(100)]

    response = await world.stream(batch_of(feature_rows(transactions)))

    decisions = [result.decision for result in response.results]
    assert [d.transaction_id for d in decisions] == [t.transaction_id for t in transactions]
    assert {d.action for d in decisions} >= {Action.ACTION_APPROVE, Action.ACTION_DECLINE}
    published = [Decision.FromString(v) for v in await world.log.read(DECISIONS, 100)]
    assert sorted(d.decision_id for d in published) == sorted(d.decision_id for d in decisions)
    asked = sorted(d.decision_id for d in decisions if needs_person(d))
    alerts = [Alert.FromString(v) for v in await world.log.read(ALERTS, len(asked))]
    assert sorted(a.decision.decision_id for a in alerts) == asked
    identities = [bytes.fromhex(d.decision_id) for d in decisions]
    assert not await world.store.outbox_identities(card_shard(0), identities)


async def test_decision_says_what_it_was_made_from(world: ScoringWorld) -> None:
    """Model, features, log coordinates, digest, bucket, timings and reasons are in the record."""
    rows = feature_rows([some_transaction(1)], from_offset=7)
    rows[0].feed = "north"

    (result,) = (await world.stream(batch_of(rows))).results

    decision = result.decision
    assert decision.model_hash
    assert decision.engine_version.startswith("onnxruntime-")
    assert decision.cpu_class
    assert decision.coordinates.offset == 7
    assert decision.asked_by == "feed:north"
    assert decision.digest == rows[0].digest
    assert decision.vector == rows[0].vector
    assert decision.batch_bucket == 1
    assert decision.timings.engine_ended_us >= decision.timings.engine_started_us > 0
    assert decision.reasons
    assert not decision.stand_in


async def test_same_rows_again_get_the_same_decisions_marked_replayed(world: ScoringWorld) -> None:
    """A replay of a batch gets what was recorded first, and publishes nothing twice."""
    request = batch_of(feature_rows([some_transaction(n, card=n) for n in range(10)]))
    first = [result.decision for result in (await world.stream(request)).results]

    again = [result.decision for result in (await world.stream(request)).results]

    assert all(decision.replayed for decision in again)
    for decision in again:
        decision.replayed = False
    assert again == first
    assert len(await world.log.read(DECISIONS, 11, timeout_s=1.5)) == 10


async def test_conflict_fails_alone_in_its_batch(world: ScoringWorld) -> None:
    """A known id with another amount is ALREADY_EXISTS in its row; the others are decided."""
    await world.stream(batch_of(feature_rows([some_transaction(1)])))
    changed = some_transaction(1, amount_minor=999)

    rows = feature_rows([some_transaction(2), changed, some_transaction(3)], from_offset=1)
    response = await world.stream(batch_of(rows))

    outcomes = [result.WhichOneof("outcome") for result in response.results]
    assert outcomes == ["decision", "error", "decision"]
    assert response.results[1].error.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
    assert response.results[1].error.reason == "ID_CONFLICT"


async def test_carried_decision_is_recorded_instead_of_a_new_one(world: ScoringWorld) -> None:
    """A row that came by gRPC keeps the decision that its caller was given."""
    (row,) = feature_rows([some_transaction(1)])
    carried = decision_about(row.transaction, Action.ACTION_DECLINE)
    row.carried_decision.CopyFrom(carried)

    (result,) = (await world.stream(batch_of([row]))).results

    assert result.decision == carried
    assert [Decision.FromString(v) for v in await world.log.read(DECISIONS, 1)] == [carried]


async def test_closed_shard_records_nothing(world: ScoringWorld) -> None:
    """Rows read under another generation are refused as a whole."""
    request = batch_of(feature_rows([some_transaction(1)]), generation="g0")

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await world.stream(request)

    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert not await world.log.read(DECISIONS, 1, timeout_s=0.5)


async def test_missing_feature_is_named(world: ScoringWorld) -> None:
    """Vectors without a feature that the model needs are refused with its name."""
    request = batch_of(feature_rows([some_transaction(1)]))
    del request.feature_hashes[0]
    request.rows[0].vector = request.rows[0].vector[4:]

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await world.stream(request)

    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "amount" in str(failed.value.details())


async def test_rows_below_next_are_refused(world: ScoringWorld) -> None:
    """A batch that another worker has applied already is ABORTED, and nothing is recorded."""
    await world.store.open_shard(card_shard(0), 0)
    await world.store.write_shard(card_shard(0), ShardWrite(from_offset=0, to_offset=5))

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await world.stream(batch_of(feature_rows([some_transaction(1)], from_offset=4)))

    assert failed.value.code() is grpc.StatusCode.ABORTED


async def test_without_a_model_every_decision_is_a_stand_in(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """Never without an answer: review, marked with its cause, recorded and published."""
    async with scoring_world(topics, None) as world:
        (result,) = (await world.stream(batch_of(feature_rows([some_transaction(1)])))).results

        assert result.decision.stand_in
        assert result.decision.degraded
        assert result.decision.action == Action.ACTION_REVIEW
        assert result.decision.reasons[0].code == "STAND_IN_MODEL_NOT_LOADED"
        assert len(await world.log.read(ALERTS, 1)) == 1
