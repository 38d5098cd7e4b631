"""One queue in front of one engine thread; a batch is whatever waited while the engine was busy.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
No timer: a lone row starts at once (a timer of 2 ms was worse at every load that was measured).
Batches are padded to a bucket, so a row's score depends on neither its place nor its neighbours.
Budget: 100 microseconds a batch beyond the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import GPU_BUCKETS, Engine, FloatArray, bucket_of, pad_rows
from fraudstream.errors import ModelNotLoaded, Overloaded

IntArray = npt.NDArray[np.int32]

# About half a second of an LSTM 2 x 64 on one core.
MAX_WAITING_BATCHES: Final = 64

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
    """Rows of one caller, handed to the engine in one or more batches."""

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
    slices: list[_Slice] = field(default_factory=list)
    rows: int = 0


class Batcher:
    """The queue, the engine and its thread. Use from one event loop."""

    def __init__(self, engine: Engine, clock_us: Callable[[], int]) -> None:
        self._engine = engine
        self._clock_us = clock_us
        self._jobs: deque[_Job] = deque()
        self._waiting_rows = 0
        self._has_jobs = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @property
    def waiting_rows(self) -> int:
        """Rows that no batch has taken yet."""
        return self._waiting_rows

    def close(self) -> None:
        """End thread and engine, after `score_forever` has ended. Rows that wait get no answer."""
        self._thread.shutdown(wait=True)
        self._engine.close()

    async def score(self, vectors: FloatArray, sequences: FloatArray) -> EngineRows:
        """Return the raw scores of the rows, float32 [n, F] and float32 [n, T, C].

        A caller that is cancelled gives up its rows; those not yet begun are dropped.

        Raises:
            Overloaded: Too many rows wait already.
        """
        rows = len(vectors)
        allowed = MAX_WAITING_BATCHES * self._engine.buckets[-1]
        if self._waiting_rows + rows > allowed:
            msg = f"{self._waiting_rows} rows wait for the engine, at most {allowed} may"
            raise Overloaded(msg)
        answer: asyncio.Future[EngineRows] = asyncio.get_running_loop().create_future()
        raw_scores = np.full(rows, np.nan, np.float32)
        buckets, versions = np.zeros(rows, np.int32), [""] * rows
        self._jobs.append(_Job(vectors, sequences, answer, raw_scores, buckets, versions))
        self._waiting_rows += rows
        self._has_jobs.set()
        return await answer

    async def score_forever(self) -> None:
        """Take batches and score them, one after another."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_jobs.wait()
            batch = self._take_batch()
            if batch.rows:
                await loop.run_in_executor(self._thread, self._score_batch, batch)
                self._answer(batch)

    def _take_batch(self) -> _Batch:
        """Take up to the engine's largest bucket from the front of the queue."""
        batch = _Batch()
        most = self._engine.buckets[-1]
        while self._jobs and batch.rows < most:
            job = self._jobs[0]
            left = len(job.vectors) - job.taken
            taken = 0 if job.answer.done() else min(left, most - batch.rows)
            if taken:
                batch.slices.append(_Slice(job, job.taken, job.taken + taken))
            batch.rows += taken
            job.taken += taken
            self._waiting_rows -= taken
            if job.answer.done() or taken == left:
                self._waiting_rows -= left - taken
                self._jobs.popleft()
        if not self._jobs:
            self._has_jobs.clear()
        return batch

    def _score_batch(self, batch: _Batch) -> None:
        """Run the engine once, in its thread. A failure leaves NaN, which becomes a stand-in."""
        slices, engine = batch.slices, self._engine
        # The engine may have changed since the batch was taken: it splits what is too large.
        bucket = bucket_of(batch.rows, GPU_BUCKETS)
        vectors = np.concatenate([part.job.vectors[part.begin : part.end] for part in slices])
        sequences = np.concatenate([part.job.sequences[part.begin : part.end] for part in slices])
        started_us = self._clock_us()
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
            part.job.started_us = part.job.started_us or started_us
            row += rows

    def _answer(self, batch: _Batch) -> None:
        ended_us = self._clock_us()
        for part in batch.slices:
            job = part.job
            if part.end == len(job.vectors) and not job.answer.done():
                rows = EngineRows(
                    job.raw_scores, job.buckets, job.versions, job.started_us, ended_us
                )
                job.answer.set_result(rows)
