"""The features service on a real broker and store, in front of a scorer that approves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition

from fraudstream.broker.clients import kafka_python_options, kafka_python_producer_options
from fraudstream.broker.log_reader import LogRecord, read_topic
from fraudstream.broker.topic_info import Log, find_log
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.features.catalogue import SHARED_ENTITIES, Entity
from fraudstream.features.state import DAY_MS
from fraudstream.features.stored_values import entity_keys
from fraudstream.store.entity_reader import EntityReader, SharedView
from fraudstream.store.entity_rows import decode_entity_row
from fraudstream.store.shard import Marker, Role, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import (
    ACCEPTED,
    DECISIONS,
    DLQ,
    ENTITIES,
    LABELS,
    QUARANTINE,
    Topic,
    partition_of,
)
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind
from fraudstream.v1.label_pb2 import Disposition, Label, LabelSource
from fraudstream.v1.transaction_pb2 import Transaction
from harness.processes import wait_until
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in, redis_settings_in
from tests.conftest import ServiceLauncher
from tests.fakes.fake_scorer import FakeScorer
from tests.material.kafka_bytes import write_foreign
from tests.worlds.accepted_rows import EVENT_MS, token_of, transaction_of

pytestmark = pytest.mark.slow
T = TypeVar("T")
_WAIT_S = 90.0
_CARD = token_of("card-1")
_FRAUD = Disposition.DISPOSITION_CONFIRMED_FRAUD


@dataclass
class FeaturesWorld:
    """Topics and store of one test, and the ways to look into them."""

    environment: Mapping[str, str]
    scorer: FakeScorer
    launch: ServiceLauncher

    def __post_init__(self) -> None:
        self.kafka = kafka_settings_in(self.environment)
        self.log: Log = find_log(self.kafka, ACCEPTED)
        self.partition = partition_of(_CARD.encode(), self.log.partitions)
        self.shard = ShardRef(Role.CARD, self.partition, self.log.incarnation)
        self.producer = KafkaProducer(**kafka_python_producer_options(self.kafka))

    def start(self, role: str = "card") -> ServiceProcess:
        """Start a worker of one role; it is ready on return."""
        return self.launch("services.features", [role], self.environment)

    def put(self, topic: Topic, key: bytes | None, value: bytes) -> None:
        """Append one record to the partition of this test's card, acknowledged on return."""
        sent = self.producer.send(
            self.kafka.topic(topic), key=key, value=value, partition=self.partition
        )
        sent.get(timeout=30)

    def accept(self, transactions: Sequence[Transaction]) -> None:
        """Append accepted transactions."""
        for transaction in transactions:
            value = AcceptedTransaction(transaction=transaction).SerializeToString()
            self.put(ACCEPTED, transaction.card_token.encode(), value)

    def open_at(self, offset: int) -> None:
        """Open this test's shard."""

        async def work(store: StateStore) -> Marker:
            return await store.open_shard(self.shard, offset)

        self._ask(work)

    def set_layout(self, layout: str) -> None:
        """Have the marker name the layout of another release."""

        async def work(store: StateStore) -> None:
            await store.nodes.pipeline([("HSET", store.keys(self.shard).marker, "layout", layout)])

        self._ask(work)

    def next_offset(self) -> int:
        """Return the marker's `next`, 0 where there is none."""

        async def work(store: StateStore) -> int:
            marker = await store.marker(self.shard)
            return marker.next_offset if marker else 0

        return self._ask(work)

    def shared(self, transaction: Transaction) -> dict[Entity, np.void]:
        """Return what the shards of a transaction's entities hold."""
        entities = find_log(self.kafka, ENTITIES)
        keys = entity_keys(transaction)

        async def work(store: StateStore) -> SharedView:
            reader = EntityReader(store, entities.partitions)
            return await reader.read([keys], self.log.incarnation)

        view = self._ask(work)
        named = zip(SHARED_ENTITIES, keys, view.indices, strict=True)
        return {entity: view.states[places[key]] for entity, key, places in named if key}

    def commit(self, offset: int) -> None:
        """Commit a position in the workers' group, as an earlier worker would have."""
        place = TopicPartition(self.log.name, self.partition)
        options = kafka_python_options(self.kafka)
        group = self.kafka.group("features-card")
        consumer = KafkaConsumer(group_id=group, enable_auto_commit=False, **options)
        consumer.assign([place])
        consumer.commit({place: OffsetAndMetadata(offset, "", -1)})
        consumer.close()

    def reasons(self, topic: Topic = DLQ) -> list[str]:
        """Return the reasons of all dead letters, or of all that is in quarantine."""
        return sorted(dict(r.headers)["reason"].decode() for r in read_topic(self.kafka, topic))

    def entity_rows(self) -> list[EntityRow]:
        """Return the entities' rows that are no heartbeats."""
        records: list[LogRecord] = read_topic(self.kafka, ENTITIES)
        rows = [row for record in records if (row := decode_entity_row(record)) is not None]
        return [row for row in rows if row.kind != EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT]

    def _ask(self, work: Callable[[StateStore], Awaitable[T]]) -> T:
        """Do something with a connected store."""

        async def run() -> T:
            store = StateStore(redis_settings_in(self.environment))
            await store.connect()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())


