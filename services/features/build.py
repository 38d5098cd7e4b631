"""Wire a features worker: one role, one topic, one Faust app."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, cast

import faust

from fraudstream.batch_agent import AgentSettings, BatchConsumer, PollHandler, batch_app
from fraudstream.bus import BatchProducer
from fraudstream.dead_letter import LetterWriter, load_public_key
from fraudstream.errors import InvalidSettings
from fraudstream.faust_worker import run_until_asked
from fraudstream.features.warm_up import warm_up
from fraudstream.readiness import keep_what_lives, say_ready
from fraudstream.settings import KafkaSettings, RedisSettings, TelemetrySettings
from fraudstream.shard import Role
from fraudstream.shared_entities import EntityReader
from fraudstream.state_store import StateStore
from fraudstream.telemetry import Telemetry
from fraudstream.topics import ACCEPTED, DLQ, ENTITIES, LABELS, Topic
from services.features.card import CardParts, CardRole
from services.features.entity import EntityRole
from services.features.entity_rows import EntityRowSender
from services.features.fillers import rebuilder_of
from services.features.filling import Progress
from services.features.label import LabelRole
from services.features.letters import Letters
from services.features.logs import Log, find_log
from services.features.mending import Mender
from services.features.observe import SpanWriter
from services.features.positions import Positions
from services.features.rebuild import RebuildParts
from services.features.scoring_stub import ScoringStub
from services.features.settings import FeaturesSettings
from services.features.shard_loop import ShardOwner
from services.features.watchdog import Watchdog, end_process

ROLES: Final = {"card": ACCEPTED, "entity": ENTITIES, "label": LABELS}
# Decisions wait for cards; what comes to shared entities is read by later ones.
_GATHER_S: Final = {"card": 0.0, "entity": 0.05, "label": 0.05}


def _now_us() -> int:
    return time.time_ns() // 1000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class AllSettings:
    """What a worker reads of its environment."""

    features: FeaturesSettings = field(default_factory=FeaturesSettings.read)
    kafka: KafkaSettings = field(default_factory=KafkaSettings.read)
    redis: RedisSettings = field(default_factory=RedisSettings.read)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings.read)


@dataclass(slots=True)
class LateHandler:
    """Stands for the role until the worker's event loop runs and its clients are connected."""

    connect: Callable[[], Awaitable[PollHandler]]
    role: PollHandler | None = None
    _assigned: set[int] = field(default_factory=set)

    def assigned(self, partitions: set[int]) -> None:
        """Pass a new assignment on, now or when the role is there."""
        self._assigned = partitions
        if self.role is not None:
            self.role.assigned(partitions)

    async def handle(self, records: Any) -> Any:
        """Connect at the first poll, then pass every poll on."""
        if self.role is None:
            role = await self.connect()
            role.assigned(self._assigned)
            self.role = role
            keep_what_lives()
            say_ready()
        return await self.role.handle(records)


