"""The queue in front of one engine thread; a batch is whatever waited while it was busy.

A batch of a few rows that the engine is quick with runs on the event loop, while the thread is
idle: the way there and back costs as much. Several models share the thread: during a swap, and
where a canary decides some cards. A batch is of one engine, and engines take turns. Rows that can
wait (of challengers that decide nothing) are scored only when no other row waits.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
No timer: a lone row starts at once (a timer of 2 ms was worse at every load that was measured).
Batches are padded to a bucket, so a row's score depends on neither its index nor its neighbours.
Budget: 100 microseconds a batch beyond the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ClassVar, Final
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import GPU_BUCKETS, Engine, FloatArray, bucket_of, pad_rows
from fraudstream.errors import ModelNotLoaded, Overloaded

IntArray = npt.NDArray[np.int32]

# About half a second of an LSTM 2 x 64 on one core.
MAX_WAITING_BATCHES: Final = 64

# What runs on the event loop: few rows, of a CPU engine that was quick with such a batch last.
_FEW_ROWS: Final = 4
_QUICK_US: Final = 1_000

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineRows:
    """What the engine said of some rows, in their order.

    Attributes:
        raw_scores: float32 [n]; NaN where the engine failed.
        buckets: int32 [n], rows of the padded batch that each was scored in.
        versions: What computed each.
        started_us: When the first of them reached the engine, epoch microseconds.
        ended_us: When the last of them left it.
    """

    raw_scores: FloatArray
    buckets: IntArray
    versions: list[str]
    started_us: int
    ended_us: int


@dataclass(slots=True)
class _Job:
    """Rows of one caller, handed to an engine in one or more batches."""

    engine: Engine
    vectors: FloatArray
    sequences: FloatArray
    answer: asyncio.Future[EngineRows]
    raw_scores: FloatArray
    buckets: IntArray
    versions: list[str]
    taken: int = 0
    started_us: int = 0


@dataclass(slots=True)
class _Slice:
    """The rows [begin, end) of a job."""

    job: _Job
    begin: int
    end: int


@dataclass(slots=True)
class _Batch:
    engine: Engine
    slices: list[_Slice] = field(default_factory=list)
    rows: int = 0
    started_us: int = 0


class _Queue:
    """Jobs that wait, a line for each engine; an engine that has had its turn is last again."""

    def __init__(self) -> None:
        self.rows = 0
        self._lines: dict[Engine, deque[_Job]] = {}

    def add(self, job: _Job) -> None:
        self._lines.setdefault(job.engine, deque()).append(job)
        self.rows += len(job.vectors)

    def __bool__(self) -> bool:
        return bool(self._lines)

    def take(self) -> _Batch:
        """Take up to the engine's largest bucket from the front of its line."""
        engine = next(iter(self._lines))
        jobs = self._lines.pop(engine)
        batch = _Batch(engine)
        most = engine.buckets[-1]
        while jobs and batch.rows < most:
            job = jobs[0]
            left = len(job.vectors) - job.taken
            taken = 0 if job.answer.done() else min(left, most - batch.rows)
            if taken:
                batch.slices.append(_Slice(job, job.taken, job.taken + taken))
            batch.rows += taken
            job.taken += taken
            self.rows -= taken
            if job.answer.done() or taken == left:
                self.rows -= left - taken
                jobs.popleft()
        if jobs:
            self._lines[engine] = jobs
        return batch


