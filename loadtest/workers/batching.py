"""Ways to batch, behind the real gRPC front end: what scoring does, and what it might do instead.

One process serves `Score`: it decodes and checks, admits and reads as scoring does, computes the
features, runs the engine, and answers a decision with the score. It records and publishes nothing,
so what differs between the ways is not hidden.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np
import uvloop

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.features.warm_up import warm_up
from fraudstream.models.artefact import read_artefact
from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.settings import RedisSettings
from fraudstream.store.entity_reader import EntityReader
from fraudstream.store.shard_store import StateStore
from fraudstream.transaction.event_time import LATENESS_LONGEST_MS, TimeBounds
from fraudstream.transaction.money import indicative_rate_table
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.scoring_pb2 import ScoreRequest
from harness.model_repository import DEMO_MODEL
from loadtest.workers.echo import serve_score
from services.scoring.authorise.features import Admission, DoorFeatures
from services.scoring.authorise.intake import Arrival, Caller, Reception
from services.scoring.authorise.rounds import Coalescer
from services.scoring.inference.batcher import Batcher
from services.scoring.rpc.messages import UNARY_BYTES, decode_message
from services.scoring.rpc.open_calls import OpenCall
from services.scoring.shards.card_shards import CardShards

_TIMER_S: Final = 0.002
_MAX_CALLS: Final = 512
_ROUND: Final = 256
_CALLER: Final = Caller(is_private=True, parent=None)


class Way(StrEnum):
    """How calls are gathered."""

    CHOSEN = "chosen"  # as scoring does: rounds of the store, batches of what waited, a thread
    TIMER = "timer"  # a batch waits two milliseconds for more rows
    INLINE = "inline"  # the engine runs in the event loop
    ALONE = "alone"  # each call reads the store for itself


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
        self.batcher = kind(epoch_us)
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
            clock_ms=epoch_ms,
        )

    async def score(self, raw: bytes, _: OpenCall) -> bytes:
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


def serve_batching(way: str, port: str, cards: str, entities: str) -> None:
    """Serve a `Way` until a signal, for so many partitions of accepted rows and entities."""
    warm_up()

    async def serve() -> None:
        store = StateStore(RedisSettings.read())
        await store.connect()
        scorer = BatchingScorer(Way(way), store, (int(cards), int(entities)))
        scoring = asyncio.create_task(scorer.batcher.score_forever())
        await serve_score(scorer.score, int(port), _MAX_CALLS)
        scoring.cancel()
        await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
