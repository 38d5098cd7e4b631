"""The services as processes of one loop: their real classes, over edges that wait for turns."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from aiokafka import ConsumerRecord
from nacl.public import PrivateKey

from fraudstream.broker.batch_agent import PollHandler
from fraudstream.broker.wire.record_keys import KeyFile
from fraudstream.dead_letters.letter import LetterWriter
from fraudstream.errors import FraudStreamError
from fraudstream.settings import TelemetrySettings
from fraudstream.store.entity_reader import EntityReader
from fraudstream.store.shard import Role
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.spans import Telemetry
from fraudstream.topics import DLQ
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.money import indicative_rate_table
from fraudstream.v1.decision_pb2 import StandInCause
from fraudstream.v1.scoring_pb2 import (
    CheckRecordsRequest,
    CheckRecordsResponse,
    FeatureBatchRequest,
    ScoreBatchResponse,
)
from fraudstream.v1.transaction_pb2 import Transaction
from services.features.rebuild.card_filler import CardFiller
from services.features.rebuild.rebuilder import TOPICS
from services.features.roles.card import CardParts, CardRole
from services.features.roles.entity import EntityRole
from services.features.roles.shard_loop import ShardOwner
from services.features.rows.dead_letters import Letters
from services.features.rows.entity_row_sender import EntityRowSender
from services.features.rows.scoring_client import ScoringStub
from services.features.rows.spans import SpanWriter
from services.scoring.authorise.event_time import TimeLeft
from services.scoring.authorise.features import DoorFeatures
from services.scoring.authorise.intake import Caller, Reception
from services.scoring.authorise.pipeline import FrontDoor
from services.scoring.authorise.recording import Answer, DoorRecords
from services.scoring.background.metrics import Observer
from services.scoring.background.shadow_scorer import ShadowScorer
from services.scoring.decision.feature_arrays import FeatureArrays
from services.scoring.decision.maker import DecisionMaker
from services.scoring.decision.rules_follower import RulesInForce, load_rule_set
from services.scoring.decision.verdict import Judged, stand_in
from services.scoring.inference.batcher import Batcher
from services.scoring.inference.line_up import LineUp, LineUpJudge
from services.scoring.publishing.alert_backlog import AlertBacklog
from services.scoring.publishing.decision_backlog import PublishBacklog
from services.scoring.publishing.outbox_hold import OutboxHold
from services.scoring.publishing.outbox_sweeper import Sweeper
from services.scoring.publishing.publisher import Publisher
from services.scoring.rpc.calls import status_of
from services.scoring.settings import AnswerAfter
from services.scoring.shards.card_shards import CardShards
from services.scoring.shards.seal import Seal
from services.scoring.stream.pipeline import StreamDoor, StreamTerms
from tests.faults.memory_log import Group, MemoryBroker, SteppedProducer
from tests.faults.rebuilding import KAFKA, MemoryPositions, SteppedRebuilds, WorkerParts
from tests.faults.stepping import Fate, Process, Schedule
from tests.worlds.accepted_rows import all_reached
from tests.worlds.trust import RULES_FILE

T = TypeVar("T")
_RULES: Final = load_rule_set(RULES_FILE)
_TELEMETRY: Final = Telemetry(TelemetrySettings(), "test")
_SWEEP_MS: Final = 300
_SEAL: Final = Seal(KeyFile.new(), lambda: 0)
_LETTER_KEY: Final = PrivateKey.generate().public_key
# Callers wait for the acknowledgement of a provisional answer for as long as it takes.
_PATIENCE_S: Final = 3600.0
_CALL_FATES: Final = (Fate.OK, Fate.ANSWER_LOST, Fate.LATE)


class BeatingSender(EntityRowSender):
    """A sender whose heartbeats come when the run wants them, not when a minute has passed."""

    wants_beat: Callable[[], bool]

    async def beat(self, positions: Any, busy: set[int]) -> None:
        """Send a heartbeat now, or not at all."""
        if self.wants_beat():
            self._told_buckets.clear()
            await self.tell(positions, busy)


class SteppedJudge:
    """No model, but a turn in which a deadline may pass."""

    has_model = False

    def __init__(self, process: Process, schedule: Schedule) -> None:
        self._process = process
        self._schedule = schedule

    async def judge(self, arrays: FeatureArrays, *_: object) -> Judged:
        """Return a stand-in for each row, some time; the alert of every other one comes late."""
        await self._schedule.turn(self._process, "judge")
        verdict = stand_in(StandInCause.STAND_IN_CAUSE_MODEL_NOT_LOADED)
        late = replace(verdict, why=replace(verdict.why, is_estimated=True))
        return Judged(
            [late if zlib.crc32(vector.tobytes()) % 2 else verdict for vector in arrays.vectors]
        )


class Scorer:
    """One scoring service: both doors, the backlog and the sweep."""

    def __init__(self, name: str, around: Surroundings, answer_after: AnswerAfter) -> None:
        self.process = Process(name)
        self._around = around
        self._answer_after = answer_after

    def start(self, store: StateStore) -> None:
        """Open both doors."""
        around = self._around
        producer = SteppedProducer(self.process, around.schedule, around.broker)
        shards = CardShards(store, around.broker.accepted.partitions)
        no_model = LineUpJudge(Batcher(around.clock_us), LineUp())
        alerts = AlertBacklog(producer, store, KAFKA, no_model, around.clock_ms)
        publisher = around.classes.publisher(producer, store, KAFKA, alerts.add)
        backlog = PublishBacklog(publisher, 100)
        judge = SteppedJudge(self.process, around.schedule)
        maker = DecisionMaker(judge, RulesInForce(_RULES), _SEAL, around.clock_us, "test")
        shadows = ShadowScorer(no_model, producer, KAFKA, shards.partitions)
        observer = Observer(_TELEMETRY, shadows, "door")
        entities = EntityReader(store, around.broker.entities.partitions)
        features = DoorFeatures(store, shards, entities)
        records = DoorRecords(store, shards, publisher, backlog, self._answer_after)
        terms = StreamTerms(shards.partitions, indicative_rate_table().version, 0.0)
        self._front = FrontDoor(maker, observer, features, records)
        self._stream = StreamDoor(maker, observer, store, publisher, terms)
        self._reception = Reception(
            None, indicative_rate_table(), shards.partitions, 0.0, TimeBounds(), around.clock_ms
        )
        sweeper = Sweeper(store, shards, publisher, _SWEEP_MS, _SWEEP_MS)
        waiting = (publisher.in_flight, backlog.waiting, alerts.waiting)
        hold = OutboxHold(store, waiting, _SWEEP_MS / 3000)
        self.process.start(backlog.work_forever())
        self.process.start(alerts.work_forever())
        self.process.start(sweeper.sweep_forever())
        self.process.start(hold.hold_forever())

    async def score(self, transaction: Transaction, budget_s: float) -> Answer:
        """Answer a caller."""
        copy = Transaction()
        copy.CopyFrom(transaction)
        arrival = self._reception.receive(copy, Caller(True, None))
        return (await self._front.decide([arrival], TimeLeft(budget_s, _PATIENCE_S)))[0]

    async def score_batch(self, request: FeatureBatchRequest) -> bytes:
        """Answer the features service."""
        return await self._stream.score_batch(request)


async def call(
    caller: Process, schedule: Schedule, server: Process, work: Coroutine[Any, Any, T]
) -> T | None:
    """Have a server work on a call; None where the server or the caller's patience ends first.

    A call that is given up is cancelled at its server, or goes on there.
    """
    task = server.serve(work)
    fate = schedule.choose(caller, "call", _CALL_FATES)
    if fate is Fate.OK:
        await asyncio.wait({task})
    else:
        await schedule.turn(caller, "give up a call")
        if fate is Fate.ANSWER_LOST:
            task.cancel()
        await schedule.turn(caller, "gave up a call")
        return None
    return None if task.cancelled() else task.result()


class LocalScoring(ScoringStub):
    """The features service's stub over a call inside the loop."""

    def __init__(
        self, process: Process, schedule: Schedule, scorer: Callable[[], Scorer | None]
    ) -> None:
        # No channel is opened: `_stub` is all that the stub calls.
        door: Any = _LocalDoor(process, schedule, scorer)
        self._stub = door
        self._timeout_s = 1.0
        self._metadata = ()


