"""Records behind ingest that none of our services wrote: each costs itself, and no reader ends."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.message import Message
from kafka import KafkaProducer

from fraudstream.broker.clients import kafka_python_producer_options
from fraudstream.broker.log_reader import LogRecord, read_topic
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.store.shard import Role, ShardKeys, ShardRef
from fraudstream.topics import (
    ACCEPTED,
    ALERTS,
    DECISIONS,
    DLQ,
    ENTITIES,
    LABELS,
    RULES,
    SHADOWED,
    STAND_INS,
    Topic,
)
from fraudstream.transaction.identity import alert_id_of, digest_of, identity_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision, ShadowScore
from fraudstream.v1.features_pb2 import EntityRow, FeatureValue, SequenceStep
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.rescore_pb2 import StandIn
from fraudstream.v1.rules_pb2 import PublishedRuleSet
from fraudstream.v1.transaction_pb2 import Transaction
from harness.processes import wait_until
from harness.servers import Broker, ValkeyServer
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in
from tests.conftest import ServiceLauncher, create_topics, environment_of_test
from tests.fakes.fake_scorer import FakeScorer

pytestmark = pytest.mark.attack

_NOW_MS: Final = 1_700_000_000_000
_TOKEN: Final = "bank.k1." + "0" * 32
_SEED: Final = 15
_TIMES: Final = 300
_WAIT_S: Final = 90.0
_KEYS: Final = ShardKeys("p", ShardRef(Role.ENTITY, 0, "incarnation"))


def _transaction(number: str = "t-1") -> Transaction:
    return Transaction(
        bank_id="bank",
        transaction_id=number,
        card_token=_TOKEN,
        kind="TRANSACTION_KIND_PURCHASE",
        merchant_id="merchant-1",
        terminal_id="terminal-1",
        mcc="5411",
        amount_minor=100,
        currency="EUR",
        amount_reference_minor=100,
        event_time_ms=_NOW_MS,
        channel="CHANNEL_POS",
        ip="192.0.2.1",
    )


def _sequence(kind: float = 1.0) -> bytes:
    step = {"amount_minor": 100.0, "kind": kind, "channel": 1.0, "mcc": 5411.0}
    padding = [-1.0 if name == "seconds_before" else 0.0 for name in SEQUENCE_CHANNELS]
    last = [step.get(name, 0.0) for name in SEQUENCE_CHANNELS]
    steps = padding * (SEQUENCE_LENGTH - 1) + last
    return struct.pack(f"<{len(steps)}f", *steps)


def _decision(number: str = "t-1") -> Decision:
    spent = _transaction(number)
    identity = identity_of(spent.bank_id, spent.card_token, spent.transaction_id)
    return Decision(
        decision_id=identity.hex(),
        bank_id=spent.bank_id,
        transaction_id=spent.transaction_id,
        card_token=spent.card_token,
        digest=digest_of(spent),
        action="ACTION_REVIEW",
        stand_in=True,
        stand_in_cause="STAND_IN_CAUSE_DEADLINE",
        reasons=[{"code": "A", "text": "why", "contribution": 0.5}],
        trace_id="a" * 32,
        event_time_ms=spent.event_time_ms,
        feature_set_hash=FEATURE_SET_HASH,
        sequence_hash=SEQUENCE_HASH,
        vector=bytes(4 * len(FEATURE_HASHES)),
        sequence=_sequence(),
        transaction=spent,
    )


def _valid() -> dict[Topic, Message]:
    """Return a good message of each topic."""
    decision, spent = _decision(), _transaction()
    identity = identity_of(spent.bank_id, spent.card_token, spent.transaction_id)
    return {
        ACCEPTED: AcceptedTransaction(transaction=spent, decision=decision),
        DECISIONS: decision,
        STAND_INS: StandIn(decision=decision, feature_hashes=FEATURE_HASHES),
        SHADOWED: ShadowScore(
            decision_id=decision.decision_id,
            bank_id="bank",
            transaction_id="t-1",
            card_token=_TOKEN,
            event_time_ms=_NOW_MS,
            score=0.5,
            action="ACTION_REVIEW",
        ),
        ALERTS: Alert(
            alert_id=alert_id_of(identity),
            decision=decision,
            sequence=[SequenceStep(event_time_ms=_NOW_MS, kind=1, channel=1, mcc="5411")],
            features=[FeatureValue(name="f", value=1.0)],
            raised_at_ms=_NOW_MS,
            expected_loss_minor=50,
        ),
        LABELS: Label(
            label_id="l",
            bank_id="bank",
            transaction_id="t-1",
            card_token=_TOKEN,
            event_time_ms=_NOW_MS,
            disposition="DISPOSITION_CONFIRMED_FRAUD",
            source="LABEL_SOURCE_CHARGEBACK",
            terminal_id="terminal-1",
        ),
        ENTITIES: EntityRow(
            kind="ENTITY_ROW_KIND_TRANSACTION",
            entity_kind="ENTITY_KIND_TERMINAL",
            entity_key="bank/terminal-1",
            source_topic_id=bytes(16),
            source_offset=3,
            source_time_ms=_NOW_MS,
            event_time_ms=_NOW_MS,
            amount_reference_minor=100,
            transaction_kind="TRANSACTION_KIND_PURCHASE",
        ),
        RULES: PublishedRuleSet(
            rule_set_id="cards", version=2, content="x", signer="ada", signature=bytes(64)
        ),
    }


def _mutations(message: Message, chance: random.Random) -> Iterator[bytes]:
    """Yield values that are nearly a good one: spoilt bits, cut, twice, extreme, swapped."""
    good = message.SerializeToString()
    yield from (b"", good + good, good[: len(good) // 2], good[1:], b"\xff" + good)
    for _ in range(_TIMES):
        spoilt = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
        yield bytes(spoilt)
        yield _with_extremes(message, chance).SerializeToString()
        yield good[: chance.randrange(len(good))]


_EXTREMES: Final[Mapping[type, tuple[Any, ...]]] = {
    int: (0, -1, 1, 77, 1_000, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63)),
    float: (float("nan"), float("inf"), -1.0, 1e10, 1e300),
    str: ("", "zz", "<script>", "a\0", "x" * 300, "eur", "other.k1." + "0" * 32, "\u202e"),
    bytes: (b"", b"x", bytes(7), bytes(300), b"\xff" * 4 * len(FEATURE_HASHES), _sequence(1e10)),
    bool: (True, False),
}


def _with_extremes(message: Message, chance: random.Random) -> Message:
    """Return a copy with one to three fields, also inner ones, at values that nobody writes."""
    made = type(message)()
    made.CopyFrom(message)
    for _ in range(chance.randint(1, 3)):
        inner: Any = made
        while True:
            field = chance.choice(inner.DESCRIPTOR.fields)
            content = getattr(inner, field.name)
            if field.message_type is None or field.is_repeated:
                break
            inner = content
        if not field.is_repeated:
            try:
                setattr(inner, field.name, chance.choice(_EXTREMES[type(content)]))
            except ValueError:
                inner.ClearField(field.name)  # a number that the type does not hold
    return made


def _record(topic: Topic, value: bytes, key: bytes | None, offset: int) -> Any:
    """Return a record with the time by both of its names."""
    made = LogRecord(topic.name, 0, offset, _NOW_MS, key or b"", value, ())
    if hasattr(made, "timestamp"):
        return made

    class Stamped(LogRecord):
        @property
        def timestamp(self) -> int:
            return _NOW_MS

    return Stamped(topic.name, 0, offset, _NOW_MS, key or b"", value, ())


def _read_entity_row(record: Any) -> None:
    from fraudstream.store.entity_rows import decode_entity_row, fresh_rows
    from services.features.rows.entity_batch import EntityBatch

    row = decode_entity_row(record)
    fresh, marks = fresh_rows([(record.offset, row)] if row else [], {})
    chunk = EntityBatch.of(fresh)
    chunk.advance(_KEYS, [None] * len(chunk.keys(_KEYS)))
    assert all(mark.time_ms <= _NOW_MS + 300_000 for mark in marks.values())


def _read_accepted(record: Any) -> None:
    from fraudstream.features.state import pack_row
    from services.features.rows.accepted_rows import AcceptedRow, decode_row

    row = decode_row(record, 0.0)
    if isinstance(row, AcceptedRow):
        pack_row(row.accepted.transaction)
        if row.accepted.HasField("decision"):
            _publish(row.accepted.decision)


def _publish(decision: Decision) -> None:
    from services.scoring.publishing.alert import build_alert

    build_alert(decision).SerializeToString()


def _read_label(record: Any) -> None:
    from fraudstream.broker.topic_info import Log
    from services.features.roles.label import decode_label
    from services.features.rows.entity_row_sender import label_rows

    found = decode_label(record)
    if isinstance(found, Label):
        list(label_rows(found, Log("labels", bytes(16), 1), record))


def _read_decision(record: Any) -> None:
    from fraudstream.broker.topic_info import Log
    from services.features.rebuild.first_decisions import FirstDecisions, decode_decisions

    made = decode_decisions([record])
    decided = FirstDecisions(Log("accepted", bytes(16), 1), 0, _NOW_MS)
    decided.take(made)
    decided.records(made, ShardKeys("p", ShardRef(Role.CARD, 0, "incarnation")))


def _read_stand_in(record: Any) -> None:
    from services.scoring.background import rescorer

    for row in rescorer._read([record]):
        _publish(row.stand_in.decision)


def _read_alert(record: Any) -> None:
    from services.console.alerts.record import read_alert
    from services.features.rebuild.first_decisions import decode_alerts

    decode_alerts([record])
    found = read_alert(record)
    if found is not None:
        assert 0 <= found.message.expected_loss_minor <= 10**13
        assert 0.0 <= found.score <= 1.0


def _read_rules(record: Any) -> None:
    from fraudstream.rules.version_log import VersionLog
    from fraudstream.signing import People

    VersionLog("cards", People({})).take(record)


_READERS: Final[Mapping[Topic, Callable[[Any], None]]] = {
    ACCEPTED: _read_accepted,
    DECISIONS: _read_decision,
    STAND_INS: _read_stand_in,
    ALERTS: _read_alert,
    LABELS: _read_label,
    ENTITIES: _read_entity_row,
    RULES: _read_rules,
}


@pytest.mark.parametrize("topic", _READERS, ids=lambda topic: topic.name)
def test_k2_to_k8_mutated_message_ends_no_reader(topic: Topic) -> None:
    """Each reader takes a record or passes it over, and what it takes can be worked on."""
    chance = random.Random(_SEED)  # noqa: S311  # the same attack each time
    message = _valid()[topic]
    keys = (_TOKEN.encode(), b"terminal:bank/terminal-1", b"cards", b"", None)
    for offset, value in enumerate(_mutations(message, chance)):
        for key in keys:
            _READERS[topic](_record(topic, value, key, offset))


@pytest.mark.parametrize("topic", [ACCEPTED, DECISIONS, SHADOWED, LABELS], ids=lambda t: t.name)
def test_mutated_message_stops_no_archive(topic: Topic) -> None:
    """Its columns are made of the others; a good record is among them."""
    from services.archive.streams import STREAMS

    chance = random.Random(_SEED)  # noqa: S311  # the same attack each time
    message = _valid()[topic]
    (stream,) = (stream for stream in STREAMS if stream.topic is topic)
    values = [message.SerializeToString(), *_mutations(message, chance)]
    records = [_record(topic, value, b"", offset) for offset, value in enumerate(values)]

    batch = stream.rows_of(0, records)

    assert 0 in batch["log_offset"].to_pylist()


def test_k3_step_that_no_card_has_is_no_stand_in() -> None:
    """A kind of 1e10 is finite; the alert that it would go into has no such number."""
    from services.scoring.background import rescorer

    message = _valid()[STAND_INS]
    assert isinstance(message, StandIn)
    message.decision.sequence = _sequence(1e10)

    assert rescorer._read([_record(STAND_INS, message.SerializeToString(), b"", 0)]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"decision_id": "zz"},
        {"card_token": "other.k1." + "0" * 32},
        {"digest": bytes(32)},
        {"score": float("nan")},
        {"action": 77},
        {"model_hash": "EVIL\0"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_k4_carried_decision_must_be_about_its_row(change: dict[str, Any]) -> None:
    """What a row brings is recorded as its decision, so it is checked as one."""
    from services.features.rows.accepted_rows import AcceptedRow, decode_row

    message = _valid()[ACCEPTED]
    assert isinstance(message, AcceptedTransaction)
    for name, content in change.items():
        setattr(message.decision, name, content)

    row = decode_row(_record(ACCEPTED, message.SerializeToString(), _TOKEN.encode(), 0), 0.0)

    assert not isinstance(row, AcceptedRow)


@pytest.mark.parametrize(
    "change",
    [
        {"currency": "<script>"},
        {"kind": 77},
        {"channel": 77},
        {"bank_id": "other"},
        {"event_time_ms": _NOW_MS + 40 * 365 * 86_400_000},
        {"amount_minor": 2**62},
        {"pan": "4" + "0" * 14 + "2"},
        {"merchant_id": "a\0"},
        {"mcc": "five"},
        {"country": "ZZ"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_k4_row_that_no_door_lets_through_is_not_decided(change: dict[str, Any]) -> None:
    """A forged row would close its card's windows for ever, or show a script to an analyst."""
    from services.features.rows.accepted_rows import AcceptedRow, decode_row

    spent = _transaction()
    for name, content in change.items():
        setattr(spent, name, content)
    value = AcceptedTransaction(transaction=spent).SerializeToString()

    row = decode_row(_record(ACCEPTED, value, spent.card_token.encode(), 0), 0.0)

    assert not isinstance(row, AcceptedRow)


