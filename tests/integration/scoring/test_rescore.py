"""Stand-in decisions are scored once a model answers, over a real store and a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ALERTS, RESCORES, STAND_INS
from fraudstream.transaction.identity import alert_id_of, decision_id_of, identity_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Action, Decision, StandInCause
from fraudstream.v1.rescore_pb2 import Rescore
from fraudstream.v1.scoring_pb2 import FeatureRow
from services.scoring.background.rescorer import Rescorer
from services.scoring.decision.feature_arrays import FeatureArrays
from services.scoring.decision.verdict import Judged, Verdict, stand_in
from services.scoring.reasons.texts import FITS
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.accepted_rows import decision_about
from tests.worlds.door_parts import maker_of
from tests.worlds.scoring_world import (
    Log,
    batch_of,
    feature_rows,
    kafka_settings,
    scoring_world,
    some_transaction,
)

ROWS = 40


def some_rows(first: int) -> list[FeatureRow]:
    """Return rows of different transactions with the same features in the same order."""
    numbers = range(first, first + ROWS)
    return feature_rows([some_transaction(number, card=number) for number in numbers], first)


async def stand_ins_of(
    environment: Mapping[str, str], rows: Sequence[FeatureRow]
) -> list[Decision]:
    """Return the decisions of rows while no model is there."""
    async with scoring_world(environment, None) as world:
        return [result.decision for result in (await world.stream(batch_of(rows))).results]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny model's folder."""
    tiny_artefact(tmp_path / "model")
    return tmp_path / "model"


async def test_model_scores_what_stand_ins_decided(topics: Mapping[str, str], model: Path) -> None:
    """Each gets the score that its features have; the action stays, a difference is an alert."""
    decided = await stand_ins_of(topics, some_rows(0))

    async with scoring_world(topics, model) as world:
        rescores = [Rescore.FromString(v) for v in await world.log.read(RESCORES, ROWS)]
        fresh = await world.stream(batch_of(some_rows(ROWS)))
        differing = [each for each in rescores if each.action != each.decided_action]
        alerts = [Alert.FromString(v) for v in await world.log.read(ALERTS, ROWS + len(differing))]

    expected = [result.decision.score for result in fresh.results]
    assert all(decision.stand_in for decision in decided)
    by_id = {rescore.decision_id: rescore for rescore in rescores}
    assert len(by_id) == ROWS
    found = [by_id[decision.decision_id] for decision in decided]
    assert [rescore.score for rescore in found] == pytest.approx(expected, abs=1e-6)
    assert {each.stand_in_cause for each in found} == {StandInCause.STAND_IN_CAUSE_MODEL_NOT_LOADED}
    assert [each.decided_action for each in found] == [decision.action for decision in decided]
    assert all(each.reasons and each.model_hash for each in found)
    rescored = {alert.decision.decision_id: alert for alert in alerts if alert.HasField("rescore")}
    assert rescored.keys() == {each.decision_id for each in differing}
    assert 0 < len(rescored) < ROWS
    for decision_id, alert in rescored.items():
        assert alert.alert_id == alert_id_of(bytes.fromhex(decision_id))  # type: ignore[arg-type]
        assert alert.decision.stand_in
        assert alert.rescore.score == by_id[decision_id].score


async def test_stand_in_of_a_caller_is_scored_with_the_features_of_the_log(
    topics: Mapping[str, str], model: Path
) -> None:
    """The gRPC door had no features; the row that carries its decision has them."""
    (row,) = some_rows(0)[:1]
    spent = row.transaction
    identity = identity_of(spent.bank_id, spent.card_token, spent.transaction_id)
    carried = decision_about(spent)
    carried.score = carried.raw_score = 0.0
    carried.stand_in, carried.degraded = True, True
    carried.stand_in_cause = StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE
    row.carried_decision.CopyFrom(carried)
    async with scoring_world(topics, model) as world:
        await world.stream(batch_of([row]))

        (value,) = await world.log.read(RESCORES, 1)

    rescore = Rescore.FromString(value)
    assert rescore.decision_id == decision_id_of(identity)
    assert rescore.decided_action == Action.ACTION_APPROVE
    assert 0 < rescore.score < 1


async def test_record_that_is_none_does_not_stop_the_others(
    topics: Mapping[str, str], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Junk is named by its coordinates and passed over."""
    kafka = kafka_settings(topics)
    producer = BatchProducer(kafka)
    await producer.start()
    await producer.send(kafka.topic(STAND_INS), [OutRecord(b"card", b"\xff\xffjunk", 0)])
    await producer.stop()
    await stand_ins_of(topics, some_rows(0))

    async with scoring_world(topics, model):
        found = await Log(kafka).read(RESCORES, ROWS)

    assert len(found) == ROWS
    assert f"{STAND_INS.name}, partition 0, offset 0 is passed over" in caplog.text


async def test_nothing_is_lost_while_no_model_answers(
    topics: Mapping[str, str], model: Path
) -> None:
    """Two scorers without a model come and go; the third has one."""
    await stand_ins_of(topics, some_rows(0))
    await stand_ins_of(topics, some_rows(ROWS))

    async with scoring_world(topics, model) as world:
        found = await world.log.read(RESCORES, 2 * ROWS)

    assert len({Rescore.FromString(value).decision_id for value in found}) == 2 * ROWS


class FailingJudge:
    """A model that gives no score some times, and then the same score for all."""

    has_model = True

    def __init__(self, failures: int) -> None:
        self.left = failures

    async def judge(self, arrays: FeatureArrays, *_: object) -> Judged:
        """Return one verdict a row."""
        self.left -= 1
        good = Verdict(Action.ACTION_APPROVE, 0.25, 0.25, FITS)
        verdict = stand_in(StandInCause.STAND_IN_CAUSE_MODEL_FAILED) if self.left >= 0 else good
        return Judged([verdict] * len(arrays.vectors))


async def test_model_that_fails_is_asked_again(topics: Mapping[str, str]) -> None:
    """Without a score nothing is committed; the rows come again until there is one."""
    await stand_ins_of(topics, some_rows(0))
    kafka = kafka_settings(topics)
    producer, judge = BatchProducer(kafka), FailingJudge(3)
    await producer.start()
    rescorer = Rescorer(maker_of(judge), producer, kafka, epoch_ms)
    working = asyncio.create_task(rescorer.rescore_forever())

    found = await Log(kafka).read(RESCORES, ROWS)

    working.cancel()
    await asyncio.wait([working])
    await producer.stop()
    assert {Rescore.FromString(value).score for value in found} == {0.25}
    assert len(found) == ROWS
    assert judge.left < 0
