"""Any decision can be made again, and whatever was changed in it since is found."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fraudstream.archive.batches import LogRows, decision_batch
from fraudstream.archive.files import file_path
from fraudstream.broker.log_reader import read_topic
from fraudstream.parity.initial import InitialStates
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS
from fraudstream.v1.decision_pb2 import Action, Decision, StandInCause
from fraudstream.v1.scoring_pb2 import ScoreRequest
from harness.servers import Broker, ValkeyServer
from services.scoring.cli.replay_command import replay
from services.scoring.replay.log import Found, find_in_archive, find_in_log
from services.scoring.settings import ScoringSettings
from tests.conftest import create_topics, environment_of_test
from tests.worlds.model_line import ModelLine
from tests.worlds.scoring_world import ScoringWorld, kafka_settings, scoring_world, some_transaction

CARDS, EACH = 2, 4
_SILENT: Callable[[str], None] = lambda _: None  # noqa: E731


class Replays:
    """Decisions of a service that has ended, by a model that is retired, and their log."""

    def __init__(self, environment: Mapping[str, str], line: ModelLine) -> None:
        self.environment = environment
        self.line = line
        self.kafka: KafkaSettings = kafka_settings(environment)
        self.found = [
            Found(Decision.FromString(record.value), record.partition)
            for record in read_topic(self.kafka, DECISIONS)
        ]

    def of(self, *, stand_in: bool) -> Found:
        """Return the last one that a model made, or that none did."""
        return next(one for one in reversed(self.found) if one.decision.stand_in == stand_in)

    def run(self, found: Found) -> int:
        """Replay one."""
        settings = ScoringSettings.model_validate(self.line.settings())
        return replay(self.kafka, settings, found, InitialStates())


async def _decide(environment: Mapping[str, str], line: ModelLine) -> None:
    """Let stand-ins decide bursts of two cards, then the first model."""
    async with scoring_world(environment, None, model_poll_ms=50, **line.settings()) as world:
        await _burst(world, 0)
        line.promote(1)
        async with asyncio.timeout(30):
            number = 100
            while (await _score(world, number, card=9)).stand_in:
                number += 1
        await _burst(world, 1_000)


async def _burst(world: ScoringWorld, first: int) -> None:
    for number in range(first, first + CARDS * EACH):
        await _score(world, number, card=number % CARDS)


async def _score(world: ScoringWorld, number: int, card: int) -> Decision:
    transaction = some_transaction(number, card, amount_minor=1_000 + number)
    decision: Decision = await world.front.Score(ScoreRequest(transaction=transaction), timeout=20)
    return decision


@pytest.fixture(scope="module")
def replays(
    broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Replays:
    """Decisions, and a repository that has gone on since: their model is retired."""
    folder = tmp_path_factory.mktemp("replay")
    environment = environment_of_test(broker, valkey)
    create_topics(environment, folder)
    line = ModelLine(folder)
    asyncio.run(_decide(environment, line))
    line.promote(2)
    line.add(3, bias=0.1, thresholds=(0.001, 0.002, 0.003))  # the first one's weights
    line.retire("tiny/1")
    return Replays(environment, line)


def test_decision_of_a_retired_model_is_identical_to_the_bit(
    replays: Replays, capsys: pytest.CaptureFixture[str]
) -> None:
    """Features from the log, with what was pending; the score from the model of that day."""
    found = replays.of(stand_in=False)
    assert found.decision.freshness.pending_identities

    assert replays.run(found) == 0

    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "identical"
    assert "score     identical, compared to the bit" in output
    assert "features  identical" in output


def test_stand_in_is_named_and_its_features_compared(
    replays: Replays, capsys: pytest.CaptureFixture[str]
) -> None:
    """No model decided: there is no score to make again, and it is said."""
    assert replays.run(replays.of(stand_in=True)) == 0

    output = capsys.readouterr().out
    assert "a stand-in decision (model_not_loaded)" in output
    assert "features  identical" in output


def test_action_of_a_stand_in_is_made_again(
    replays: Replays, capsys: pytest.CaptureFixture[str]
) -> None:
    """It follows from transaction and rule set alone."""
    found = replays.of(stand_in=True)
    decision = _copy(found.decision)
    decision.action = Action.ACTION_APPROVE

    assert replays.run(Found(decision, found.partition)) == 1

    said = "action: recorded ACTION_APPROVE, rebuilt ACTION_REVIEW"
    assert said in capsys.readouterr().out


def test_rule_set_that_is_gone_is_said(
    replays: Replays, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its action cannot be made again, and nothing is claimed of it."""
    found = replays.of(stand_in=False)
    decision = _copy(found.decision)
    decision.rule_set_hash = "0" * 64

    assert replays.run(Found(decision, found.partition)) == 69

    assert "identical, but for its action: " in capsys.readouterr().out