@pytest.mark.parametrize(
    "change", [{"source": 0}, {"disposition": 9}, {"bank_id": "other"}, {"analyst": "a" * 300}]
)
def test_k7_label_that_nobody_settled_reaches_no_entity(change: dict[str, Any]) -> None:
    """A label moves the risk of its terminal and merchant for a month."""
    from services.features.roles.label import decode_label

    message = _valid()[LABELS]
    for name, content in change.items():
        setattr(message, name, content)

    found = decode_label(_record(LABELS, message.SerializeToString(), _TOKEN.encode(), 0))

    assert not isinstance(found, (Label, tuple))


def test_c5_and_k8_loss_of_an_alert_is_bounded() -> None:
    """A sum of two such numbers does not fit into SQLite's integers."""
    from services.console.alerts.record import read_alert

    message = _valid()[ALERTS]
    assert isinstance(message, Alert)
    message.expected_loss_minor = 2**63 - 1

    assert read_alert(_record(ALERTS, message.SerializeToString(), b"", 0)) is None


def test_p5_row_of_the_inner_door_holds_no_card_number() -> None:
    """The features service is trusted with what it computed, not with what must never be there."""
    from fraudstream.errors import InvalidTransaction
    from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow
    from services.scoring.stream.request import read_batch

    spent = _transaction()
    spent.pan = "4" + "0" * 14 + "2"
    row = FeatureRow(
        transaction=spent,
        digest=digest_of(spent),
        vector=bytes(4 * len(FEATURE_HASHES)),
        sequence=_sequence(),
    )
    request = FeatureBatchRequest(
        rows=[row], feature_hashes=FEATURE_HASHES, sequence_hash=SEQUENCE_HASH
    )

    with pytest.raises(InvalidTransaction):
        read_batch(request, _NOW_MS)


