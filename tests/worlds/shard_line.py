"""Card and entity roles over real logs, store and scoring in this process, without a group.

Faust's part is played by a consumer that is given its partitions: a test says when a poll happens.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from fraudstream.broker.clients import (
    BatchProducer,
    OutRecord,
    aiokafka_options,
    kafka_python_options,
)
from fraudstream.broker.topic_info import Log, find_log
from fraudstream.dead_letters.letter import LetterWriter, write_seal_keys
from fraudstream.features.stored_values import CARD, CARD_VALUE, unpack_values
from fraudstream.keys.box_keys import load_public_key
from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.settings import TelemetrySettings
from fraudstream.store.entity_reader import EntityReader
from fraudstream.store.generations import Switch
from fraudstream.store.shard import Marker, Role, ShardKeys, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.spans import Telemetry
from fraudstream.topics import ACCEPTED, DECISIONS, DLQ, ENTITIES, Topic, partition_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.transaction_pb2 import Transaction
from services.features.rebuild.background import BackgroundRebuilds
from services.features.rebuild.card_filler import CardStates
from services.features.rebuild.job import Progress
from services.features.rebuild.rebuilder import TOPICS, Rebuilder, RebuildParts, rebuilder_of
from services.features.roles.card import CardParts, CardRole
from services.features.roles.entity import EntityRole
from services.features.roles.shard_loop import ShardOwner
from services.features.rows.accepted_rows import AcceptedRow, decode_row
from services.features.rows.dead_letters import Letters
from services.features.rows.entity_row_sender import EntityRowSender
from services.features.rows.scoring_client import ScoringStub
from services.features.rows.spans import SpanWriter
from services.features.shards.positions import Positions
from services.features.shards.source_ends import SourceEnds
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.accepted_rows import accepted_record
from tests.worlds.scoring_world import (
    ScoringWorld,
    canonical,
    card_token,
    kafka_settings,
    redis_settings,
    scoring_world,
    some_transaction,
)

PATIENCE_S: Final = 60.0
CARDS: Final = [card_token(number) for number in range(1, 9)]


def rows_of_cards(begin: int, end: int) -> list[Transaction]:
    """Return accepted rows, one card after the other; a number is a transaction id."""
    return [canonical(some_transaction(n, card=1 + n % len(CARDS))) for n in range(begin, end)]


@dataclass
class ShardRole:
    """One role of the features service and its consumer."""

    role: CardRole | EntityRole
    owner: ShardOwner
    consumer: AIOKafkaConsumer
    log: Log
    ended: list[tuple[int, str]]
    seeks: dict[int, int] = field(default_factory=dict)

    @property
    def busiest(self) -> int:
        """Return the partition of the first card."""
        return partition_of(CARDS[0].encode(), self.log.partitions)

    async def poll(self) -> Mapping[int, int]:
        """Give the role what has come."""
        found = await self.consumer.getmany(timeout_ms=60)
        finished = await self.role.handle({tp.partition: chunk for tp, chunk in found.items()})
        for partition, offset in self.seeks.items():
            self.consumer.seek(TopicPartition(self.log.name, partition), offset)
        self.seeks.clear()
        return finished


@dataclass
class ShardLine:
    """What a test does with the line."""

    environment: Mapping[str, str]
    scoring: ScoringWorld
    store: StateStore
    producer: BatchProducer
    folder: Path

    def __post_init__(self) -> None:
        self.kafka = kafka_settings(self.environment)

    async def log_of(self, topic: Topic) -> Log:
        """Return a topic as it is now."""
        return await asyncio.to_thread(find_log, self.kafka, topic)

    async def accept(self, transactions: Sequence[Transaction]) -> None:
        """Append accepted rows, in order."""
        log = await self.log_of(ACCEPTED)
        records = []
        for transaction in transactions:
            value = AcceptedTransaction(transaction=transaction).SerializeToString()
            key = transaction.card_token.encode()
            records.append(OutRecord(key, value, partition_of(key, log.partitions)))
        await self.producer.send(log.name, records)

    async def decisions(self) -> list[Decision]:
        """Return all decisions, one partition after the other."""
        values = await read_all(self.kafka, await self.log_of(DECISIONS))
        return [Decision.FromString(value) for value in values]

    async def entity_rows(self) -> list[bytes]:
        """Return all rows of the entities topic."""
        return await read_all(self.kafka, await self.log_of(ENTITIES))

    @asynccontextmanager
    async def role(
        self, role: Role, store: StateStore | None = None, delivery_timeout_s: float = 0.0
    ) -> AsyncIterator[ShardRole]:
        """Run a role over all partitions of its topic."""
        log, entities = await self.log_of(TOPICS[role]), await self.log_of(ENTITIES)
        used = store or self.store
        positions = Positions(used, self.kafka, role, TOPICS[role], log)
        positions.clock_ms = epoch_ms if role is Role.CARD else None
        rebuilds = BackgroundRebuilds(
            used, self.rebuilder(role, log, used), delivery_timeout_s, Progress()
        )
        ended: list[tuple[int, str]] = []
        owner = ShardOwner(positions, rebuilds, lambda code, text: ended.append((code, text)))
        stub = ScoringStub(f"127.0.0.1:{self.scoring.service.ports[1]}", 15.0)
        work = self._card_role(owner, used, entities, log, stub)
        if role is Role.ENTITY:
            work = EntityRole(used, owner, SourceEnds(self.kafka))  # type: ignore[assignment]  # one of the two
        consumer = AIOKafkaConsumer(
            **aiokafka_options(self.kafka), auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        await consumer.start()
        consumer.assign([TopicPartition(log.name, p) for p in range(log.partitions)])
        await consumer.seek_to_beginning()
        work.assigned(set(range(log.partitions)))
        running = ShardRole(work, owner, consumer, log, ended)
        positions.seek = running.seeks.__setitem__
        positions.highwater = lambda p: consumer.highwater(TopicPartition(log.name, p))
        try:
            yield running
        finally:
            rebuilds.assigned(set())
            await consumer.stop()
            await stub.close()

    def _card_role(
        self, owner: ShardOwner, store: StateStore, entities: Log, log: Log, stub: ScoringStub
    ) -> CardRole:
        keys = self.folder / "private.key", self.folder / "public.key"
        if not keys[0].exists():
            write_seal_keys(*keys)
        writer = LetterWriter(load_public_key(keys[1]), "features-card", epoch_ms)
        return CardRole(
            CardParts(
                store=store,
                owner=owner,
                entities=EntityReader(store, entities.partitions),
                sender=EntityRowSender(self.producer, entities, log, None),
                scoring=stub,
                letters=Letters(self.producer, writer, (self.kafka.topic(DLQ), log.partitions)),
                spans=SpanWriter(Telemetry(TelemetrySettings(), "features-card"), epoch_us),
                clock_us=epoch_us,
                sample_ratio=0.0,
            )
        )

    def rebuilder(self, role: Role, log: Log, store: StateStore | None = None) -> Rebuilder:
        """Return a rebuilder of one role."""
        return rebuilder_of(RebuildParts(store or self.store, self.kafka, epoch_ms), role, log)

    async def rebuild(self, role: Role) -> list[Switch]:
        """Rebuild every shard of a role as the command does; return what became of each."""
        rebuilder = self.rebuilder(role, await self.log_of(TOPICS[role]))
        filled = [await rebuilder.fill(p, Progress()) for p in range(rebuilder.partitions)]
        return [await rebuilder.switch(each) for each in filled]

    async def settle(self, running: ShardRole, applied: int, is_from: Role = Role.CARD) -> None:
        """Poll until all shards are open and stand, together, at `applied` rows."""

        async def has_applied() -> bool:
            await running.poll()
            markers = await self.markers(is_from, running.log)
            is_open = all(
                marker is not None and marker.is_open_for(replace(s, generation=marker.generation))
                for s, marker in markers.items()
            )
            return is_open and sum(m.next_offset for m in markers.values() if m) == applied

        await eventually(has_applied)

    async def markers(self, role: Role, log: Log) -> dict[ShardRef, Marker | None]:
        """Return the marker of each shard."""
        shards = [ShardRef(role, p, log.incarnation) for p in range(log.partitions)]
        return {shard: await self.store.marker(shard) for shard in shards}

    async def card_values(self, cards: Sequence[str]) -> dict[str, bytes | None]:
        """Return what the served generation holds of cards, and of their claims."""
        log = await self.log_of(ACCEPTED)
        found = {}
        for card in cards:
            partition = partition_of(card.encode(), log.partitions)
            names = await self.names(Role.CARD, partition, log)
            found[card] = (await self.store.read_many([names.state(CARD, card)]))[0][0]
        return found

    async def counted_rows(self, cards: Sequence[str]) -> int:
        """Return how many rows the states of cards have counted."""
        values = list((await self.card_values(cards)).values())
        return int(unpack_values(values, CARD_VALUE)["state"]["rows"].sum())

    async def values_of_kernel(self, rows: Sequence[Transaction]) -> dict[str, bytes]:
        """Return what the cards' values must be: the kernel over rows in order, and its vectors."""
        firsts: dict[bytes, bytes] = {}
        for decision in await self.decisions():
            firsts.setdefault(bytes.fromhex(decision.decision_id), decision.vector)
        states = CardStates()
        for number, row in enumerate(rows):
            decoded = decode_row(accepted_record(row, number), 0.0)
            assert isinstance(decoded, AcceptedRow)
            states.advance([decoded])
        names = self.store.keys(ShardRef(Role.CARD, 0, ""))
        stored = states.values(names, firsts)
        return {value.key.rpartition(":")[2]: value.content for value in stored}

    async def marker_of(self, partition: int) -> Marker | None:
        """Return the marker of a card shard."""
        return await self.store.marker(ShardRef(Role.CARD, partition, ""))

    async def names(self, role: Role, partition: int, log: Log) -> ShardKeys:
        """Return the keys of the served generation of a shard."""
        shard = ShardRef(role, partition, log.incarnation)
        marker = await self.store.marker(shard)
        assert marker is not None
        return self.store.keys(replace(shard, generation=marker.generation))

    async def widen(self, topics: Sequence[Topic], partitions: int) -> None:
        """Give topics more partitions."""
        wanted = {self.kafka.topic(topic): partitions for topic in topics}

        def create() -> None:
            admin = KafkaAdminClient(**kafka_python_options(self.kafka))
            admin.create_partitions(wanted)
            admin.close()

        await asyncio.to_thread(create)

    async def make_topics_anew(self, topics: Sequence[Topic]) -> None:
        """Delete topics and make them again, empty."""
        await asyncio.to_thread(_make_anew, self, topics)