@pytest.fixture
def world(
    topics: Mapping[str, str], service: ServiceLauncher, tmp_path: Path
) -> Iterator[FeaturesWorld]:
    """Topics, keys and a scorer; no worker runs yet."""
    write_seal_keys(tmp_path / "private.key", tmp_path / "public.key")
    scorer = FakeScorer()
    environment = {
        **topics,
        "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE": str(tmp_path / "public.key"),
        "FRAUD_FEATURES_SCORING_ADDRESS": scorer.address,
        "FRAUD_FEATURES_STATE_DIR": str(tmp_path / "features"),
        "FRAUD_FEATURES_DELIVERY_TIMEOUT_S": "0",
    }
    yield FeaturesWorld(environment, scorer, service)
    scorer.stop()


def test_shard_without_marker_but_with_decisions_is_rebuilt_first(world: FeaturesWorld) -> None:
    """A store that lost its content decides nothing before its worker has read the decisions."""
    world.accept([transaction_of("t-1")])
    world.put(DECISIONS, _CARD.encode(), b"\xff made before the loss")

    worker = world.start()

    assert wait_until(lambda: world.next_offset() == 1, _WAIT_S)
    assert f"shard p{world.partition} is closed: the store lost its content" in worker.log_text()
    assert f"shard p{world.partition}: rebuilt from" in worker.log_text()
    assert world.scorer.seen() == ["t-1"]


def test_worker_of_another_layout_ends_with_the_code_of_settings(world: FeaturesWorld) -> None:
    """Its partitions go to a worker of the release that goes on; a restart alone does not help."""
    world.open_at(0)
    world.set_layout("another")

    worker = world.start()

    assert wait_until(lambda: worker.exit_code == 78, _WAIT_S)
    assert "run `fraudstream features rebuild`" in worker.log_text()


def test_worker_begins_at_the_marker_when_kafka_is_behind(world: FeaturesWorld) -> None:
    """Rows below `next` are in the state: they are skipped, though nothing was committed."""
    world.accept([transaction_of(f"t-{number}") for number in range(6)])
    world.open_at(3)

    world.start()

    assert wait_until(lambda: world.next_offset() == 6, _WAIT_S)
    assert world.scorer.seen() == ["t-3", "t-4", "t-5"]


def test_worker_goes_back_to_the_marker_when_kafka_is_ahead(world: FeaturesWorld) -> None:
    """Rows that Kafka believes done are read again, without waiting for a further row."""
    world.accept([transaction_of(f"t-{number}") for number in range(6)])
    world.open_at(3)
    world.commit(6)

    world.start()

    assert wait_until(lambda: world.next_offset() == 6, _WAIT_S)
    assert world.scorer.seen() == ["t-3", "t-4", "t-5"]


def test_bad_rows_leave_with_their_reason_and_the_rest_goes_on(world: FeaturesWorld) -> None:
    """Conflicts are dead letters, what is not ours is in quarantine; copies leave no trace."""
    good = transaction_of("t-1")
    no_state = transaction_of("t-2")
    no_state.utc_offset_minutes = 40_000
    value = AcceptedTransaction(transaction=good).SerializeToString()
    world.put(ACCEPTED, None, value)
    world.put(ACCEPTED, b"another card", value)
    world.put(ACCEPTED, _CARD.encode(), b"\xff\xff\xff")
    world.accept([no_state, good, good, transaction_of("t-1", 999), transaction_of("t-3")])

    world.start()

    assert wait_until(lambda: world.next_offset() == 8, _WAIT_S)
    assert world.scorer.seen() == ["t-1", "t-3"]
    assert world.reasons() == ["ID_CONFLICT"]
    assert wait_until(lambda: len(world.reasons(QUARANTINE)) == 4, _WAIT_S)
    assert world.reasons(QUARANTINE) == ["BOUNDS", "DECODE", "KEY", "KEY"]


def test_what_no_client_can_read_costs_no_row(world: FeaturesWorld) -> None:
    """On each topic of the three roles: the records around it are worked on, the log names it."""
    world.accept([transaction_of("t-1")])
    for topic in (ACCEPTED, ENTITIES, LABELS):
        write_foreign(world.kafka.bootstrap, world.kafka.topic(topic), world.partition)
        world.put(topic, b"any", b"\xff\xff\xff")
    world.accept([transaction_of("t-2")])
    label = _label_of(transaction_of("t-1"), _FRAUD)
    world.put(LABELS, label.card_token.encode(), label.SerializeToString())

    workers = [world.start(role) for role in ("card", "entity", "label")]

    assert wait_until(lambda: world.scorer.seen() == ["t-1", "t-2"], _WAIT_S)
    is_label = EntityRowKind.ENTITY_ROW_KIND_LABEL
    assert wait_until(lambda: is_label in {row.kind for row in world.entity_rows()}, _WAIT_S)
    assert wait_until(lambda: bool(world.shared(transaction_of("t-1"))), _WAIT_S)
    for worker in workers:
        assert f"partition {world.partition}, offset" in worker.log_text()
        assert "cannot be read and is passed over" in worker.log_text()
        assert worker.stop() == 0