class _Line:
    """Topics of one test on real Kafka, and a way to write what nobody of ours wrote."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = environment
        self.kafka = kafka_settings_in(environment)
        self.folder = folder
        self._producer = KafkaProducer(**kafka_python_producer_options(self.kafka))

    def put(self, topic: Topic, key: bytes | None, value: bytes | None) -> None:
        """Append a record, acknowledged on return."""
        name = self.kafka.topic(topic)
        self._producer.send(name, key=key, value=value, partition=0).get(timeout=30)

    def quarantined(self) -> set[str]:
        """Return the reasons of what is in quarantine."""
        from fraudstream.topics import QUARANTINE

        return {
            dict(record.headers)["reason"].decode() for record in read_topic(self.kafka, QUARANTINE)
        }


@pytest.fixture
def line(kafka_broker: Broker, valkey: ValkeyServer, tmp_path: Path) -> _Line:
    """Topics with one partition each."""
    write_seal_keys(tmp_path / "private.key", tmp_path / "public.key")
    environment = {
        **environment_of_test(kafka_broker, valkey),
        "FRAUD_INGEST_TOPIC_PARTITIONS": "1",
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(tmp_path / "public.key"),
        "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE": str(tmp_path / "public.key"),
        "FRAUD_FEATURES_STATE_DIR": str(tmp_path / "features"),
        "FRAUD_FEATURES_DELIVERY_TIMEOUT_S": "0",
    }
    create_topics(environment, tmp_path)
    return _Line(environment, tmp_path)


@pytest.mark.slow
@pytest.mark.kafka
def test_k4_k5_k6_forged_rows_end_no_worker_and_freeze_no_entity(
    line: _Line, service: ServiceLauncher
) -> None:
    """Rows, heartbeats and decisions that none of ours wrote; then an honest one counts."""
    from fraudstream.broker.topic_info import find_log

    scorer = FakeScorer()
    env = {**line.environment, "FRAUD_FEATURES_SCORING_ADDRESS": scorer.address}
    topic_id = find_log(line.kafka, ACCEPTED).topic_id
    beat = EntityRow(
        kind="ENTITY_ROW_KIND_HEARTBEAT",
        source_topic_id=topic_id,
        source_offset=2**60,
        source_time_ms=_NOW_MS,
    )
    odd = _valid()[ENTITIES]
    assert isinstance(odd, EntityRow)
    odd.transaction_kind = 1_000  # type: ignore[assignment]  # none of ours
    forged = _valid()[ACCEPTED]
    assert isinstance(forged, AcceptedTransaction)
    forged.decision.decision_id = "zz"
    honest = AcceptedTransaction(transaction=_transaction("t-2")).SerializeToString()
    for topic, key, value in (
        (ENTITIES, b"heartbeat", beat.SerializeToString()),
        (ENTITIES, b"terminal:bank/terminal-1", odd.SerializeToString()),
        (ENTITIES, b"heartbeat", None),
        (ENTITIES, None, b""),
        (ACCEPTED, _TOKEN.encode(), forged.SerializeToString()),
        (ACCEPTED, None, honest),
        (LABELS, None, b"\xff"),
    ):
        line.put(topic, key, value)
    line.put(ACCEPTED, _TOKEN.encode(), honest)

    workers = [service("services.features", [role], env) for role in ("card", "entity", "label")]

    assert wait_until(lambda: scorer.seen() == ["t-2"], _WAIT_S)
    assert wait_until(lambda: {"SOURCE", "BOUNDS", "DECODE"} <= line.quarantined(), _WAIT_S)
    assert [worker.exit_code for worker in workers] == [None] * 3
    scorer.stop()


@pytest.mark.slow
@pytest.mark.kafka
def test_k9_record_without_headers_ends_no_list_of_dead_letters(line: _Line) -> None:
    """Whoever may write the topic must not hide the letters of others."""
    nested = b"[" * 100_000
    for value in (b"", b"x", nested, b'{"append_time_ms":"x"}'):
        line.put(DLQ, None, value)

    command = ServiceProcess("services.ingest", ["dlq", "list"], line.environment, line.folder)
    command.launch()

    assert command.wait_end(timeout_s=60.0)
    assert command.exit_code == 0
