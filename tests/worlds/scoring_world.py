"""The scoring service inside a test: a real store, a real broker, and the tiny model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
from aiokafka import AIOKafkaConsumer, TopicPartition

from fraudstream.broker.clients import aiokafka_options
from fraudstream.features.catalogue import FEATURE_HASHES, SEQUENCE_HASH
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings, RatesSettings, RedisSettings, TelemetrySettings
from fraudstream.store.shard import FIRST_GENERATION, Role, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import Topic, incarnation_of, partition_of
from fraudstream.transaction.identity import digest_of
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow, ScoreBatchResponse
from fraudstream.v1.scoring_pb2_grpc import InternalScoringStub, ScoringStub
from fraudstream.v1.transaction_pb2 import Channel, EntryMode, Transaction, TransactionKind
from harness.processes import free_port
from services.scoring.process.build import build
from services.scoring.process.lifecycle import ScoringService
from services.scoring.settings import ScoringSettings, ServiceSettings
from tests.fakes.tiny_model import some_sequences, some_vectors
from tests.worlds.trust import RULES, served

TOPIC_ID: Final = bytes(range(16))
PARTITIONS: Final = 6
BANK: Final = "bank"


def card_token(number: int) -> str:
    """Return the token of a made-up card."""
    return f"{BANK}.k1.{number:032x}"


def some_transaction(number: int, card: int = 1, amount_minor: int = 1_250) -> Transaction:
    """Return a good transaction as a caller sends it; the same number is the same transaction."""
    return Transaction(
        bank_id=BANK,
        transaction_id=f"t-{number}",
        card_token=card_token(card),
        kind=TransactionKind.TRANSACTION_KIND_PURCHASE,
        merchant_id="m-1",
        terminal_id="term-1",
        mcc="5411",
        amount_minor=amount_minor,
        currency="EUR",
        event_time_ms=epoch_ms() // 1000 * 1000,
        channel=Channel.CHANNEL_POS,
        entry_mode=EntryMode.ENTRY_MODE_CHIP,
    )


def canonical(transaction: Transaction) -> Transaction:
    """Return it as ingest would accept it."""
    accepted = Transaction()
    accepted.CopyFrom(transaction)
    accepted.amount_reference_minor = transaction.amount_minor
    accepted.rate_table_version = "test"
    return accepted


def feature_rows(transactions: Sequence[Transaction], from_offset: int = 0) -> list[FeatureRow]:
    """Return rows as the features service sends them, with made-up features."""
    vectors = some_vectors(len(transactions), len(FEATURE_HASHES))
    sequences = some_sequences(len(transactions))
    return [
        FeatureRow(
            transaction=canonical(transaction),
            digest=digest_of(transaction),
            vector=vectors[place].tobytes(),
            sequence=sequences[place].tobytes(),
            offset=from_offset + place,
        )
        for place, transaction in enumerate(transactions)
    ]


def batch_of(
    rows: Sequence[FeatureRow], partition: int = 0, generation: str = FIRST_GENERATION
) -> FeatureBatchRequest:
    """Return a request for rows of one shard."""
    return FeatureBatchRequest(
        topic_id=TOPIC_ID,
        partition=partition,
        from_offset=rows[0].offset if rows else 0,
        generation=generation,
        rows=rows,
        feature_hashes=FEATURE_HASHES,
        sequence_hash=SEQUENCE_HASH,
    )


def card_shard(partition: int) -> ShardRef:
    """Return a card shard as the features service would open it."""
    return ShardRef(Role.CARD, partition, incarnation_of(TOPIC_ID, PARTITIONS))


def kafka_settings(environment: Mapping[str, str]) -> KafkaSettings:
    """Return the broker of a test, and the keys of its records where there are any."""
    folder = environment.get("FRAUD_KAFKA_RECORD_KEYS_DIR")
    return KafkaSettings(
        record_keys_dir=Path(folder) if folder else None,
        bootstrap=environment["FRAUD_KAFKA_BOOTSTRAP"],
        is_embedded=environment.get("FRAUD_KAFKA_IS_EMBEDDED") == "true",
        topic_prefix=environment["FRAUD_KAFKA_TOPIC_PREFIX"],
    )


def redis_settings(environment: Mapping[str, str]) -> RedisSettings:
    """Return the store of a test, which may share its cores with others for a while."""
    return RedisSettings.model_validate(
        {
            "timeout_s": 5.0,
            "url": environment["FRAUD_REDIS_URL"],
            "key_prefix": environment["FRAUD_REDIS_KEY_PREFIX"],
            "is_cluster": environment.get("FRAUD_REDIS_IS_CLUSTER") == "true",
        }
    )


async def open_shards(store: StateStore) -> None:
    """Open every card shard, as features workers do."""
    for partition in range(PARTITIONS):
        await store.open_shard(card_shard(partition), 0)


@asynccontextmanager
async def open_store(environment: Mapping[str, str]) -> AsyncIterator[StateStore]:
    """Yield a client of the test's store."""
    store = StateStore(redis_settings(environment))
    await store.connect()
    yield store
    await store.close()


