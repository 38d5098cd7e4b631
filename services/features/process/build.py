"""Wire a features worker: one role, one topic, one Faust app."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, cast

import faust

from fraudstream.broker.batch_agent import AgentSettings, BatchConsumer, PollHandler, batch_app
from fraudstream.broker.clients import BatchProducer
from fraudstream.broker.faust_process import run_until_asked
from fraudstream.broker.quarantine import open_quarantine
from fraudstream.broker.topic_info import Log, find_log
from fraudstream.broker.topics_at_start import TopicsAtStart
from fraudstream.broker.wire.record_keys import hold_as
from fraudstream.dead_letters.letter import LetterWriter
from fraudstream.errors import InvalidSettings
from fraudstream.features.warm_up import warm_up
from fraudstream.keys.box_keys import load_public_key
from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.runtime.readiness import keep_what_lives, say_ready
from fraudstream.settings import KafkaSettings, RedisSettings, TelemetrySettings
from fraudstream.store.entity_reader import EntityReader
from fraudstream.store.shard import Role
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.spans import Telemetry
from fraudstream.topics import ACCEPTED, DLQ, ENTITIES, LABELS, Topic
from services.features.process.watchdog import Watchdog, end_process, watch_topics
from services.features.rebuild.background import BackgroundRebuilds
from services.features.rebuild.job import Progress
from services.features.rebuild.rebuilder import RebuildParts, rebuilder_of
from services.features.roles.card import CardParts, CardRole
from services.features.roles.entity import EntityRole
from services.features.roles.label import LabelRole
from services.features.roles.shard_loop import ShardOwner
from services.features.rows.dead_letters import Letters
from services.features.rows.entity_row_sender import EntityRowSender
from services.features.rows.scoring_client import ScoringStub
from services.features.rows.spans import SpanWriter
from services.features.settings import FeaturesSettings
from services.features.shards.positions import Positions
from services.features.shards.source_ends import SourceEnds

LetterParts = tuple[LetterWriter, tuple[str, int]]
ROLES: Final = {"card": ACCEPTED, "entity": ENTITIES, "label": LABELS}
# Decisions wait for cards; what comes to shared entities is read by later ones.
_GATHER_S: Final = {"card": 0.0, "entity": 0.05, "label": 0.05}


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
        hold_as(settings.kafka, f"features-{role}")
        self._settings = settings
        self._scoring_access = settings.features.scoring_access()
        self._scoring_access.check(settings.features.scoring_address)
        self._role = role
        self._topic: Topic = ROLES[role]
        self._log = find_log(settings.kafka, self._topic)
        self._entities = find_log(settings.kafka, ENTITIES)
        open_quarantine(settings.kafka, f"features-{role}")
        self._topics = TopicsAtStart(settings.kafka, {self._log.name, self._entities.name})
        self._store = StateStore(settings.redis)
        self._progress = Progress()
        self._telemetry = Telemetry(settings.telemetry, f"features-{role}")
        connect = self._connects_with_letters() if role == "card" else self._connect_other
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
            LateHandler(connect),
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

    def _connects_with_letters(self) -> Callable[[], Awaitable[PollHandler]]:
        """Return how the card role connects, with key and topic of its dead letters looked at.

        In the first poll a setting that is wrong would fail three times, each with a trace.
        """
        return functools.partial(self._connect_card, self._open_letters())

    async def _connect_card(self, letters: LetterParts) -> PollHandler:
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
                letters=Letters(producer, *letters),
                spans=SpanWriter(self._telemetry, epoch_us),
                clock_us=epoch_us,
                sample_ratio=settings.telemetry.sample_ratio,
            )
        )

    async def _connect_other(self) -> PollHandler:
        return await (self._connect_entity() if self._role == "entity" else self._connect_label())

    async def _connect_entity(self) -> PollHandler:
        await self._store.connect()
        self._watch()
        ends = SourceEnds(self._settings.kafka)
        return EntityRole(self._store, self._owner(Role.ENTITY), ends)

    async def _connect_label(self) -> PollHandler:
        producer = await self._start_producer()
        return LabelRole(EntityRowSender(producer, self._entities, self._log, None))

    async def _start_producer(self) -> BatchProducer:
        producer = BatchProducer(self._settings.kafka, "features")
        await producer.start()
        self._watch()
        return producer

    def _open_letters(self) -> LetterParts:
        """Return what writes dead letters, and their topic with its partitions."""
        path = self._settings.features.seal_public_key_file
        if not path:
            msg = (
                "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE is not set: expected the public key file"
                " to which dead letters are sealed"
            )
            raise InvalidSettings(msg)
        writer = LetterWriter(load_public_key(Path(path)), f"features-{self._role}", epoch_ms)
        log: Log = find_log(self._settings.kafka, DLQ)
        return writer, (log.name, log.partitions)

    def _owner(self, role: Role) -> ShardOwner:
        settings = self._settings
        parts = RebuildParts(self._store, settings.kafka, epoch_ms)
        rebuilder = rebuilder_of(parts, role, self._log)
        wait_s = settings.features.delivery_timeout_s
        rebuilds = BackgroundRebuilds(self._store, rebuilder, wait_s, self._progress)
        return ShardOwner(self._positions(role), rebuilds, end_process)

    def _positions(self, role: Role) -> Positions:
        positions = Positions(self._store, self._settings.kafka, role, self._topic, self._log)
        positions.seek = self._consumer.seek_soon
        positions.highwater = self._consumer.end_of
        positions.clock_ms = self._wall_clock_ms if role is Role.CARD else None
        return positions

    @property
    def _wall_clock_ms(self) -> Callable[[], int] | None:
        """Epoch milliseconds, None where the records' own times rule."""
        is_replay = self._settings.kafka.is_replay or self._settings.features.clock == "record"
        return None if is_replay else epoch_ms

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
        watch_topics(self._topics, end_process)


def build(role: str, settings: AllSettings) -> Worker:
    """Return a features worker of one role: `card`, `entity` or `label`."""
    if role not in ROLES:
        msg = f"expected one of {', '.join(ROLES)}, found {role!r}"
        raise InvalidSettings(msg)
    return Worker(role, settings)
