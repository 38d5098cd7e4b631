"""Reasons over a real store and a real broker: at once, or on the alert that follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.store.shard import RecordRow
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.topics import ALERTS
from fraudstream.transaction.actions import needs_person
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Action, Decision
from services.scoring.inference.batcher import Batcher
from services.scoring.inference.line_up import LineUp, LineUpJudge
from services.scoring.publishing.alert import read_sequence
from services.scoring.publishing.alert_backlog import AlertBacklog
from services.scoring.publishing.publisher import outgoing_of
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import (
    ScoringWorld,
    batch_of,
    card_shard,
    feature_rows,
    scoring_world,
    some_transaction,
)

ROWS = 1_000


@pytest.fixture
async def world(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ScoringWorld]:
    """Scoring with the tiny model."""
    tiny_artefact(tmp_path / "model")
    async with scoring_world(topics, tmp_path / "model") as running:
        yield running


async def alerts_of(world: ScoringWorld, decisions: list[Decision]) -> dict[str, Alert]:
    """Return the alerts of decisions, by decision, once all are there."""
    asked = [decision for decision in decisions if needs_person(decision)]
    found = [Alert.FromString(value) for value in await world.log.read(ALERTS, len(asked))]
    return {alert.decision.decision_id: alert for alert in found}


async def test_idle_engine_measures_what_a_person_looks_at(world: ScoringWorld) -> None:
    """A review or decline has measured reasons and the card's past; a challenge is estimated."""
    transactions = [some_transaction(number, card=number) for number in range(100)]

    response = await world.stream(batch_of(feature_rows(transactions)))

    decisions = [result.decision for result in response.results]
    by_action = {decision.action: decision for decision in decisions}
    assert by_action[Action.ACTION_CHALLENGE].reasons_estimated
    for decision in decisions:
        if needs_person(decision):
            assert not decision.reasons_estimated
            assert decision.reasons
            assert bool(decision.past) == (len(read_sequence(decision)) > 1)
    alerts = await alerts_of(world, decisions)
    for decision in filter(needs_person, decisions):
        alert = alerts[decision.decision_id]
        assert list(alert.decision.reasons) == list(decision.reasons)
        assert list(alert.decision.past) == list(decision.past)


async def test_busy_engine_answers_at_once_and_reasons_follow_on_the_alert(
    world: ScoringWorld,
) -> None:
    """Under load a row is decided with estimated reasons; its alert has measured ones."""
    requests = [
        batch_of(
            feature_rows(
                [some_transaction(number, card=number) for number in range(first, first + ROWS)]
            ),
            partition,
        )
        for partition, first in enumerate(range(0, 3 * ROWS, ROWS))
    ]

    responses = await asyncio.gather(*(world.stream(request) for request in requests))

    decisions = [result.decision for response in responses for result in response.results]
    quick = [each for each in decisions if needs_person(each) and each.reasons_estimated]
    assert quick, "the load was too small for this test"
    assert all(decision.reasons and not decision.past for decision in quick)
    alerts = await alerts_of(world, decisions)
    for decision in quick:
        measured = alerts[decision.decision_id].decision
        assert not measured.reasons_estimated
        assert bool(measured.past) == (len(read_sequence(decision)) > 1)
        assert measured.reasons
        assert (measured.score, measured.action) == (decision.score, decision.action)
    async with asyncio.timeout(20):
        for partition in range(3):
            identities = [bytes.fromhex(decision.decision_id) for decision in quick]
            while await world.store.outbox_identities(card_shard(partition), identities):
                await world.store.marker(card_shard(partition))


class FakeProducer:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.has_some = asyncio.Event()

    async def send(self, topic: str, records: object) -> None:
        """Keep the records' values."""
        self.sent += [record.value for record in records]  # type: ignore[attr-defined]  # OutRecord
        self.has_some.set()


async def test_scorer_without_the_model_sends_the_alert_with_the_reasons_it_has(
    world: ScoringWorld,
) -> None:
    """Who sweeps another's outbox may serve another model: the alert goes out all the same."""
    (row,) = feature_rows([some_transaction(1)])
    decision = Decision(
        decision_id="ab" * 16,
        card_token=row.transaction.card_token,
        action=Action.ACTION_REVIEW,
        reasons_estimated=True,
    )
    stored = RecordRow(bytes.fromhex("ab" * 16), row.digest, decision.SerializeToString(), 0)
    outgoing = outgoing_of(decision, stored, TraceContext("ab" * 16, "ab" * 8, is_sampled=False))
    assert outgoing.is_late
    producer = FakeProducer()
    no_model = LineUpJudge(Batcher(epoch_us), LineUp())
    backlog = AlertBacklog(producer, world.store, world.settings.kafka, no_model, epoch_ms)

    backlog.add(card_shard(0), [outgoing])
    backlog.add(card_shard(0), [outgoing])  # as the sweep does while it waits
    work = asyncio.create_task(backlog.work_forever())
    async with asyncio.timeout(5):
        await producer.has_some.wait()
    work.cancel()

    (value,) = producer.sent
    assert Alert.FromString(value).decision.reasons_estimated