class Batcher:
    """The queue and the engine thread. Use from one event loop."""

    few_rows: ClassVar[int] = _FEW_ROWS

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._deciding = _Queue()
        self._patient = _Queue()
        self._has_jobs = asyncio.Event()
        self._is_running = False
        self._quick: WeakSet[Engine] = WeakSet()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @property
    def waiting_rows(self) -> int:
        """Rows for decisions that no batch has taken yet."""
        return self._deciding.rows

    def close(self) -> None:
        """End the thread, after `score_forever` has ended. Rows that wait get no answer."""
        self._thread.shutdown(wait=True)

    async def finish_batch(self) -> None:
        """Wait for the running batch, whichever engine it uses: a few milliseconds.

        A caller that was cancelled does not wait for it.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    async def score(self, engine: Engine, vectors: FloatArray, sequences: FloatArray) -> EngineRows:
        """Return the raw scores of the rows, float32 [n, F] and float32 [n, T, C].

        A caller that is cancelled gives up its rows; those not yet begun are dropped.

        Raises:
            Overloaded: Too many rows wait already.
        """
        rows = self._deciding.rows
        allowed = MAX_WAITING_BATCHES * engine.buckets[-1]
        if rows + len(vectors) > allowed:
            msg = f"{rows} rows wait for the engine, at most {allowed} may"
            raise Overloaded(msg)
        is_free = not self._is_running and not self._deciding
        # A GPU that stalls would take the event loop with it, and every stand-in.
        is_quick = engine in self._quick and engine.is_cpu
        if is_free and is_quick and len(vectors) <= self.few_rows:
            return await self._score_at_once(engine, vectors, sequences)
        return await self._submit(self._deciding, engine, vectors, sequences)

    async def score_when_idle(
        self, engine: Engine, vectors: FloatArray, sequences: FloatArray
    ) -> EngineRows:
        """Return the raw scores of rows that no decision waits for, once nothing else waits.

        A batch that has begun runs to its end, so few rows at a time keep decisions waiting least.
        """
        return await self._submit(self._patient, engine, vectors, sequences)

    async def score_forever(self) -> None:
        """Take batches and score them, one after another."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_jobs.wait()
            batch = self._take_batch()
            if batch.rows:
                self._is_running = True
                try:
                    await loop.run_in_executor(self._thread, self._score_batch, batch)
                finally:
                    self._is_running = False
                self._answer(batch)

    def _take_batch(self) -> _Batch:
        batch = (self._deciding or self._patient).take()
        if not self._deciding and not self._patient:
            self._has_jobs.clear()
        return batch

    async def _submit(
        self, queue: _Queue, engine: Engine, vectors: FloatArray, sequences: FloatArray
    ) -> EngineRows:
        job = _new_job(engine, vectors, sequences)
        queue.add(job)
        self._has_jobs.set()
        return await job.answer

    async def _score_at_once(
        self, engine: Engine, vectors: FloatArray, sequences: FloatArray
    ) -> EngineRows:
        job, rows = _new_job(engine, vectors, sequences), len(vectors)
        batch = _Batch(engine, [_Slice(job, 0, rows)], rows)
        self._score_batch(batch)
        self._answer(batch)
        return await job.answer

    def _score_batch(self, batch: _Batch) -> None:
        """Run the engine once. A failure leaves NaN, which becomes a stand-in."""
        slices, engine = batch.slices, batch.engine
        # The engine may have changed since the batch was taken: it splits what is too large.
        bucket = bucket_of(batch.rows, GPU_BUCKETS)
        vectors = np.concatenate([part.job.vectors[part.begin : part.end] for part in slices])
        sequences = np.concatenate([part.job.sequences[part.begin : part.end] for part in slices])
        batch.started_us = self._clock_us()
        try:
            scores = engine.score(pad_rows(vectors, bucket), pad_rows(sequences, bucket))
        except ModelNotLoaded as exc:
            _LOG.error(
                "the engine failed on a batch of %d rows: %s", bucket, exc
            )  # the traceback is the library's
            scores = np.full(bucket, np.nan, np.float32)
        bucket = min(bucket, engine.buckets[-1])
        row = 0
        for part in slices:
            rows = part.end - part.begin
            part.job.raw_scores[part.begin : part.end] = scores[row : row + rows]
            part.job.buckets[part.begin : part.end] = bucket
            part.job.versions[part.begin : part.end] = [engine.version] * rows
            part.job.started_us = part.job.started_us or batch.started_us
            row += rows

    def _answer(self, batch: _Batch) -> None:
        ended_us = self._clock_us()
        if batch.rows <= self.few_rows:
            is_quick = ended_us - batch.started_us <= _QUICK_US
            (self._quick.add if is_quick else self._quick.discard)(batch.engine)
        for part in batch.slices:
            job = part.job
            if part.end == len(job.vectors) and not job.answer.done():
                rows = EngineRows(
                    job.raw_scores, job.buckets, job.versions, job.started_us, ended_us
                )
                job.answer.set_result(rows)


def _new_job(engine: Engine, vectors: FloatArray, sequences: FloatArray) -> _Job:
    rows = len(vectors)
    return _Job(
        engine,
        vectors,
        sequences,
        answer=asyncio.get_running_loop().create_future(),
        raw_scores=np.full(rows, np.nan, np.float32),
        buckets=np.zeros(rows, np.int32),
        versions=[""] * rows,
    )
