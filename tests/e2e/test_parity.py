"""The parity certificate over a real line: it holds, and every planted bug breaks it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from fraudstream.broker.clients import SignedSender, kafka_python_producer_options
from fraudstream.broker.log_reader import LogReader, partition_count, read_topic
from fraudstream.client import BlockingScoringClient
from fraudstream.features.catalogue import FEATURE_NAMES, Entity
from fraudstream.features.stored_values import entity_key, log_key
from fraudstream.parity.initial import InitialStates
from fraudstream.parity.recorded import Span
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, DECISIONS, ENTITIES, LABELS, RAW, partition_of
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.label_pb2 import Disposition, Label, LabelSource
from fraudstream.v1.transaction_pb2 import Transaction
from harness.line import DEMO_RULES, SERVICES, Line
from harness.model_repository import PEOPLE, REPOSITORY
from harness.processes import PROJECT_FOLDER, free_port, wait_until
from harness.servers import Broker, ValkeyServer
from harness.settings import kafka_settings_in
from services.scoring.cli.replay_command import replay
from services.scoring.replay.log import Found
from services.scoring.settings import ScoringSettings
from tests.conftest import environment_of_test
from tests.fakes.tiny_model import tiny_artefact
from training.parity.certificate import Certificate
from training.parity.certify import Proof, certify
from training.parity.planted import BUGS, NO_BUG, Bug
from training.simulator.simulate import SimulationSettings, simulate

pytestmark = pytest.mark.parity

_HOUR_MS: Final = 3_600_000
_DAYS: Final = 24
_EVER: Final = Span(0, 1 << 62)
_MERCHANT_SINCE_FIRST: Final = FEATURE_NAMES.index("merchant_seconds_since_first")
_BURST: Final = 20  # authorisations of one card, one after another
_NO_CONSOLE: Final = tuple(service for service in SERVICES if service[0] != "services.console")


@dataclass(frozen=True)
class _Record:
    """One record to send: when it arrives, where, and what it is."""

    at_ms: int
    topic: str
    key: bytes
    value: bytes


class _Story:
    """Weeks of traffic of a few cards in arrival order, labels among it."""

    def __init__(self, kafka: KafkaSettings, tokeniser: Tokeniser, now_ms: int) -> None:
        self._kafka = kafka
        self._tokeniser = tokeniser
        start_ms = now_ms - _DAYS * 24 * _HOUR_MS
        self._simulated = simulate(
            SimulationSettings(seed=5, cards=20, days=_DAYS, start_ms=start_ms, fraud_share=0.1)
        )
        self.now_ms = now_ms
        self.transactions = [self._simulated.transaction(n) for n in range(len(self._simulated))]

    def records(self) -> list[_Record]:
        """Return what is sent, in order of arrival: one in five late by up to three hours."""
        rng = np.random.default_rng(5)
        records = []
        for number, transaction in enumerate(self.transactions):
            late_ms = int(rng.integers(3 * _HOUR_MS)) if rng.random() < 0.2 else 0
            at_ms = min(transaction.event_time_ms + late_ms, self.now_ms)
            records.append(self._raw(transaction, at_ms))
            if number % 40 == 0:
                records.append(self._raw(transaction, min(at_ms + _HOUR_MS, self.now_ms)))
            records += self._labels(number, transaction)
        return sorted(records, key=lambda record: record.at_ms)

    def _raw(self, transaction: Transaction, at_ms: int) -> _Record:
        topic = self._kafka.topic(RAW)
        return _Record(
            at_ms, topic, transaction.customer_id.encode(), transaction.SerializeToString()
        )

    def _labels(self, number: int, transaction: Transaction) -> Iterator[_Record]:
        """Yield labels of a fraud: one, or one that comes twice, or flips."""
        arrival_ms = int(self._simulated.label_arrival_ms[number])
        if arrival_ms < 0 or arrival_ms > self.now_ms:
            return
        fraud, genuine = Disposition.DISPOSITION_CONFIRMED_FRAUD, Disposition.DISPOSITION_GENUINE
        sequence = {0: (fraud, fraud), 1: (fraud, genuine, fraud)}.get(number % 7, (fraud,))
        for again, disposition in enumerate(sequence):
            yield self._label(transaction, disposition, arrival_ms + again * _HOUR_MS)

    def _label(self, spent: Transaction, disposition: Disposition, at_ms: int) -> _Record:
        token = self._tokeniser.token_of(spent.bank_id, spent.pan)
        label = Label(
            label_id=f"{spent.transaction_id}-{at_ms}",
            bank_id=spent.bank_id,
            transaction_id=spent.transaction_id,
            card_token=token,
            event_time_ms=spent.event_time_ms,
            disposition=disposition,
            source=LabelSource.LABEL_SOURCE_CHARGEBACK,
            customer_id=spent.customer_id,
            merchant_id=spent.merchant_id,
            terminal_id=spent.terminal_id,
            device_id=spent.device_id,
            ip=spent.ip,
            settled_at_ms=at_ms,
        )
        return _Record(at_ms, self._kafka.topic(LABELS), token.encode(), label.SerializeToString())

    def burst(self) -> list[Transaction]:
        """Return authorisations of one card within a second, now."""
        burst = []
        for number in range(_BURST):
            transaction = Transaction()
            transaction.CopyFrom(self.transactions[-1])
            transaction.transaction_id = f"burst-{number}"
            transaction.event_time_ms = self.now_ms + number * 50
            transaction.amount_minor = 1_000 + 500 * number
            burst.append(transaction)
        return burst


def _send(kafka: KafkaSettings, records: Sequence[_Record]) -> None:
    producer = KafkaProducer(**kafka_python_producer_options(kafka))
    labels = SignedSender(producer, kafka, "ingest")
    for record in records:
        if record.topic == kafka.topic(LABELS):
            labels.send(record.topic, record.key or b"", record.value, record.at_ms)
            continue
        producer.send(
            record.topic,
            value=record.value,
            key=record.key,
            timestamp_ms=record.at_ms,
            headers=[("content-type", b"application/x-protobuf")],
        )
    producer.flush(timeout=30)
    producer.close(timeout=10)


class _Decided:
    """Waits until so many identities have a decision."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._found: set[str] = set()

    def reach(self, wanted: int) -> bool:
        """Wait for `wanted` decisions in all."""

        def has_all() -> bool:
            for record in self._reader.poll(0.05):
                self._found.add(Decision.FromString(record.value).decision_id)
            return len(self._found) >= wanted

        return wait_until(has_all, 120.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the line: its models, its people."""
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def logs(broker: Broker, valkey: ValkeyServer, folder: Path) -> KafkaSettings:
    """Run the line on the story, killing the card role on the way; return where its logs are."""
    servers = environment_of_test(broker, valkey)
    kafka = kafka_settings_in(servers)
    tiny_artefact(folder / "model")
    more = {"FRAUD_SCORING_MODEL": str(folder / "model"), "FRAUD_KAFKA_IS_REPLAY": "true"}
    line = Line(folder, servers, more=more, services=_NO_CONSOLE)
    line.prepare()
    tokeniser = Tokeniser(TokenKeys.load(line.token_keys))
    try:
        line.start()
        _play(line, kafka, _Story(kafka, tokeniser, epoch_ms()))
    finally:
        line.stop()
    return kafka


def _play(line: Line, kafka: KafkaSettings, story: _Story) -> None:
    records = story.records()
    half = len(records) // 2
    card = next(service for service in line.services if service.name == "features-card")
    with LogReader(kafka, [DECISIONS], from_end=True) as reader:
        decided = _Decided(reader)
        signed = kafka_settings_in(line.environment)
        _send(signed, records[:half])
        assert decided.reach(half // 3), "the first rows were not decided"
        card.kill()
        card.launch()
        _send(signed, records[half:])
        assert decided.reach(len(story.transactions)), "not all rows were decided"
        with BlockingScoringClient(f"127.0.0.1:{line.ports.scoring}", timeout_s=20) as client:
            decisions = [client.score(transaction) for transaction in story.burst()]
        assert len({decision.decision_id for decision in decisions}) == _BURST
    assert wait_until(lambda: len(_burst_in_log(kafka)) == _BURST, 60.0)


def _burst_in_log(kafka: KafkaSettings) -> set[str]:
    """Return the ids of the burst that have reached the log; a row may be there twice."""
    rows = [AcceptedTransaction.FromString(r.value) for r in read_topic(kafka, ACCEPTED)]
    ids = {row.transaction.transaction_id for row in rows}
    return {each for each in ids if each.startswith("burst-")}


def _certificate(logs: KafkaSettings, bug: Bug) -> Certificate:
    return certify(logs, Proof(_EVER, bug), lambda _: None)


def test_every_decision_was_made_from_what_the_log_gives(logs: KafkaSettings) -> None:
    """Stream rows and authorisations alike, fresh or stale, are rebuilt to the bit."""
    certificate = _certificate(logs, NO_BUG)

    assert certificate.holds, certificate.text()
    assert certificate.door == _BURST
    assert certificate.stream > 500
    assert not certificate.unprovable


@pytest.mark.parametrize("name", sorted(BUGS))
def test_a_planted_bug_breaks_the_certificate(logs: KafkaSettings, name: str) -> None:
    """Each bug that is planted in driver or kernel is found, and the first mismatch is named."""
    certificate = _certificate(logs, BUGS[name])

    assert not certificate.holds
    assert certificate.first is not None
    assert "first mismatch" in certificate.text()


def test_the_kernel_is_right_again_after_a_planted_bug(logs: KafkaSettings) -> None:
    """A bug is planted for one run only."""
    _certificate(logs, BUGS["off-by-one-window"])

    assert _certificate(logs, NO_BUG).holds


def _copied(
    logs: KafkaSettings, broker: Broker, entity_partitions: int, is_kept: Callable[[bytes], bool]
) -> KafkaSettings:
    """Copy what parity reads to topics of their own, each record where it lay.

    Args:
        logs: Where it is.
        broker: The broker.
        entity_partitions: How many the entities topic has in the copy: more than before.
        is_kept: Which decisions are copied.
    """
    copy = kafka_settings_in(
        {**broker.environment(), "FRAUD_KAFKA_TOPIC_PREFIX": f"c{uuid.uuid4().hex[:8]}-"}
    )
    counts = {ACCEPTED: 0, DECISIONS: 0, ENTITIES: entity_partitions}
    admin = KafkaAdminClient(bootstrap_servers=copy.bootstrap)
    for topic, wanted in counts.items():
        number = wanted or partition_count(logs, topic)
        admin.create_topics([NewTopic(copy.topic(topic), number, 1)])
    admin.close()
    producer = KafkaProducer(**kafka_python_producer_options(copy))
    for topic in counts:
        for record in read_topic(logs, topic):
            if topic is not DECISIONS or is_kept(record.value):
                producer.send(
                    copy.topic(topic),
                    value=record.value,
                    key=record.key or None,
                    partition=record.partition,
                )
    producer.flush(timeout=60)
    producer.close(timeout=10)
    return copy


def test_a_pending_transaction_that_was_never_decided_is_no_mismatch(
    logs: KafkaSettings, broker: Broker
) -> None:
    """Its scorer was killed and its caller did not come back: what others saw of it is unknown."""
    decisions = [Decision.FromString(record.value) for record in read_topic(logs, DECISIONS)]
    # The newest one that was pending: no later row of the card had it in its state.
    lost = next(filter(None, map(_pending_of, reversed(decisions))))[-1]
    seen = [each for each in decisions if lost in _pending_of(each)]
    copy = _copied(
        logs,
        broker,
        partition_count(logs, ENTITIES),
        lambda value: Decision.FromString(value).decision_id != lost,
    )

    certificate = _certificate(copy, NO_BUG)

    assert sum(certificate.unprovable.values()) == len(seen) > 0
    assert certificate.first is None, certificate.text()


def _pending_of(decision: Decision) -> list[str]:
    return [identity.hex() for identity in decision.freshness.pending_identities]


def test_widened_entity_partitions_are_not_comparable(
    logs: KafkaSettings, broker: Broker, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of an entity lie where they lay then: that is said, and is no mismatch."""
    before = partition_count(logs, ENTITIES)
    copy = _copied(logs, broker, before + 3, lambda _: True)

    def has_moved_merchant(decision: Decision) -> bool:
        key = entity_key(decision.bank_id, decision.transaction.merchant_id)
        places = {partition_of(log_key(Entity.MERCHANT, key), n) for n in (before, before + 3)}
        vector = np.frombuffer(decision.vector, "<f4")
        return len(places) > 1 and bool(vector[_MERCHANT_SINCE_FIRST] > 0)

    certificate = _certificate(copy, NO_BUG)

    assert any("was widened" in why for why in certificate.unprovable), certificate.text()
    assert certificate.first is None, certificate.text()
    assert _replayed(copy, folder, _seen_in(copy, has_moved_merchant)) == os.EX_UNAVAILABLE
    assert "was widened" in capsys.readouterr().out


def _parity(kafka: KafkaSettings, *options: str) -> subprocess.CompletedProcess[str]:
    named = {"BOOTSTRAP": kafka.bootstrap, "TOPIC_PREFIX": kafka.topic_prefix}
    return subprocess.run(
        [sys.executable, "-m", "training", "parity", *options],
        cwd=PROJECT_FOLDER,
        env={**os.environ, **{f"FRAUD_KAFKA_{name}": text for name, text in named.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_span_without_decisions_is_nothing_to_compare(logs: KafkaSettings) -> None:
    """That is not the same as features that differ, and has an exit code of its own."""
    found = _parity(logs, "--from", "1970-01-01", "--to", "1970-01-02")

    assert found.returncode == os.EX_NOINPUT, found.stderr
    assert found.stdout.splitlines()[-1].startswith("nothing to compare")


def test_a_broker_that_is_away_is_named() -> None:
    """Exit code 1 says that parity does not hold, so it must not stand for this."""
    nowhere = KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")

    found = _parity(nowhere)

    assert found.returncode == os.EX_UNAVAILABLE
    assert nowhere.bootstrap in found.stderr
    assert "Traceback" not in found.stderr


def _seen_in(logs: KafkaSettings, is_wanted: Callable[[Decision], bool]) -> Found:
    """Return the last decision in the log that is wanted."""
    records = read_topic(logs, DECISIONS)
    found = [(Decision.FromString(record.value), record.partition) for record in records]
    return Found(*next(pair for pair in reversed(found) if is_wanted(pair[0])))


def _replayed(logs: KafkaSettings, folder: Path, found: Found) -> int:
    """Make one decision again by the line's model and rules; return the exit code."""
    told = {
        "model": folder / REPOSITORY,
        "people_file": folder / PEOPLE,
        "rule_set_file": DEMO_RULES,
    }
    settings = ScoringSettings.model_validate({key: str(value) for key, value in told.items()})
    return replay(logs, settings, found, InitialStates())


def _is_of_stream(decision: Decision) -> bool:
    return decision.HasField("coordinates") and not decision.freshness.cold_start


@pytest.mark.parametrize(
    "is_wanted",
    [
        _is_of_stream,
        lambda decision: _is_of_stream(decision) and decision.freshness.shared_stale,
        lambda decision: len(decision.freshness.pending_identities) > 3,
    ],
    ids=["stream", "stale", "authorisation"],
)
def test_one_decision_is_replayed_to_the_bit(
    logs: KafkaSettings,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    is_wanted: Callable[[Decision], bool],
) -> None:
    """Its features from the log of its card alone, its score from its model."""
    code = _replayed(logs, folder, _seen_in(logs, is_wanted))

    output = capsys.readouterr().out
    assert (code, output.splitlines()[-1]) == (0, "identical"), output
    assert "to the bit" in output
