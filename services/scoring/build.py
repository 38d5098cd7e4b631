"""Wires the service: settings in, a service that is ready to run out."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from fraudstream.bus import BatchProducer
from fraudstream.engines.protocol import Precision
from fraudstream.engines.tensorrt_engine import EngineOrder
from fraudstream.engines.tensorrt_library import LibraryName
from fraudstream.errors import InvalidSettings
from fraudstream.features.warm_up import warm_up
from fraudstream.model_repository import ModelRepository
from fraudstream.money import indicative_rate_table, load_rate_table
from fraudstream.privacy import Tokeniser, TokenKeys
from fraudstream.ready_engine import Budget
from fraudstream.settings import KafkaSettings
from fraudstream.shared_entities import EntityReader
from fraudstream.signing import People
from fraudstream.state_store import StateStore
from fraudstream.telemetry import Telemetry
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, ENTITIES, RESCORES, SHADOWED, STAND_INS
from fraudstream.transaction import TimeBounds
from services.scoring.backlog import PublishBacklog
from services.scoring.batcher import Batcher
from services.scoring.door_features import DoorFeatures
from services.scoring.door_records import DoorRecords
from services.scoring.door_row import Reception
from services.scoring.door_tls import DoorCertificate, ServerTls
from services.scoring.follow import ModelFollower
from services.scoring.front_door import FrontDoor
from services.scoring.guard import Guard
from services.scoring.late_alerts import AlertBacklog
from services.scoring.line_up import LineUp, LineUpJudge
from services.scoring.methods import Deadlines, Decider, InternalMethods, ScoringMethods
from services.scoring.model import ModelSource, cpu_class
from services.scoring.observe import Observer
from services.scoring.parts import DoorParts
from services.scoring.publish import Publisher
from services.scoring.rescorer import Rescorer
from services.scoring.rpc import Listener, RpcServer
from services.scoring.rules_in_force import RulesFollower
from services.scoring.sandbox import SandboxDoor
from services.scoring.service import Connections, ScoringService, Workers
from services.scoring.settings import EngineChoice, ScoringSettings, ServiceSettings
from services.scoring.shadow import ShadowScorer
from services.scoring.shards import CardShards
from services.scoring.stream_door import StreamDoor
from services.scoring.sweeper import Sweeper, SweepTimes

_LOG = logging.getLogger(__name__)

# A record about a card is written to the partition of the card's shard.
_BY_CARD: Final = (ACCEPTED, DECISIONS, STAND_INS, RESCORES, SHADOWED, ALERTS)


def clock_us() -> int:
    """Return epoch microseconds."""
    return time.time_ns() // 1_000


def clock_ms() -> int:
    """Return epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class _Partitions:
    """How many partitions the topics have that shards are made of."""

    cards: int
    entities: int


@dataclass(frozen=True, slots=True)
class _Models:
    """What judges, and what keeps it at what the ledger says; that only where there is one."""

    batcher: Batcher
    judge: LineUpJudge
    follower: ModelFollower | None


async def build(settings: ServiceSettings, *, is_shared: bool = False) -> ScoringService:
    """Return the service, connected, with its model loaded, checked and warm.

    Args:
        settings: What it was told.
        is_shared: Other processes of ours listen on the same ports.

    Raises:
        InvalidSettings: A key file, the rate table or a topic is not as it must be.
        ModelRefused: The artefact is not fit to serve.
        RuleSetRefused: The rule set is not.
        OnlineStoreUnavailable: The store does not answer.
        BrokerUnavailable: The broker does not.
    """
    listeners = _listeners(settings.scoring, is_shared=is_shared)
    models = await _models(settings.scoring)
    follower = _follower(settings)
    rules = await asyncio.to_thread(follower.open, settings.scoring.rule_set_file)
    warm_up()
    connections, partitions = await _connect(settings)
    store = connections.store
    shards = CardShards(store, partitions.cards)
    alerts = AlertBacklog(connections.producer, store, settings.kafka, models.judge, clock_ms)
    shadows = ShadowScorer(models.judge, connections.producer, settings.kafka, partitions.cards)
    publisher = Publisher(connections.producer, store, settings.kafka, alerts)
    backlog = PublishBacklog(publisher, settings.scoring.publish_backlog)
    times = SweepTimes(settings.scoring.sweep_every_ms, settings.scoring.sweep_after_ms)
    parts = DoorParts(
        judge=models.judge,
        shadows=shadows,
        rules=rules,
        store=store,
        publisher=publisher,
        observer=Observer(connections.telemetry),
        clock_us=clock_us,
        cpu_class=cpu_class(),
        partitions=partitions.cards,
        sample_ratio=settings.telemetry.sample_ratio,
    )
    features = DoorFeatures(store, shards, EntityReader(store, partitions.entities))
    records = DoorRecords(store, shards, publisher, backlog, settings.scoring.answer_after)
    front = FrontDoor(parts, features, records)
    services = (
        _scoring_methods(front, _reception(settings, partitions.cards), settings.scoring).service(),
        InternalMethods(StreamDoor(parts)).service(),
    )
    sweeper = Sweeper(store, shards, publisher, times, clock_ms)
    rescorer = Rescorer(models.judge, rules, connections.producer, settings.kafka, clock_ms)
    workers = Workers(
        batcher=models.batcher,
        follower=models.follower,
        shadows=shadows,
        backlog=backlog,
        alerts=alerts,
        sweeper=sweeper,
        rescorer=rescorer,
        follow_rules=functools.partial(follower.follow_forever, rules),
    )
    scoring, internal = map(RpcServer, services, listeners)
    return ScoringService((scoring, internal), workers, connections, settings.scoring.grace_s)