def test_provisional_decision_has_nothing_to_make_again(
    replays: Replays, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store was gone: no features were read."""
    found = replays.of(stand_in=True)
    decision = _copy(found.decision)
    decision.stand_in_cause = StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE
    decision.ClearField("vector")

    assert replays.run(Found(decision, found.partition)) == 0

    assert "a provisional stand-in decision" in capsys.readouterr().out


def test_other_engine_is_held_to_a_bound(
    replays: Replays, capsys: pytest.CaptureFixture[str]
) -> None:
    """A release with another ONNX Runtime may differ in the last bits, and says how far."""
    found = replays.of(stand_in=False)
    decision = _copy(found.decision)
    decision.engine_version = "onnxruntime-1.2.3"
    decision.score += 9e-7

    assert replays.run(Found(decision, found.partition)) == 0

    assert "compared within 1e-06: another CPU engine" in capsys.readouterr().out


def _copy(decision: Decision) -> Decision:
    copy = Decision()
    copy.CopyFrom(decision)
    return copy


def _other_vector(decision: Decision, line: ModelLine) -> None:
    vector = np.frombuffer(decision.vector, "<f4").copy()
    vector[0] += 1
    decision.vector = vector.tobytes()


def _other_sequence(decision: Decision, line: ModelLine) -> None:
    sequence = np.frombuffer(decision.sequence, "<f4").copy()
    sequence[-6] += 1
    decision.sequence = sequence.tobytes()


def _other_model(decision: Decision, line: ModelLine) -> None:
    decision.model_hash = line.artefacts[2].model_hash


def _other_thresholds(decision: Decision, line: ModelLine) -> None:
    decision.model_hash = line.artefacts[3].model_hash


def _other_action(decision: Decision, line: ModelLine) -> None:
    is_declined = decision.action == Action.ACTION_DECLINE
    decision.action = Action.ACTION_REVIEW if is_declined else Action.ACTION_DECLINE


def _other_amount(decision: Decision, line: ModelLine) -> None:
    decision.transaction.amount_minor += 1


def _other_score(decision: Decision, line: ModelLine) -> None:
    decision.score += 2e-16


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_other_vector, "amount"),
        (_other_sequence, "step 31 amount_minor"),
        (_other_model, "raw_score"),
        (_other_thresholds, "action"),
        (_other_action, "action"),
        (_other_amount, "digest"),
        (_other_score, "score"),
    ],
)
def test_what_was_changed_is_the_first_difference(
    replays: Replays,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Decision, ModelLine], None],
    field: str,
) -> None:
    """One bit of the record, or another model than it was made by."""
    found = replays.of(stand_in=False)
    decision = _copy(found.decision)
    change(decision, replays.line)

    assert replays.run(Found(decision, found.partition)) == 1

    assert f"first difference  {field}: recorded " in capsys.readouterr().out


def test_decision_is_found_in_the_log_and_in_the_archive(replays: Replays, tmp_path: Path) -> None:
    """Everywhere, in its partition, or in Parquet files; and nowhere where it is not."""
    found = replays.found[0]
    wanted = found.decision.decision_id
    place = file_path(tmp_path / "decisions", "0a", date(2026, 1, 5), (found.partition, 0, 0))
    place.parent.mkdir(parents=True)
    batch = decision_batch([found.decision], LogRows(found.partition, [0], [0]))
    pq.write_table(
        batch.schema.empty_table(), place.with_name("0000-000000000000-000000000000.parquet")
    )
    with pq.ParquetWriter(place, batch.schema) as writer:
        writer.write_batch(batch)

    for partition in (None, found.partition):
        assert find_in_log(replays.kafka, wanted, partition, _SILENT) == found
    assert find_in_archive(tmp_path, wanted, _SILENT) == found
    assert find_in_log(replays.kafka, "0" * 32, None, _SILENT) is None
    assert find_in_archive(tmp_path, "0" * 32, _SILENT) is None


@pytest.mark.parametrize(
    ("decision_id", "code", "said"),
    [("", 0, "identical"), ("0" * 32, 65, "there is no record"), ("no id", 64, "hexadecimal")],
)
def test_command_exits_with_what_it_found(
    replays: Replays, decision_id: str, code: int, said: str
) -> None:
    """As an auditor runs it."""
    found = replays.of(stand_in=False).decision
    settings = replays.line.settings()
    command = (sys.executable, "-m", "services.scoring", "replay")
    ended = subprocess.run(
        [*command, decision_id or found.decision_id, "--card-token", found.card_token],
        env={
            **replays.environment,
            **{f"FRAUD_SCORING_{name.upper()}": value for name, value in settings.items()},
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == code, ended.stderr
    assert said in ended.stdout + ended.stderr
