"""Training sets from Kafka: what the topics hold, counted as the stream counts it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from google.protobuf.message import Message
from kafka import KafkaProducer

from fraudstream.topics import ACCEPTED, DECISIONS, LABELS
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from fraudstream.v1.transaction_pb2 import Transaction
from harness.service_process import ServiceProcess
from tests.worlds.training_files import Logs, assert_same_by_id
from training.dataset import examples_between
from training.offline.build import make_dataset
from training.offline.plan import KAFKA, Request
from training.simulator.histories import simulated_history
from training.simulator.simulate import SimulationSettings, simulate

TIMEOUT_S = 60.0
TOPICS = {"accepted": ACCEPTED, "decisions": DECISIONS, "labels": LABELS}


def create_lasting_topics(environment: dict[str, str], folder: Path) -> None:
    """Make the topics so that records of past days stay."""
    arguments = ["topics", "create", "--replay"]
    command = ServiceProcess("services.ingest", arguments, environment, folder)
    command.launch()
    assert command.wait_end(timeout_s=TIMEOUT_S), command.log_text()
    assert command.exit_code == 0, command.log_text()


def send(logs: Logs, producer: KafkaProducer, prefix: str) -> None:
    """Append the logs to the topics, each record with its time, and two that the stream buries."""
    for noun, topic in TOPICS.items():
        for partition, stamped in enumerate(logs.rows[noun]):
            for at_ms, message in stamped:
                whole: Message = message
                if isinstance(message, Transaction):
                    whole = AcceptedTransaction(transaction=message)
                producer.send(
                    prefix + topic.name,
                    key=message.card_token.encode(),
                    value=whole.SerializeToString(),
                    partition=partition,
                    timestamp_ms=at_ms,
                )
    card = "card-1"
    nowhere = Transaction(transaction_id="t", card_token=card, event_time_ms=1_700_000_000_000)
    nowhere.location.latitude = 1e300
    unpackable = AcceptedTransaction(transaction=nowhere).SerializeToString()
    for value in (b"no message", unpackable):
        producer.send(prefix + ACCEPTED.name, key=card.encode(), value=value, partition=0)
    producer.flush(timeout=TIMEOUT_S)


@pytest.mark.slow
def test_set_from_the_log_has_the_features_of_the_stream(
    any_line_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies and conflicts are dropped by the decisions' digests, labels come when they came."""
    create_lasting_topics(any_line_env, tmp_path)
    simulated = simulate(SimulationSettings(seed=6, cards=60, days=15))
    for name, content in any_line_env.items():
        monkeypatch.setenv(name, content)
    prefix, bootstrap = (any_line_env[f"FRAUD_KAFKA_{n}"] for n in ("TOPIC_PREFIX", "BOOTSTRAP"))
    producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False, acks=1)
    partitions = len(producer.partitions_for(prefix + ACCEPTED.name))
    logs = Logs(simulated, partitions)
    send(logs, producer, prefix)
    producer.close()

    made = make_dataset(Request(KAFKA, "canonical", "", 0, sys.maxsize, -1, 2), tmp_path / "set", 1)

    expected = examples_between(simulated_history(simulated), 0, sys.maxsize)
    assert_same_by_id(tmp_path / "set", expected)
    assert made["counts"]["unreadable"] == 2
    assert made["counts"]["labels"] == logs.count("labels")