async def _models(settings: ScoringSettings) -> _Models:
    batcher = Batcher(clock_us)
    judge = LineUpJudge(batcher, LineUp())
    if not settings.model:
        return _Models(batcher, judge, None)
    if settings.people_file is None:
        msg = "FRAUD_SCORING_PEOPLE_FILE: expected the file of people whose signatures count"
        raise InvalidSettings(f"{msg}; python -m training person makes one")
    people = People.load(settings.people_file)
    source = ModelSource(
        ModelRepository(Path(settings.model), people, clock_ms),
        Budget(settings.model_batch_ms, settings.model_memory_mib << 20),
        settings.model_head_file,
        _engine_order(settings),
    )
    follower = ModelFollower(source, batcher, judge, settings.model_poll_ms)
    await follower.start()
    return _Models(batcher, judge, follower)


def _follower(settings: ServiceSettings) -> RulesFollower:
    scoring = settings.scoring
    people = People.load(scoring.people_file) if scoring.people_file else None
    return RulesFollower(settings.kafka, scoring.rule_set, people)


def _engine_order(settings: ScoringSettings) -> EngineOrder | None:
    """Return which GPU engine shall serve; None for the CPU's."""
    if settings.engine is EngineChoice.ONNXRUNTIME:
        return None
    precision = Precision(settings.gpu_precision)
    return EngineOrder(LibraryName(settings.engine), precision, settings.gpu_engines_folder)


def _reception(settings: ServiceSettings, partitions: int) -> Reception:
    scoring = settings.scoring
    keys, rates = scoring.token_keys_file, scoring.rate_table_file
    return Reception(
        tokeniser=Tokeniser(TokenKeys.load(keys)) if keys else None,
        rates=load_rate_table(rates) if rates else indicative_rate_table(),
        partitions=partitions,
        sample_ratio=settings.telemetry.sample_ratio,
        bounds=TimeBounds(scoring.lateness_ms, scoring.future_ms),
        clock_ms=clock_ms,
    )


async def _connect(settings: ServiceSettings) -> tuple[Connections, _Partitions]:
    """Connect to the store and the broker, and look at the topics."""
    telemetry = Telemetry(settings.telemetry, "scoring")
    connections = Connections(
        StateStore(settings.redis, clock_ms), BatchProducer(settings.kafka), telemetry
    )
    try:
        await connections.store.connect()
        await connections.producer.start()
        partitions = await _partitions(connections.producer, settings.kafka)
    except BaseException:
        await connections.close()
        raise
    return connections, partitions


async def _partitions(producer: BatchProducer, kafka: KafkaSettings) -> _Partitions:
    """Return the partition counts; a card has one partition in all of its topics."""
    counts = {
        topic.name: await producer.partitions(kafka.topic(topic)) for topic in (*_BY_CARD, ENTITIES)
    }
    cards = counts[ACCEPTED.name]
    if {counts[topic.name] for topic in _BY_CARD} != {cards}:
        msg = f"{', '.join(topic.name for topic in _BY_CARD)} need equal partition counts"
        raise InvalidSettings(f"{msg}, found {counts}")
    return _Partitions(cards, counts[ENTITIES.name])


def _listeners(settings: ScoringSettings, *, is_shared: bool) -> list[Listener]:
    """Return the listeners of `Scoring` and `InternalScoring`, each with its own certificate."""
    guard = Guard(settings.callers_file, clock_ms) if settings.callers_file else None
    return [
        Listener(
            address=f"{settings.host}:{port}",
            max_calls=settings.max_in_flight,
            has_reflection=settings.has_reflection,
            is_shared=is_shared,
            credentials=_credentials(settings),
            doorkeeper=guard.admit if guard else None,
        )
        for port in (settings.port, settings.internal_port)
    ]


def _credentials(settings: ScoringSettings) -> grpc.ServerCredentials | None:
    cert, key = settings.tls_cert_file, settings.tls_key_file
    if cert is None or key is None:
        return None
    return DoorCertificate(ServerTls(cert, key, settings.tls_client_ca_file)).credentials()


def _scoring_methods(
    front: FrontDoor, reception: Reception, settings: ScoringSettings
) -> ScoringMethods:
    door: Decider = front
    if settings.sandbox_bank:
        _LOG.warning("calls of bank %s are test transactions", settings.sandbox_bank)
        door = SandboxDoor(front, settings.sandbox_bank)
    deadlines = Deadlines(settings.default_deadline_ms / 1000, settings.reserve_ms / 1000)
    return ScoringMethods(door, reception, deadlines)