class Worker:
    """One features worker."""

    def __init__(self, role: str, settings: AllSettings) -> None:
        """Look at the topics and wire the app; clients connect when it runs.

        Raises:
            InvalidSettings: A topic or key file is missing.
            BrokerUnavailable: The broker does not answer.
        """
        self._settings = settings
        self._scoring_access = settings.features.scoring_access()
        self._scoring_access.check(settings.features.scoring_address)
        self._role = role
        self._topic: Topic = ROLES[role]
        self._log = find_log(settings.kafka, self._topic)
        self._entities = find_log(settings.kafka, ENTITIES)
        self._store = StateStore(settings.redis, _now_ms)
        self._progress = Progress()
        self._telemetry = Telemetry(settings.telemetry, f"features-{role}")
        connect: dict[str, Callable[[], Awaitable[PollHandler]]] = {
            "card": self._connect_card,
            "entity": self._connect_entity,
            "label": self._connect_label,
        }
        state_dir = Path(settings.features.state_dir)
        state_dir.mkdir(parents=True, exist_ok=True)
        self.app: faust.App = batch_app(
            settings.kafka,
            AgentSettings(
                group=settings.kafka.group(f"features-{role}"),
                topic=self._log.name,
                instance_id=settings.features.instance_id,
                state_dir=str(state_dir / role),
                gather_s=_GATHER_S[role],
            ),
            LateHandler(connect[role]),
        )

    def run(self) -> NoReturn:
        """Work until a signal; never returns."""
        warm_up()
        run_until_asked(self.app)

    def make_scoring_stub(self) -> ScoringStub:
        """Return the way to scoring; gRPC connects at the first call."""
        features = self._settings.features
        return ScoringStub(
            features.scoring_address, features.scoring_timeout_s, self._scoring_access
        )

    async def _connect_card(self) -> PollHandler:
        settings = self._settings
        await self._store.connect()
        producer = await self._start_producer()
        return CardRole(
            CardParts(
                store=self._store,
                owner=self._owner(Role.CARD),
                entities=EntityReader(self._store, self._entities.partitions),
                sender=EntityRowSender(producer, self._entities, self._log, self._wall_clock_ms),
                scoring=self.make_scoring_stub(),
                letters=await self._letters(producer),
                spans=SpanWriter(self._telemetry, _now_us),
                clock_us=_now_us,
                sample_ratio=settings.telemetry.sample_ratio,
            )
        )

    async def _connect_entity(self) -> PollHandler:
        await self._store.connect()
        self._watch()
        return EntityRole(self._store, self._owner(Role.ENTITY))

    async def _connect_label(self) -> PollHandler:
        producer = await self._start_producer()
        sender = EntityRowSender(producer, self._entities, self._log, None)
        return LabelRole(sender, await self._letters(producer))

    async def _start_producer(self) -> BatchProducer:
        producer = BatchProducer(self._settings.kafka)
        await producer.start()
        self._watch()
        return producer

    async def _letters(self, producer: BatchProducer) -> Letters:
        path = self._settings.features.seal_public_key_file
        if not path:
            msg = (
                "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE is not set: expected the public key file"
                " to which dead letters are sealed"
            )
            raise InvalidSettings(msg)
        writer = LetterWriter(load_public_key(Path(path)), f"features-{self._role}", _now_ms)
        log: Log = await asyncio.to_thread(find_log, self._settings.kafka, DLQ)
        return Letters(producer, writer, (log.name, log.partitions))

    def _owner(self, role: Role) -> ShardOwner:
        settings = self._settings
        parts = RebuildParts(self._store, settings.kafka, _now_ms)
        rebuilder = rebuilder_of(parts, role, self._log)
        wait_s = settings.features.delivery_timeout_s
        mender = Mender(self._store, rebuilder, wait_s, self._progress)
        return ShardOwner(self._positions(role), mender, end_process)

    def _positions(self, role: Role) -> Positions:
        positions = Positions(self._store, self._settings.kafka, role, self._topic, self._log)
        positions.seek = self._consumer.seek_soon
        positions.highwater = self._consumer.end_of
        positions.clock_ms = self._wall_clock_ms if role is Role.CARD else None
        return positions

    @property
    def _wall_clock_ms(self) -> Callable[[], int] | None:
        """Epoch milliseconds, None where the records' own times rule."""
        return _now_ms if self._settings.features.clock == "wall" else None

    @property
    def _consumer(self) -> BatchConsumer:
        return cast(BatchConsumer, self.app.consumer)

    def _watch(self) -> None:
        consumer, rebuilt = self._consumer, self._progress
        logging.getLogger(__name__).info("the %s role is connected", self._role)
        Watchdog(
            self._settings.features.watchdog_s,
            lambda: consumer.progress + rebuilt.ticks,
            consumer.has_lag,
        ).start()


def build(role: str, settings: AllSettings) -> Worker:
    """Return a features worker of one role: `card`, `entity` or `label`."""
    if role not in ROLES:
        msg = f"expected one of {', '.join(ROLES)}, found {role!r}"
        raise InvalidSettings(msg)
    return Worker(role, settings)
