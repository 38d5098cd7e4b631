"""Wires the service: settings in, a service that is ready to run out."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import grpc

from fraudstream.broker.clients import BatchProducer
from fraudstream.broker.quarantine import open_quarantine
from fraudstream.broker.topics_at_start import TopicsAtStart
from fraudstream.broker.wire.record_keys import hold_as
from fraudstream.engines.engine_kinds import FIRST, EngineOrder
from fraudstream.engines.protocol import Precision
from fraudstream.errors import InvalidSettings, OnlineStoreUnavailable
from fraudstream.features.warm_up import warm_up
from fraudstream.models.open_engine import Budget
from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.settings import KafkaSettings
from fraudstream.signing import People
from fraudstream.store.entity_reader import EntityReader
from fraudstream.telemetry.spans import Telemetry
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, ENTITIES, RESCORES, SHADOWED, STAND_INS
from fraudstream.transaction.card_token import Tokeniser, TokenKeys, key_ids
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.money import RateTable, open_rate_table
from services.scoring.api.methods import Decider, InternalMethods, ScoringMethods
from services.scoring.api.sandbox import SandboxDoor
from services.scoring.authorise.event_time import Deadlines
from services.scoring.authorise.features import DoorFeatures
from services.scoring.authorise.intake import Reception
from services.scoring.authorise.pan_quota import PanQuota
from services.scoring.authorise.pipeline import FrontDoor
from services.scoring.authorise.recording import DoorRecords
from services.scoring.background.metrics import Observer
from services.scoring.background.rescorer import Rescorer
from services.scoring.background.shadow_scorer import ShadowScorer
from services.scoring.decision.maker import DecisionMaker
from services.scoring.decision.rules_follower import RulesFollower
from services.scoring.inference.batcher import Batcher
from services.scoring.inference.ledger_follower import ModelFollower
from services.scoring.inference.line_up import LineUp, LineUpJudge
from services.scoring.inference.model_source import ModelSource, cpu_class, open_repository
from services.scoring.process.lifecycle import Connections, ScoringService, Workers, watch_topics
from services.scoring.publishing.alert_backlog import AlertBacklog
from services.scoring.publishing.decision_backlog import PublishBacklog
from services.scoring.publishing.outbox_hold import OutboxHold
from services.scoring.publishing.outbox_sweeper import Sweeper
from services.scoring.publishing.publisher import Publisher
from services.scoring.rpc.authentication import Guard
from services.scoring.rpc.certificate import DoorCertificate, ServerTls
from services.scoring.rpc.server import Listener, RpcServer
from services.scoring.settings import ScoringSettings, ServiceSettings
from services.scoring.shards.card_shards import CardShards
from services.scoring.shards.seal import Seal
from services.scoring.shards.sealed_store import SealedStore
from services.scoring.stream.pipeline import StreamDoor, StreamTerms

_LOG = logging.getLogger(__name__)

# A record about a card is written to the partition of the card's shard.
_BY_CARD: Final = (ACCEPTED, DECISIONS, STAND_INS, RESCORES, SHADOWED, ALERTS)


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
        InvalidSettings: A key file, the rate table or a topic is missing or invalid.
        ModelRefused: The artefact is not fit to serve.
        RuleSetRefused: The rule set is not.
        OnlineStoreUnavailable: The store does not answer.
        BrokerUnavailable: The broker does not.
    """
    keys = hold_as(settings.kafka, "scoring")
    seal = Seal(keys.store_keys("scoring") if keys else None, epoch_ms)
    listeners = _listeners(settings.scoring, is_shared=is_shared)
    rates = open_rate_table(settings.rates.table_file)
    models = await _models(settings.scoring, rates.reference_currency)
    open_quarantine(settings.kafka, "scoring")
    follower = _follower(settings)
    rules = await asyncio.to_thread(follower.open, settings.scoring.rule_set_file)
    warm_up()
    connections, partitions = await _connect(settings, seal)
    store, door_store = connections.store, connections.door_store
    door_shards = CardShards(door_store, partitions.cards)
    alerts = AlertBacklog(connections.producer, store, settings.kafka, models.judge, epoch_ms)
    shadows = ShadowScorer(models.judge, connections.producer, settings.kafka, partitions.cards)
    publisher = Publisher(connections.producer, store, settings.kafka, alerts.add)
    backlog = PublishBacklog(publisher, settings.scoring.publish_backlog)
    maker = DecisionMaker(models.judge, rules, seal, epoch_us, cpu_class())
    entities = EntityReader(door_store, partitions.entities)
    features = DoorFeatures(door_store, door_shards, entities)
    records = DoorRecords(
        door_store, door_shards, publisher, backlog, settings.scoring.answer_after
    )
    front = FrontDoor(maker, Observer(connections.telemetry, shadows, "door"), features, records)
    terms = StreamTerms(partitions.cards, rates.version, settings.telemetry.sample_ratio)
    observer = Observer(connections.telemetry, shadows, "scoring")
    stream = StreamDoor(maker, observer, store, publisher, terms)
    services = (
        _scoring_methods(
            front, _reception(settings, rates, partitions.cards), settings.scoring
        ).service(),
        InternalMethods(stream, store).service(),
    )
    waiting = (publisher.in_flight, backlog.waiting, alerts.waiting)
    rescorer = Rescorer(maker, connections.producer, settings.kafka, epoch_ms)
    sweeper = Sweeper(
        store,
        CardShards(store, partitions.cards),
        publisher,
        settings.scoring.sweep_every_ms,
        settings.scoring.sweep_after_ms,
    )
    others = (
        shadows.work_forever,
        alerts.work_forever,
        sweeper.sweep_forever,
        OutboxHold(store, waiting, settings.scoring.sweep_after_ms / 3000).hold_forever,
        functools.partial(watch_topics, connections.topics),
        rescorer.rescore_forever,
        functools.partial(follower.follow_forever, rules),
    )
    workers = Workers(models.batcher, models.follower, backlog, others)
    scoring, internal = map(RpcServer, services, listeners)
    return ScoringService((scoring, internal), workers, connections, settings.scoring.grace_s)


