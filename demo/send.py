"""`python -m demo send FILE`: one transaction to the line that runs, and its decision back."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from demo.running import NothingRuns, find_running
from demo.sample import read_sample
from demo.servers import answers_kafka
from demo.settings import kafka_settings_in
from demo.tally import action_name, latency_ms
from fraudstream.bus import kafka_python_producer_options
from fraudstream.errors import BrokerUnavailable
from fraudstream.log_reader import LogReader, LogRecord
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, DLQ, LATE, RAW
from fraudstream.transaction import CONTENT_TYPE, JSON
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision

ANSWER_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the broker put the record that was sent."""

    topic: str
    partition: int
    offset: int


def send_sample(sample: Path, folder: Path) -> int:
    """Send a sample, wait for what becomes of it, print that. Returns the exit code.

    Args:
        sample: A JSON file.
        folder: Where demos run; looked at unless the settings name a broker.

    Raises:
        NothingRuns: There is no line, or it does not decide.
    """
    settings = _settings_of_line(folder)
    value = read_sample(sample, time.time_ns() // 1_000_000)
    with LogReader(settings, [DECISIONS, DLQ, LATE], from_end=True) as reader:
        place = _send(settings, value)
        print(f"sent {sample} to {place.topic}, partition {place.partition}, offset {place.offset}")
        words = _await_answer(settings, reader, place, _id_in(value))
    print(words)
    return 0


def _settings_of_line(folder: Path) -> KafkaSettings:
    settings = KafkaSettings.read()
    if "bootstrap" not in settings.model_fields_set:
        settings = kafka_settings_in(find_running(folder))
    if not answers_kafka(settings.bootstrap):
        raise NothingRuns(
            f"no broker answers at {settings.bootstrap}: start a line by `make demo`, or set"
            " FRAUD_KAFKA_BOOTSTRAP to a broker that runs"
        )
    return settings


def _send(settings: KafkaSettings, value: bytes) -> Place:
    producer = KafkaProducer(**kafka_python_producer_options(settings))
    try:
        sent = producer.send(
            settings.topic(RAW), value=value, key=b"sample", headers=[(CONTENT_TYPE, JSON)]
        ).get(timeout=10)
    except KafkaError as exc:
        raise BrokerUnavailable(f"the sample was not taken: {type(exc).__name__}") from exc
    finally:
        producer.close(timeout=5)
    return Place(sent.topic, sent.partition, sent.offset)


def _id_in(value: bytes) -> tuple[str, str]:
    """Return bank and transaction id of a JSON transaction, empty where there are none."""
    try:
        fields = json.loads(value)
        return str(fields["bank_id"]), str(fields["transaction_id"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _await_answer(
    settings: KafkaSettings, reader: LogReader, place: Place, wanted: tuple[str, str]
) -> str:
    """Return in words what became of the record."""
    gives_up_at = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < gives_up_at:
        for record in reader.poll(0.2):
            words = _words_if_ours(settings, record, place, wanted)
            if words:
                return words
    raise NothingRuns(
        f"no decision within {ANSWER_TIMEOUT_S:g} s: are ingest, features and scoring running? An"
        " id that was sent before has its decision already, and gets no other"
    )


def _words_if_ours(
    settings: KafkaSettings, record: LogRecord, place: Place, wanted: tuple[str, str]
) -> str:
    if record.topic == settings.topic(DECISIONS):
        decision = Decision.FromString(record.value)
        is_ours = (decision.bank_id, decision.transaction_id) == wanted
        return decision_words(decision) if is_ours else ""
    if record.topic == settings.topic(LATE):
        late = AcceptedTransaction.FromString(record.value).transaction
        is_ours = (late.bank_id, late.transaction_id) == wanted
        return "late: older than the lateness bound, no decision" if is_ours else ""
    is_ours = record.key == f"{place.topic}/{place.partition}/{place.offset}".encode()
    return dead_letter_words(record.headers, record.value) if is_ours else ""


def decision_words(decision: Decision) -> str:
    """Return a decision as a few lines for a person."""
    lines = [
        f"decision  {action_name(decision.action)}, score {decision.score:.4f}",
        f"trace id  {decision.trace_id}",
        f"took      {latency_ms(decision):.1f} ms from the raw topic",
    ]
    reasons = [
        f"{reason.contribution:+.2f}  {reason.code}  {reason.text}" for reason in decision.reasons
    ]
    lines += [f"{'reasons' if not n else '':8}  {line}" for n, line in enumerate(reasons)]
    return "\n".join(lines if reasons else [*lines, "reasons   none"])


def dead_letter_words(headers: Sequence[tuple[str, bytes]], value: bytes) -> str:
    """Return a dead letter as a line for a person."""
    reason = dict(headers).get("reason", b"").decode()
    message = json.loads(value).get("message", "")
    return f"refused   {reason}: {message}"