class _LocalDoor:
    """`InternalScoringStub` of whichever scorer lives."""

    def __init__(
        self, process: Process, schedule: Schedule, scorer: Callable[[], Scorer | None]
    ) -> None:
        self._process = process
        self._schedule = schedule
        self._scorer = scorer

    async def ScoreBatch(  # noqa: N802  # gRPC's name
        self,
        request: FeatureBatchRequest,
        timeout: float,  # noqa: ASYNC109  # gRPC's name
        metadata: object,
    ) -> ScoreBatchResponse:
        """Call `InternalScoring.ScoreBatch`."""
        await self._schedule.turn(self._process, "ask scoring")
        scorer = self._scorer()
        if scorer is None:
            raise _failure(grpc.StatusCode.UNAVAILABLE, "no scorer lives")
        work = scorer.score_batch(FeatureBatchRequest.FromString(request.SerializeToString()))
        try:
            answer = await call(self._process, self._schedule, scorer.process, work)
        except FraudStreamError as exc:
            raise _failure(status_of(exc), str(exc)) from exc
        if answer is None:
            raise _failure(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time")
        await self._schedule.turn(self._process, "hear scoring")
        return ScoreBatchResponse.FromString(answer)

    async def CheckRecords(  # noqa: N802  # gRPC's name
        self,
        request: CheckRecordsRequest,
        timeout: float,  # noqa: ASYNC109  # gRPC's name
        metadata: object,
    ) -> CheckRecordsResponse:
        """Find no record that scoring did not write: nobody else writes any here."""
        return CheckRecordsResponse()


def _failure(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, details, details)


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a run: the services' own, or ones from which a rule was taken away."""

    card_role: type[CardRole] = CardRole
    card_filler: type[CardFiller] = CardFiller
    positions: type[MemoryPositions] = MemoryPositions
    sender: type[BeatingSender] = BeatingSender
    scoring: type[LocalScoring] = LocalScoring
    publisher: type[Publisher] = Publisher


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every process of a run shares.

    Attributes:
        schedule: Who moves.
        broker: The logs.
        clock_us: Epoch microseconds; no two answers are equal, so no two decisions are.
        classes: What the processes are made of.
    """

    schedule: Schedule
    broker: MemoryBroker
    clock_us: Callable[[], int]
    classes: Classes

    def clock_ms(self) -> int:
        """Return epoch milliseconds."""
        return self.clock_us() // 1000


def _end(code: int, message: str) -> None:
    """Fail: no run has a cause to end a worker."""
    raise AssertionError((code, message))


class Worker:
    """One features worker of a role, with Kafka's part of the work: poll, seek, commit."""

    def __init__(
        self,
        name: str,
        role: Role,
        around: Surroundings,
        group: Group,
        poll_rows: Callable[[], int],
    ) -> None:
        self.process = Process(name)
        self.role = role
        self._around = around
        self._group = group
        self._poll_rows = poll_rows
        self._topic = TOPICS[role]
        self._generation = -1
        self._fetch_at: dict[int, int] = {}

    def start(
        self, store: StateStore, scoring: ScoringStub, wants_beat: Callable[[], bool]
    ) -> None:
        """Begin to poll."""
        owner = self._owner(store)
        self._handler: PollHandler = (
            self._around.classes.card_role(self._card_parts(store, owner, scoring, wants_beat))
            if self.role is Role.CARD
            else EntityRole(store, owner, all_reached)
        )
        self.process.start(self._poll_forever())

    def _rebuild_parts(self, store: StateStore) -> WorkerParts:
        """Return what shards are rebuilt with."""
        around = self._around
        return WorkerParts(
            self.process,
            around.schedule,
            around.broker,
            store,
            around.clock_ms,
            around.classes.card_filler,
        )

    def _owner(self, store: StateStore) -> ShardOwner:
        broker = self._around.broker
        log = broker.accepted if self.role is Role.CARD else broker.entities
        positions = self._around.classes.positions(store, KAFKA, self.role, self._topic, log)
        positions.broker = broker
        positions.seek = self._fetch_at.__setitem__
        positions.highwater = lambda partition: len(self._log(partition))
        return ShardOwner(positions, SteppedRebuilds(self._rebuild_parts(store), self.role), _end)

    def _card_parts(
        self,
        store: StateStore,
        owner: ShardOwner,
        scoring: ScoringStub,
        wants_beat: Callable[[], bool],
    ) -> CardParts:
        around, broker = self._around, self._around.broker
        producer: Any = SteppedProducer(self.process, around.schedule, broker)
        sender = around.classes.sender(producer, broker.entities, broker.accepted, around.clock_ms)
        sender.wants_beat = wants_beat
        writer = LetterWriter(_LETTER_KEY, "features", around.clock_ms)
        return CardParts(
            store=store,
            owner=owner,
            entities=EntityReader(store, broker.entities.partitions),
            sender=sender,
            scoring=scoring,
            letters=Letters(producer, writer, (DLQ.name, 1)),
            spans=SpanWriter(_TELEMETRY, around.clock_us),
            clock_us=around.clock_us,
            sample_ratio=0.0,
        )

    def _log(self, partition: int) -> Sequence[ConsumerRecord]:
        return self._around.broker.records(self._topic.name, partition)

    async def _poll_forever(self) -> None:
        schedule, group = self._around.schedule, self._group
        while True:
            await schedule.turn(self.process, "poll")
            if self._generation != group.generation:
                self._join()
            records = {p: chunk for p in self._fetch_at if (chunk := self._fetch(p))}
            finished = await self._handler.handle(records)
            await schedule.turn(self.process, "commit")
            group.commit(self._generation, finished)

    def _join(self) -> None:
        """Take a new assignment: read on where the group has committed."""
        self._generation = self._group.generation
        assigned = self._group.assigned.get(self.process.name, set())
        self._handler.assigned(assigned)
        self._fetch_at.clear()
        self._fetch_at.update({p: self._group.committed.get(p, 0) for p in sorted(assigned)})

    def _fetch(self, partition: int) -> Sequence[ConsumerRecord]:
        at = self._fetch_at[partition]
        chunk = self._log(partition)[at : at + self._poll_rows()]
        self._fetch_at[partition] = at + len(chunk)
        return chunk