@dataclass
class Log:
    """Reads the test's topics."""

    kafka: KafkaSettings

    async def read(self, topic: Topic, count: int, timeout_s: float = 30.0) -> list[bytes]:
        """Return the values of a topic, once there are `count`, or what there is in time."""
        consumer = AIOKafkaConsumer(**aiokafka_options(self.kafka))
        await consumer.start()
        name = self.kafka.topic(topic)
        consumer.assign([TopicPartition(name, partition) for partition in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        values: list[bytes] = []
        try:
            async with asyncio.timeout(timeout_s):
                while len(values) < count:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        values += [record.value for record in records if record.value is not None]
        except TimeoutError:
            pass
        finally:
            await consumer.stop()
        return values


@dataclass
class ScoringWorld:
    """A running service and its callers.

    Attributes:
        service: The service, in this process.
        settings: What it was told.
        store: A client of its store.
        log: Its topics.
    """

    service: ScoringService
    settings: ServiceSettings
    store: StateStore
    log: Log
    channels: list[grpc.aio.Channel] = field(default_factory=list)
    _internal: InternalScoringStub | None = None

    def channel(
        self, door: int, credentials: grpc.ChannelCredentials | None = None
    ) -> grpc.aio.Channel:
        """Return a channel of its own to `Scoring` (0) or `InternalScoring` (1)."""
        options = [
            ("grpc.max_send_message_length", 64 << 20),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        address = f"127.0.0.1:{self.service.ports[door]}"
        channel = (
            grpc.aio.secure_channel(address, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address, options)
        )
        self.channels.append(channel)
        return channel

    @property
    def front(self) -> ScoringStub:
        """Return a stub of `Scoring`."""
        return ScoringStub(self.channel(0))  # type: ignore[no-untyped-call]  # generated

    def shard_of(self, token: str) -> ShardRef:
        """Return the shard of a card."""
        return card_shard(partition_of(token.encode(), PARTITIONS))

    async def stream(self, request: FeatureBatchRequest) -> ScoreBatchResponse:
        """Call `InternalScoring.ScoreBatch` on one channel, as the features service does."""
        if self._internal is None:
            self._internal = InternalScoringStub(self.channel(1))  # type: ignore[no-untyped-call]  # generated
        response: ScoreBatchResponse = await self._internal.ScoreBatch(request, timeout=20)
        return response


@asynccontextmanager
async def scoring_world(
    environment: Mapping[str, str], model: Path | None, /, *, is_open: bool = True, **told: object
) -> AsyncIterator[ScoringWorld]:
    """Yield a running service over the test's servers, its shards open unless told otherwise."""
    model_told = served(model) if model else {"model": "", **RULES}
    scoring = ScoringSettings.model_validate(
        {"port": 0, "internal_port": 0, "grace_s": 1.0, **model_told, **told}
    )
    settings = ServiceSettings(
        scoring,
        kafka_settings(environment),
        redis_settings(environment),
        TelemetrySettings(),
        RatesSettings(),
    )
    async with open_store(environment) as store:
        if is_open:
            await open_shards(store)
        service = await build(settings)
        ready = asyncio.Event()
        running = asyncio.create_task(service.run(ready.set))
        await asyncio.wait(
            [running, asyncio.create_task(ready.wait())], return_when="FIRST_COMPLETED"
        )
        world = ScoringWorld(service, settings, store, Log(settings.kafka))
        try:
            yield world
        finally:
            for channel in world.channels:
                await channel.close(None)
            service.stop()
            await running


def free_ports() -> tuple[int, int]:
    """Return two ports that were free a moment ago."""
    return free_port(), free_port()