def test_row_reaches_its_entities_only_when_it_is_decided(world: FeaturesWorld) -> None:
    """A batch that scoring refuses may hold a conflict: no entity counts it yet."""
    world.scorer.refusals = sys.maxsize
    world.accept([transaction_of("t-1"), transaction_of("t-2")])
    world.start()

    assert wait_until(lambda: world.scorer.refused >= 3, _WAIT_S)
    counted_early = world.entity_rows()
    world.scorer.refusals = 0
    assert wait_until(lambda: world.next_offset() == 2, _WAIT_S)

    assert counted_early == []
    assert sorted(row.source_offset for row in world.entity_rows()) == [0, 0, 1, 1]


def _label_of(
    transaction: Transaction, disposition: Disposition, settled_after_ms: int = DAY_MS
) -> Label:
    return Label(
        label_id=f"l-{transaction.transaction_id}-{disposition}",
        bank_id=transaction.bank_id,
        transaction_id=transaction.transaction_id,
        card_token=transaction.card_token,
        source=LabelSource.LABEL_SOURCE_CHARGEBACK,
        event_time_ms=transaction.event_time_ms,
        disposition=disposition,
        customer_id=transaction.customer_id,
        merchant_id=transaction.merchant_id,
        terminal_id=transaction.terminal_id,
        device_id=transaction.device_id,
        ip=transaction.ip,
        settled_at_ms=transaction.event_time_ms + settled_after_ms,
    )


def _spent(transaction_id: str, days: int = 0) -> Transaction:
    """Return a purchase with all six entities, so many days after the first."""
    spent = transaction_of(transaction_id, event_time_ms=EVENT_MS + days * DAY_MS)
    spent.customer_id, spent.device_id, spent.ip = "customer-1", "device-1", "192.0.2.1"
    return spent


def _is_label(row: EntityRow) -> bool:
    return row.kind == EntityRowKind.ENTITY_ROW_KIND_LABEL


def test_fraud_label_reaches_every_entity_after_seven_days(world: FeaturesWorld) -> None:
    """A label counts on the day of its transaction, which is read when it is settled.

    Sent twice it counts once; it changes the features of all six entities.
    """
    fraud = _spent("t-1")
    for role in ("entity", "label", "card"):
        world.start(role)
    world.accept([fraud])
    for _ in range(2):
        world.put(LABELS, _CARD.encode(), _label_of(fraud, _FRAUD).SerializeToString())

    def is_known() -> bool:
        held = world.shared(fraud)
        counted = {entity: int(state["day_count"].sum()) for entity, state in held.items()}
        return (
            sum(_is_label(row) for row in world.entity_rows()) == 2 * len(Entity)
            and counted == {entity: int(entity is not Entity.CARD) for entity in Entity}
            and all(int(state["day_fraud"].sum()) == 1 for state in held.values())
        )

    assert wait_until(is_known, _WAIT_S, poll_s=0.5)
    world.accept([_spent(f"day-{days}", days) for days in (7, 8)])
    assert wait_until(lambda: len(world.scorer.seen()) == 3, _WAIT_S)

    early, settled = (world.scorer.vector_of(name) for name in ("day-7", "day-8"))
    for name in (
        "card_fraud_count_30d",
        "customer_fraud_count_30d",
        "terminal_fraud_share_7d",
        "merchant_fraud_share_30d",
        "device_fraud_count_30d",
        "ip_fraud_count_30d",
    ):
        assert (early[name], settled[name]) == (0.0, 1.0), name


def test_label_of_any_kind_moves_the_count_as_it_says(world: FeaturesWorld) -> None:
    """Flipped, undetermined, of an unknown transaction, and dated before its transaction.

    Only the last is none that our services write: quarantine is told, and the others go on.
    """
    flipped, unclear, unknown, misdated = (_spent(f"t-{number}") for number in range(4))
    labels = [
        _label_of(flipped, _FRAUD),
        _label_of(unclear, Disposition.DISPOSITION_UNDETERMINED),
        _label_of(misdated, _FRAUD, settled_after_ms=-1),
        _label_of(unknown, _FRAUD),
        _label_of(flipped, Disposition.DISPOSITION_GENUINE),
    ]
    for role in ("entity", "label"):
        world.start(role)
    for label in labels:
        world.put(LABELS, _CARD.encode(), label.SerializeToString())

    def is_known() -> bool:
        seen = sum(_is_label(row) for row in world.entity_rows())
        held = [int(state["day_fraud"].sum()) for state in world.shared(unknown).values()]
        return seen == 3 * len(Entity) and held == [1] * len(Entity)

    assert wait_until(is_known, _WAIT_S, poll_s=0.5)
    assert world.reasons(QUARANTINE) == ["BOUNDS"]
