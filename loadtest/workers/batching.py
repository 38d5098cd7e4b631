"""Ways to batch, behind the real gRPC front end: what scoring does, and what it might do instead.

One process serves `Score`: it decodes and checks, admits and reads as scoring does, computes the
features, runs the engine, and answers a decision with the score. It records and publishes nothing,
so what differs between the ways is not hidden.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np
import uvloop

from demo.model_repository import DEMO_MODEL
from fraudstream.artefact import read_artefact
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.features.warm_up import warm_up
from fraudstream.money import indicative_rate_table
from fraudstream.readiness import say_ready
from fraudstream.settings import RedisSettings
from fraudstream.shared_entities import EntityReader
from fraudstream.state_store import StateStore
from fraudstream.transaction import LATENESS_LONGEST_MS, TimeBounds
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.scoring_pb2 import DESCRIPTOR, ScoreRequest
from services.scoring.access import AccessRole
from services.scoring.batcher import Batcher
from services.scoring.calls import Context
from services.scoring.coalescer import Coalescer
from services.scoring.door_features import Admission, DoorFeatures
from services.scoring.door_row import Arrival, Caller, Reception
from services.scoring.rpc import (
    UNARY_BYTES,
    Listener,
    RpcServer,
    RpcService,
    decode_message,
)
from services.scoring.shards import CardShards

_TIMER_S: Final = 0.002
_MAX_CALLS: Final = 512
_ROUND: Final = 256
_CALLER: Final = Caller(is_private=True, parent=None)


class Way(StrEnum):
    """How calls are gathered.

    Attributes:
        CHOSEN: As scoring does: rounds of the store, batches of whatever waited, a thread.
        TIMER: A batch waits two milliseconds for more rows.
        INLINE: The engine runs in the event loop.
        ALONE: Each call reads the store for itself.
    """

    CHOSEN = "chosen"
    TIMER = "timer"
    INLINE = "inline"
    ALONE = "alone"


class TimerBatcher(Batcher):
    """Waits for more rows before each batch."""

    few_rows = 0

    async def score_forever(self) -> None:
        """Take batches and score them, each after the wait."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_jobs.wait()
            await asyncio.sleep(_TIMER_S)
            batch = self._take_batch()
            if batch.rows:
                await loop.run_in_executor(self._thread, self._score_batch, batch)
                self._answer(batch)


class InlineBatcher(Batcher):
    """Scores in the event loop, which takes no call meanwhile."""

    few_rows = 0

    async def score_forever(self) -> None:
        """Take batches and score them."""
        while True:
            await self._has_jobs.wait()
            batch = self._take_batch()
            if batch.rows:
                self._score_batch(batch)
                self._answer(batch)
            await asyncio.sleep(0)


class BatchingScorer:
    """Answers calls by one way of batching."""

    def __init__(self, way: Way, store: StateStore, partitions: tuple[int, int]) -> None:
        cards, entities = partitions
        kind = {Way.TIMER: TimerBatcher, Way.INLINE: InlineBatcher}.get(way, Batcher)
        (content,) = read_artefact(DEMO_MODEL).files
        self._engine = OnnxEngine(content)
        self.batcher = kind(lambda: time.time_ns() // 1_000)
        self._features = DoorFeatures(
            store, CardShards(store, cards), EntityReader(store, entities)
        )
        self._rounds: Coalescer[Arrival, Decision] = Coalescer(self._decide, _ROUND)
        self._is_alone = way is Way.ALONE
        self._reception = Reception(
            tokeniser=None,
            rates=indicative_rate_table(),
            partitions=cards,
            sample_ratio=0.01,
            bounds=TimeBounds(LATENESS_LONGEST_MS, 300_000),
            clock_ms=lambda: time.time_ns() // 1_000_000,
        )

    async def score(self, raw: bytes, _: Context) -> bytes:
        """Decide one transaction by its raw score alone."""
        request = decode_message(ScoreRequest, raw, UNARY_BYTES)
        arrival = self._reception.receive(request.transaction, _CALLER)
        if self._is_alone:
            (decision,) = await self._decide([arrival])
        else:
            (decision,) = await self._rounds.submit([arrival])
        return decision.SerializeToString()

    async def _decide(self, arrivals: Sequence[Arrival]) -> list[Decision]:
        admitted = await self._features.admit(arrivals)
        features = [one.features for one in admitted if isinstance(one, Admission) and one.features]
        if len(features) < len(arrivals):
            raise OnlineStoreUnavailable("expected every arrival to be admitted")
        scored = await self.batcher.score(
            self._engine,
            np.stack([each.vector for each in features]),
            np.stack([each.sequence for each in features]),
        )
        numbers = zip(arrivals, scored.raw_scores.tolist(), scored.buckets.tolist(), strict=True)
        return [
            Decision(
                transaction=arrival.transaction,
                action=Action.ACTION_APPROVE,
                raw_score=raw_score,
                batch_bucket=bucket,
            )
            for arrival, raw_score, bucket in numbers
        ]


def serve_batching(way: str, port: int, partitions: tuple[int, int]) -> None:
    """Serve until a signal.

    Args:
        way: A `Way`.
        port: Where to listen.
        partitions: Of the accepted topic, and of the entities' one.
    """
    warm_up()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Way(way), port, partitions))


async def _serve(way: Way, port: int, partitions: tuple[int, int]) -> None:
    store = StateStore(RedisSettings.read(), lambda: time.time_ns() // 1_000_000)
    await store.connect()
    scorer = BatchingScorer(way, store, partitions)
    service = RpcService(
        DESCRIPTOR.services_by_name["Scoring"].full_name,
        AccessRole.CALLER,
        {"Score": scorer.score},
        {},
    )
    server = RpcServer(service, Listener(f"127.0.0.1:{port}", _MAX_CALLS, has_reflection=False))
    scoring = asyncio.create_task(scorer.batcher.score_forever())
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await server.start()
    say_ready()
    await stopped.wait()
    await server.stop(grace_s=1.0)
    scoring.cancel()
    await store.close()
