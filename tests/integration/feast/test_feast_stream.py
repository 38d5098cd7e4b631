"""Feast beside the running line: what it serves is what the stream has just decided with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kafka import KafkaProducer

from fraudstream.broker.clients import SignedSender, kafka_python_producer_options
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.topics import ACCEPTED, partition_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from harness.line import Line
from harness.processes import wait_until
from harness.settings import kafka_settings_in
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.accepted_rows import EVENT_MS, transaction_of
from tests.worlds.archive_records import archived
from tests.worlds.feast_world import FeastWorld, Vector, is_same, make_world, vectors_in

pytestmark = pytest.mark.slow
_WAIT_S = 120.0
_CARDS = [f"bank.k1.{number:032x}" for number in range(8)]
_ROWS = 40
_SERVICES = (
    ("services.scoring", ()),
    ("services.features", ("card",)),
    ("services.features", ("entity",)),
    ("services.archive", ()),
)


@dataclass(frozen=True)
class RunningLine:
    """Scoring, features and archive, and Feast over their store and archive."""

    environment: Mapping[str, str]
    archive: Path
    feast: FeastWorld

    def accept(self) -> None:
        """Append accepted transactions of some cards at one terminal, a minute apart."""
        kafka = kafka_settings_in(self.environment)
        producer = KafkaProducer(**kafka_python_producer_options(kafka))
        sender = SignedSender(producer, kafka, "ingest")
        for number in range(_ROWS):
            spent = transaction_of(
                f"t-{number}",
                amount_minor=101 + 37 * number,
                card=_CARDS[number * number % len(_CARDS)],
                event_time_ms=EVENT_MS + 60_000 * number,
            )
            value = AcceptedTransaction(transaction=spent).SerializeToString()
            sender.send(kafka.topic(ACCEPTED), spent.card_token.encode(), value)
        producer.flush(timeout=30)
        producer.close()

    def decisions(self) -> list[Decision]:
        """Return the archived decisions, each card's in the order of the log."""
        rows = archived(self.archive, "decisions")
        messages = rows["message"].to_pylist() if "message" in rows.column_names else []
        return [Decision.FromString(message) for message in messages]


@pytest.fixture
def line(
    line_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningLine]:
    """The services, started."""
    tiny_artefact(tmp_path / "model")
    more = {
        "FRAUD_SCORING_MODEL": str(tmp_path / "model"),
        "FRAUD_ARCHIVE_ROOT": str(tmp_path / "archive"),
        "FRAUD_ARCHIVE_MAX_AGE_S": "0.5",
    }
    started = Line(tmp_path / "line", line_env, more, _SERVICES)
    started.prepare()
    started.start()
    for name, setting in line_env.items():
        monkeypatch.setenv(name, setting)
    yield RunningLine(started.environment, tmp_path / "archive", make_world(tmp_path))
    started.stop()


def test_feast_gives_the_vectors_that_the_stream_decided_with(line: RunningLine) -> None:
    """Online the last decision of each card, in history each decision: equal to the bit."""
    line.accept()
    assert wait_until(lambda: len(line.decisions()) == _ROWS, _WAIT_S, poll_s=0.5)
    decisions = line.decisions()
    vectors: list[Vector] = [np.frombuffer(d.vector, "<f4") for d in decisions]
    last = {d.card_token: vector for d, vector in zip(decisions, vectors, strict=True)}
    cards = list(last)
    expected = list(last.values())

    def is_written() -> bool:
        return is_same(line.feast.online(cards), expected)

    assert len({partition_of(card.encode(), 6) for card in cards}) > 1
    assert wait_until(is_written, _WAIT_S, poll_s=0.2)
    assert is_same(asyncio.run(line.feast.online_async(cards)), expected)
    assert is_same(_history(line.feast, decisions), vectors)


def _history(feast: FeastWorld, decisions: list[Decision]) -> list[Vector]:
    """Return what Feast says of each decision's card and time."""
    question = pd.DataFrame(
        {
            "card_token": [d.card_token for d in decisions],
            "event_timestamp": pd.to_datetime(
                [d.event_time_ms for d in decisions], unit="ms", utc=True
            ),
        }
    )
    answer = feast.store.get_historical_features(question, feast.service).to_df()
    return vectors_in({name: answer[name].tolist() for name in FEATURE_NAMES})
