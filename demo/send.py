"""`python -m demo send FILE`: one transaction to the line that runs, and its decision back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from demo.running import NothingRuns, find_running
from demo.sample import read_sample
from demo.tally import action_name, latency_ms
from fraudstream.broker.clients import broker_fault, kafka_python_producer_options
from fraudstream.broker.log_reader import LogReader, LogRecord
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, DLQ, LATE, RAW
from fraudstream.transaction.actions import needs_person
from fraudstream.transaction.formats import CONTENT_TYPE, JSON
from fraudstream.transaction.identity import Identity, alert_id_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision, Reason
from harness.servers import answers_kafka
from harness.settings import kafka_settings_in

ANSWER_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a record: in words, and as an exit code."""

    words: str
    exit_code: int = os.EX_OK


@dataclass(frozen=True, slots=True)
class Position:
    """Where the broker put the record that was sent."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Return it as messages say it."""
        return f"{self.topic}, partition {self.partition}, offset {self.offset}"


def send_sample(sample: Path, folder: Path) -> int:
    """Send a sample, wait for what becomes of it, print that.

    Returns:
        The exit code: 0 for a decision, 65 where the record was refused or came too late for one.

    Args:
        sample: A JSON file.
        folder: Where demos run; looked at unless the settings name a broker.

    Raises:
        InvalidSettings: The sample cannot be read.
        NothingRuns: There is no line, or it does not decide.
    """
    value = read_sample(sample, epoch_ms())
    settings = _settings_of_line(folder)
    with LogReader(settings, [DECISIONS, DLQ, LATE], from_end=True) as reader:
        position = _send(settings, value)
        print(f"sent {sample} to {position}")
        answer = _await_answer(settings, reader, position, _id_in(value))
    print(answer.words)
    return answer.exit_code


def _settings_of_line(folder: Path) -> KafkaSettings:
    """Return where the line's broker is: the demo's that runs, else what the settings name."""
    settings = KafkaSettings.read()
    is_named = "bootstrap" in settings.model_fields_set
    try:
        running = kafka_settings_in(find_running(folder))
    except NothingRuns:
        if not is_named:
            raise
    else:
        if not is_named or running.bootstrap == settings.bootstrap:
            settings = running
    if not answers_kafka(settings.bootstrap):
        raise NothingRuns(
            f"no broker answers at {settings.bootstrap}: start a line by `make demo`, or set"
            " FRAUD_KAFKA_BOOTSTRAP to a broker that runs"
        )
    return settings


def _send(settings: KafkaSettings, value: bytes) -> Position:
    producer = KafkaProducer(**kafka_python_producer_options(settings))
    try:
        sent = producer.send(
            settings.topic(RAW), value=value, key=b"sample", headers=[(CONTENT_TYPE, JSON)]
        ).get(timeout=10)
    except KafkaError as exc:
        raise broker_fault(settings, exc, "sending the sample") from exc
    finally:
        producer.close(timeout=5)
    return Position(sent.topic, sent.partition, sent.offset)


def _id_in(value: bytes) -> tuple[str, str]:
    """Return bank and transaction id of a JSON transaction, empty where there are none."""
    try:
        fields = json.loads(value)
        return str(fields["bank_id"]), str(fields["transaction_id"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _await_answer(
    settings: KafkaSettings, reader: LogReader, position: Position, wanted: tuple[str, str]
) -> Answer:
    """Return what became of the record."""
    gives_up_at = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < gives_up_at:
        for record in reader.poll(0.2):
            answer = _answer_if_ours(settings, record, position, wanted)
            if answer is not None:
                return answer
    raise NothingRuns(
        f"no decision within {ANSWER_TIMEOUT_S:g} s: are ingest, features and scoring running? An"
        " id that was sent before has its decision already, and gets no other"
    )


def _answer_if_ours(
    settings: KafkaSettings, record: LogRecord, position: Position, wanted: tuple[str, str]
) -> Answer | None:
    if record.topic == settings.topic(DECISIONS):
        decision = Decision.FromString(record.value)
        is_ours = (decision.bank_id, decision.transaction_id) == wanted
        return Answer(decision_words(decision)) if is_ours else None
    if record.topic == settings.topic(LATE):
        late = AcceptedTransaction.FromString(record.value).transaction
        is_ours = (late.bank_id, late.transaction_id) == wanted
        words = "late      older than the lateness bound, no decision"
        return Answer(words, os.EX_DATAERR) if is_ours else None
    if record.key != f"{position.topic}/{position.partition}/{position.offset}".encode():
        return None
    return Answer(dead_letter_words(record.headers, record.value), os.EX_DATAERR)


def decision_words(decision: Decision) -> str:
    """Return a decision as a few lines for a person."""
    action = action_name(decision.action)
    identity = Identity(bytes.fromhex(decision.decision_id))
    alert = alert_id_of(identity) if needs_person(decision) else f"none for {action}"
    lines = [
        f"decision     {action}, score {decision.score:.4f}",
        f"decision id  {decision.decision_id}",
        f"transaction  {decision.transaction_id}",
        f"alert id     {alert}",
        f"trace id     {decision.trace_id}",
        f"took         {latency_ms(decision):.1f} ms from the raw topic",
    ]
    reasons = [f"{_weight(reason)}  {reason.code}  {reason.text}" for reason in decision.reasons]
    lines += [f"{'reasons' if not n else '':11}  {line}" for n, line in enumerate(reasons)]
    return "\n".join(lines if reasons else [*lines, "reasons      none"])


def _weight(reason: Reason) -> str:
    """Return how far a reason moved the score: rules, lists and findings have no number."""
    if reason.from_rule:
        return " rule"
    return f"{reason.contribution:+.2f}" if reason.contribution else "    -"


def dead_letter_words(headers: Sequence[tuple[str, bytes]], value: bytes) -> str:
    """Return a dead letter as a line for a person."""
    reason = dict(headers).get("reason", b"").decode()
    message = json.loads(value).get("message", "")
    return f"refused   {reason}: {message}"