async def read_all(kafka: object, log: Log) -> list[bytes]:
    """Return the values of a topic, one partition after the other."""
    from fraudstream.broker.log_reader import chunks_of

    values = []
    topic = Topic(log.name.removeprefix(kafka.topic_prefix), "", 0, ())  # type: ignore[attr-defined]
    for partition in range(log.partitions):
        async for chunk in chunks_of(kafka, topic, partition):  # type: ignore[arg-type]
            values += [record.value for record in chunk]
    return values


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so; fail when that takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        while not await is_so():  # noqa: ASYNC110  # what is asked is outside of this process
            await asyncio.sleep(0.02)


def _make_anew(line: ShardLine, topics: Sequence[Topic]) -> None:
    admin = KafkaAdminClient(**kafka_python_options(line.kafka))
    names = [line.kafka.topic(topic) for topic in topics]
    counts = {
        n: len(found["partitions"])
        for n, found in zip(names, admin.describe_topics(names), strict=True)
    }
    admin.delete_topics(names)
    for name in names:
        admin.create_topics({name: {"num_partitions": counts[name], "replication_factor": 1}})
    admin.close()


@asynccontextmanager
async def shard_line(environment: Mapping[str, str], folder: Path) -> AsyncIterator[ShardLine]:
    """Yield a line whose topics exist and whose shards nobody has opened."""
    async with AsyncExitStack() as stack:
        model = folder / f"model-{uuid.uuid4().hex[:6]}"
        tiny_artefact(model)
        world = await stack.enter_async_context(
            scoring_world(environment, model, is_open=False, default_deadline_ms=5_000)
        )
        store = StateStore(redis_settings(environment))
        await store.connect()
        stack.push_async_callback(store.close)
        producer = BatchProducer(kafka_settings(environment))
        await producer.start()
        stack.push_async_callback(producer.stop)
        yield ShardLine(environment, world, store, producer, folder)