async def _models(settings: ScoringSettings, reference_currency: str) -> _Models:
    batcher = Batcher(epoch_us)
    judge = LineUpJudge(batcher, LineUp())
    if not settings.model:
        return _Models(batcher, judge, None)
    source = ModelSource(
        open_repository(settings, epoch_ms),
        Budget(settings.model_batch_ms, settings.model_memory_mib << 20),
        settings.model_head_file,
        _engine_order(settings),
        reference_currency,
    )
    follower = ModelFollower(source, batcher, judge, settings.model_poll_ms)
    await follower.start()
    return _Models(batcher, judge, follower)


def _follower(settings: ServiceSettings) -> RulesFollower:
    scoring = settings.scoring
    people = People.load(scoring.people_file) if scoring.people_file else None
    return RulesFollower(settings.kafka, scoring.rule_set, people)


def _engine_order(settings: ScoringSettings) -> EngineOrder | None:
    """Return which engine shall take over; None for none."""
    if settings.engine is FIRST:
        return None
    precision = Precision(settings.gpu_precision)
    return EngineOrder(settings.engine, precision, settings.gpu_engines_folder)


def _reception(settings: ServiceSettings, rates: RateTable, partitions: int) -> Reception:
    scoring = settings.scoring
    return Reception(
        tokeniser=_tokeniser(scoring),
        rates=rates,
        partitions=partitions,
        sample_ratio=settings.telemetry.sample_ratio,
        bounds=TimeBounds(scoring.lateness_ms, scoring.future_ms),
        clock_ms=epoch_ms,
        quota=PanQuota(scoring.pan_rate_per_s, scoring.pan_burst, time.monotonic),
    )


def _tokeniser(settings: ScoringSettings) -> Tokeniser | None:
    path, others = settings.token_keys_file, settings.token_key_ids
    if path is None:
        if others:
            msg = "FRAUD_SCORING_TOKEN_KEY_IDS: expected FRAUD_SCORING_TOKEN_KEYS_FILE beside it"
            raise InvalidSettings(f"{msg}, whose keys make the other tokens")
        return None
    keys = TokenKeys.load(path)
    _LOG.info("card tokens are made with key %s, check value %s", keys.active, keys.check_value)
    return Tokeniser(keys, key_ids(others))


async def _connect(settings: ServiceSettings, seal: Seal) -> tuple[Connections, _Partitions]:
    """Connect to the store and the broker, and look at the topics."""
    patience_s = min(settings.scoring.store_patience_ms / 1000, settings.redis.timeout_s)
    of_door = settings.redis.model_copy(update={"timeout_s": patience_s})
    names = [settings.kafka.topic(topic) for topic in (*_BY_CARD, ENTITIES)]
    connections = Connections(
        SealedStore(settings.redis, seal),
        SealedStore(of_door, seal),
        BatchProducer(settings.kafka, "scoring"),
        await asyncio.to_thread(TopicsAtStart, settings.kafka, names),
        Telemetry(settings.telemetry, "scoring"),
    )
    try:
        await connections.store.connect()
        with suppress(OnlineStoreUnavailable):  # it is tried again by the first call
            await connections.door_store.connect()
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
    guard = Guard(settings.callers_file, epoch_ms) if settings.callers_file else None
    return [
        Listener(
            address=f"{settings.host}:{port}",
            max_calls=settings.max_in_flight,
            has_reflection=settings.has_reflection,
            is_shared=is_shared,
            credentials=_credentials(settings),
            doorkeeper=guard.admit if guard else None,
            streams_of_one=settings.streams_per_caller,
            read_s=settings.message_timeout_ms / 1000,
            idle_s=settings.stream_idle_s,
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
