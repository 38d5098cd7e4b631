"""Records forged or moved by somebody who may write to one topic behind ingest, and no more.

Nothing here knows a key: the attacker reads every topic and writes to the one that is attacked.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from google.protobuf.message import DecodeError
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from fraudstream.runtime.clock import epoch_ms
from fraudstream.store.shard import Role, ShardKeys, ShardRef
from fraudstream.topics import (
    ACCEPTED,
    ALERTS,
    DECISIONS,
    ENTITIES,
    LABELS,
    RAW,
    Topic,
    partition_of,
)
from fraudstream.transaction.formats import CONTENT_TYPE, PROTOBUF
from fraudstream.transaction.identity import identity_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Action, Decision
from fraudstream.v1.features_pb2 import EntityKind, EntityRow, EntityRowKind
from fraudstream.v1.label_pb2 import Disposition, Label
from fraudstream.v1.transaction_pb2 import Transaction
from harness.line import SERVICES, Line
from harness.processes import wait_until
from harness.settings import kafka_settings_in
from tests.conftest import environment_of_test
from training.simulator.simulate import SimulationSettings, live_traffic

pytestmark = pytest.mark.attack

_ARCHIVE: Final = ("services.archive", ())
_PATIENCE_S: Final = 60.0
_YEAR_MS: Final = 365 * 86_400_000

Position = tuple[str, int, int]


@dataclass(frozen=True)
class World:
    """A running line, and the attacker's clients.

    Attributes:
        line: Every service, on a broker of Kafka's protocol.
        producer: Writes to any topic.
        transactions: Purchases that nobody sent yet.
    """

    line: Line
    producer: Any
    transactions: Iterator[Transaction]

    def name(self, topic: Topic) -> str:
        """Return a topic's name in this deployment."""
        return kafka_settings_in(self.line.environment).topic(topic)

    def write(
        self,
        topic: Topic,
        key: bytes,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> Position:
        """Write a record to the partition of its key, or to another; return where it lies."""
        name = self.name(topic)
        if partition is None:
            partition = partition_of(key, len(self.producer.partitions_for(name)))
        sent = self.producer.send(
            name, key=key, value=value, headers=list(headers), partition=partition
        ).get(timeout=30)
        return sent.topic, sent.partition, sent.offset

    def read(self, name: str) -> list[Any]:
        """Return all records of a topic, as any reader of it finds them."""
        bootstrap = kafka_settings_in(self.line.environment).bootstrap
        options = {"enable_auto_commit": False, "fetch_max_wait_ms": 50}
        with closing(KafkaConsumer(bootstrap_servers=bootstrap, **options)) as consumer:
            numbers = consumer.partitions_for_topic(name) or ()
            positions = [TopicPartition(name, number) for number in numbers]
            consumer.assign(positions)
            consumer.seek_to_beginning(*positions)
            ends = consumer.end_offsets(positions)
            found: list[Any] = []
            gives_up_at = time.monotonic() + _PATIENCE_S
            while any(consumer.position(position) < ends[position] for position in positions):
                assert time.monotonic() < gives_up_at
                for chunk in consumer.poll(timeout_ms=200).values():
                    found += chunk
            return found

    def until(self, found: Callable[[], Any]) -> Any:
        """Return the first true outcome."""
        outcome = None

        def has_come() -> bool:
            nonlocal outcome
            outcome = found()
            return bool(outcome)

        assert wait_until(has_come, _PATIENCE_S, poll_s=0.2), "nothing came"
        return outcome

    def decide(self, transaction: Transaction) -> Decision:
        """Send a transaction as a bank does; return its decision."""
        self.producer.send(
            self.name(RAW),
            value=transaction.SerializeToString(),
            headers=[(CONTENT_TYPE, PROTOBUF)],
        ).get(timeout=30)
        decided: Decision = self.until(lambda: self.decision_of(transaction.transaction_id))
        return decided

    def decision_of(self, transaction_id: str) -> Decision | None:
        """Return the decision of a transaction, None for none."""
        decisions = (one for _, one in self.messages(DECISIONS, Decision))
        return next((one for one in decisions if one.transaction_id == transaction_id), None)

    def messages(self, topic: Topic, kind: Any) -> list[tuple[Any, Any]]:
        """Return the records of a topic that are messages of its kind, and the messages."""
        found = []
        for record in self.read(self.name(topic)):
            with suppress(DecodeError):
                found.append((record, kind.FromString(record.value)))
        return found

    def quarantined(self, position: Position) -> dict[str, str]:
        """Return the headers of the entry that tells of a record; wait for it."""
        topic = self.name(ACCEPTED).removesuffix(ACCEPTED.name) + "quarantine.v1"
        key = "/".join(map(str, position)).encode()

        def entry() -> dict[str, str] | None:
            entries = [one for one in self.read(topic) if one.key == key]
            return {n: c.decode() for one in entries[:1] for n, c in one.headers} or None

        told: dict[str, str] = self.until(entry)
        return told

    def find(self, topic: Topic, transaction_id: str, message: Any) -> Any:
        """Return the record of a transaction in a topic."""
        return self.until(
            lambda: next(
                (
                    record
                    for record, found in self.messages(topic, message)
                    if _id_of(found) == transaction_id
                ),
                None,
            )
        )


def _id_of(message: Any) -> str:
    inner = getattr(message, "transaction", message)
    return str(inner.transaction_id)


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The whole line with archive and console, and a first purchase that is decided."""
    folder = tmp_path_factory.mktemp("line")
    servers = environment_of_test(
        request.getfixturevalue("broker"), request.getfixturevalue("valkey")
    )
    more = {"FRAUD_ARCHIVE_ROOT": str(folder / "archive")}
    line = Line(folder, servers, more, (*SERVICES, _ARCHIVE))
    line.prepare()
    settings = SimulationSettings(cards=50, start_ms=epoch_ms())
    traffic = (one.transaction for one in live_traffic(settings))
    bootstrap = kafka_settings_in(servers).bootstrap
    plain = {"acks": 1, "enable_idempotence": False}
    with closing(KafkaProducer(bootstrap_servers=bootstrap, **plain)) as producer:
        try:
            line.start()
            yield World(line, producer, _of_now(traffic))
        finally:
            line.stop()


def _of_now(traffic: Iterator[Transaction]) -> Iterator[Transaction]:
    """Yield transactions that happen when they are asked for."""
    for number, transaction in enumerate(traffic):
        transaction.transaction_id = f"attack-{number}"
        transaction.event_time_ms = epoch_ms()
        yield transaction


def _accepted_of(world: World) -> tuple[Any, AcceptedTransaction]:
    """Have a purchase decided; return its record in the accepted topic."""
    transaction = next(world.transactions)
    world.decide(transaction)
    record = world.find(ACCEPTED, transaction.transaction_id, AcceptedTransaction)
    return record, AcceptedTransaction.FromString(record.value)


def test_k4_forged_row_does_not_dictate_its_decision(world: World) -> None:
    """A decision that a row carries counts only where scoring wrote the row."""
    record, row = _accepted_of(world)
    row.transaction.transaction_id = "forged-1"
    row.raw_append_time_ms = 0
    row.decision.CopyFrom(
        Decision(
            decision_id="0" * 32,
            bank_id=row.transaction.bank_id,
            transaction_id="forged-1",
            card_token=row.transaction.card_token,
            action=Action.ACTION_APPROVE,
            model_hash="EVIL",
        )
    )

    position = world.write(ACCEPTED, record.key, row.SerializeToString(), record.headers)
    told = world.quarantined(position)
    honest, _ = _accepted_of(world)

    assert told["reason"] == "UNTRUSTED"
    assert world.decision_of("forged-1") is None
    assert honest.key


def test_k4_forged_decision_is_not_archived(world: World) -> None:
    """What restores records after a loss, and what is studied later, comes from scoring alone."""
    transaction = next(world.transactions)
    decision = world.decide(transaction)
    decision.decision_id, decision.transaction_id = "f" * 32, "forged-2"
    decision.action = Action.ACTION_APPROVE

    position = world.write(DECISIONS, decision.card_token.encode(), decision.SerializeToString())
    told = world.quarantined(position)

    assert (told["reason"], told["reader"]) == ("UNTRUSTED", "archive")


def test_c5_forged_alert_never_reaches_the_queue(world: World) -> None:
    """No analyst sees what scoring did not raise."""
    decision = world.decide(next(world.transactions))
    decision.decision_id = "e" * 32
    alert = Alert(
        alert_id="e" * 32,
        decision=decision,
        raised_at_ms=decision.event_time_ms,
        expected_loss_minor=2**63 - 1,
    )

    position = world.write(ALERTS, decision.card_token.encode(), alert.SerializeToString())
    told = world.quarantined(position)

    assert (told["reason"], told["reader"]) == ("UNTRUSTED", "console")
    assert _stored_alerts(world.line.folder, "e" * 32) == 0


def _stored_alerts(folder: Path, alert_id: str) -> int:
    with closing(sqlite3.connect(folder / "console.sqlite3")) as database:
        found = database.execute("SELECT count(*) FROM alert WHERE alert_id = ?", [alert_id])
        return int(found.fetchone()[0])


def test_k7_forged_label_says_nothing_of_a_terminal(world: World) -> None:
    """A fraud that nobody settled moves no terminal and no merchant."""
    _, row = _accepted_of(world)
    transaction = row.transaction
    label = Label(
        label_id="forged-label",
        bank_id=transaction.bank_id,
        card_token=transaction.card_token,
        transaction_id="nobody-made-it",
        disposition=Disposition.DISPOSITION_CONFIRMED_FRAUD,
        event_time_ms=transaction.event_time_ms,
        settled_at_ms=transaction.event_time_ms,
        terminal_id=transaction.terminal_id,
        merchant_id=transaction.merchant_id,
    )

    position = world.write(LABELS, label.card_token.encode(), label.SerializeToString())
    told = world.quarantined(position)

    rows = [row for _, row in world.messages(ENTITIES, EntityRow)]
    assert told["reason"] == "UNTRUSTED"
    assert not [one for one in rows if one.kind == EntityRowKind.ENTITY_ROW_KIND_LABEL]


def test_k5_forged_heartbeat_freezes_no_entity(world: World) -> None:
    """A source that has not come so far moves no watermark."""
    now_ms = epoch_ms()
    record = world.until(lambda: world.read(world.name(ENTITIES)))[0]
    beat = EntityRow(
        kind=EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT,
        source_topic_id=EntityRow.FromString(record.value).source_topic_id,
        source_partition=record.partition,
        source_offset=1 << 60,
        source_time_ms=now_ms + 30 * _YEAR_MS,
    )
    count = len(world.producer.partitions_for(world.name(ENTITIES)))

    positions = [
        world.write(ENTITIES, b"heartbeat", beat.SerializeToString(), partition=partition)
        for partition in range(count)
    ]
    reasons = {world.quarantined(position)["reason"] for position in positions}
    decision = world.decide(next(world.transactions))

    assert reasons == {"UNTRUSTED"}
    assert decision.freshness.shared_watermark_ms < now_ms + _YEAR_MS


def test_forged_record_of_another_body_buries_no_honest_row(world: World) -> None:
    """Features took a record in the store for scoring's, and the transaction for a conflict."""
    known, wanted = next(world.transactions), next(world.transactions)
    of_card = world.decide(known)
    wanted.ClearField("pan")
    wanted.bank_id, wanted.card_token = of_card.bank_id, of_card.card_token
    identity = identity_of(wanted.bank_id, wanted.card_token, wanted.transaction_id)
    partition = partition_of(
        wanted.card_token.encode(), len(world.producer.partitions_for(world.name(ACCEPTED)))
    )
    environment = world.line.environment
    names = ShardKeys(environment["FRAUD_REDIS_KEY_PREFIX"], ShardRef(Role.CARD, partition, ""))
    with closing(redis.Redis.from_url(environment["FRAUD_REDIS_URL"])) as client:
        client.set(names.record(identity), b"0" * 32 + of_card.SerializeToString())

    assert world.decide(wanted).model_hash == of_card.model_hash


def test_k6_forged_entity_row_ends_no_process(world: World) -> None:
    """A row of another writer never comes to the states."""
    row = EntityRow(
        kind=EntityRowKind.ENTITY_ROW_KIND_TRANSACTION,
        entity_kind=EntityKind.ENTITY_KIND_TERMINAL,
        entity_key="bank/t1",
        source_topic_id=bytes(16),
    )
    # Field 10, the kind of the transaction: 1000, which no byte holds.
    forged = row.SerializeToString() + b"\x50\xe8\x07"

    position = world.write(ENTITIES, b"terminal", forged, partition=0)
    told = world.quarantined(position)

    assert told["reason"] in {"UNTRUSTED", "BOUNDS"}
    assert all(service.is_running for service in world.line.services)


@pytest.mark.parametrize("elsewhere", [ACCEPTED, DECISIONS, LABELS], ids=lambda t: t.name)
def test_k4_true_record_is_refused_elsewhere(world: World, elsewhere: Topic) -> None:
    """In another topic, and in another partition of its own."""
    record, _ = _accepted_of(world)
    partition = record.partition
    if elsewhere is ACCEPTED:
        partition = (partition + 1) % len(world.producer.partitions_for(record.topic))

    position = world.write(elsewhere, record.key, record.value, record.headers, partition)

    assert world.quarantined(position)["reason"] == "UNTRUSTED"


def test_k4_true_record_that_is_written_again_decides_nothing(world: World) -> None:
    """Its identity is claimed: there is one decision, the first."""
    record, row = _accepted_of(world)

    world.write(ACCEPTED, record.key, record.value, record.headers, record.partition)
    _accepted_of(world)

    ids = [one.transaction_id for _, one in world.messages(DECISIONS, Decision)]
    assert ids.count(row.transaction.transaction_id) == 1
