"""Batches of 64 at the features service's door against the bare engine, on the same rows and core.

Rows are those of cards with a past, their features computed by our kernel; each is new. A batch is
answered when its decisions are recorded and acknowledged by the broker, as ever; four are in
flight, of different shards. The bare engine scores the same vectors and sequences, 64 at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import grpc.aio
import numpy as np

from fraudstream.broker.topic_info import Log
from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import MAX_ROWS, Engine, score_rows
from fraudstream.features.catalogue import FEATURE_HASHES, SEQUENCE_HASH
from fraudstream.models.artefact import read_artefact, write_artefact
from fraudstream.models.calibration import Thresholds
from fraudstream.models.manifest import golden_text
from fraudstream.store.shard import FIRST_GENERATION
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.topics import partition_of
from fraudstream.transaction.identity import digest_of
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, ScoreBatchResponse
from harness.model_repository import DEMO_MODEL
from harness.service_process import ServiceProcess
from loadtest.bench.cores import Cores, bound_to
from loadtest.bench.cpu import session_cpu_us, spent
from loadtest.bench.figure import (
    MeasurementFailed,
    Plan,
    Sample,
    Side,
    Sides,
    experiment,
    ratio,
)
from loadtest.figures.features.population import FeatureLot, Population
from loadtest.figures.line.servers import line_of, running
from loadtest.figures.models.int8_vs_fp32 import lacking_for_lstm
from loadtest.figures.scoring.doors import NEEDS, SCORING, running_store
from loadtest.figures.table import figure

ROWS: Final = 12_800
IN_FLIGHT: Final = 4
_METHOD: Final = "/fraudstream.v1.InternalScoring/ScoreBatch"
_TIMEOUT_S: Final = 60.0
_SAMPLE_RATIO: Final = 0.01
_US_PER_S: Final = 1e6
_GOLDEN: Final = 256
# Shares of rows that reach challenge, review and decline: those of the demo's model on its tests.
_FLAGGED: Final = (0.0177, 0.0074, 0.0015)


@experiment(
    figure("batch64_vs_engine", ratio("2x128", "engine 2x128", "rows_per_s")),
    needs=(*NEEDS, lacking_for_lstm),
)
def batch64_vs_engine(plan: Plan) -> Iterator[Sides]:
    """What is left of the engine's speed when it decides, records and publishes."""
    cores = Cores.of_this_process()
    with ExitStack() as stack:
        stack.enter_context(bound_to(cores.rest))
        store = stack.enter_context(running_store(plan))
        model, coming = plan.folder / "wide", store.population.coming
        engine = _write_wide_model(model, coming)
        more = {"FRAUD_SCORING_MODEL": str(model)}
        line = line_of(store.servers.environment, plan.folder / "2x128", SCORING, more)
        with bound_to(cores.server):
            stack.enter_context(running(line.services))
        batches = _Batches(store.population, store.log)
        service = _Service(line.services[0], line.ports.scoring_internal, batches)
        rows = plan.rows(ROWS, IN_FLIGHT * MAX_ROWS)
        with bound_to(cores.generator):
            service.run(rows)
        bare = partial(_score, engine, coming, rows)
        yield {
            "2x128": partial(_bound, cores.generator, partial(service.run, rows)),
            "engine 2x128": partial(_bound, cores.server, bare),
        }


def _bound(cores: frozenset[int], side: Side) -> Sample:
    with bound_to(cores):
        return side()


def _score(engine: Engine, lot: FeatureLot, rows: int) -> Sample:
    """Score so many rows, 64 at a time, in this process."""
    some = min(rows, len(lot.vectors)) // MAX_ROWS * MAX_ROWS
    took = spent(lambda: score_rows(engine, lot.vectors[:some], lot.sequences[:some]), some)
    return {"rows_per_s": _US_PER_S / took["wall_us"], "cpu_us": took["cpu_us"]}


def _write_wide_model(folder: Path, lot: FeatureLot) -> OnnxEngine:
    """Write an artefact with an LSTM that was never fitted; return its network as an engine.

    It is the demo's artefact but for its network, its golden rows, and thresholds that flag as few
    rows as those of a fitted model.
    """
    from loadtest.engines.networks import subject
    from training.train.export import member_of

    demo = read_artefact(DEMO_MODEL).manifest
    onnx = subject("lstm-2x128").onnx()
    engine = OnnxEngine(onnx)
    raw = score_rows(engine, lot.vectors, lot.sequences)
    scores = demo.calibration.scores(raw.astype(np.float64))
    challenge, review, decline = np.quantile(scores, [1 - share for share in _FLAGGED]).tolist()
    chosen = np.linspace(0, len(raw) - 1, _GOLDEN).astype(np.intp)
    golden = GoldenRows(lot.vectors[chosen], lot.sequences[chosen], raw[chosen])
    member = member_of("lstm", demo.members[0].kind, onnx)
    manifest = demo.model_copy(
        update={
            "name": "wide",
            "members": (member,),
            "thresholds": Thresholds(challenge=challenge, review=review, decline=decline),
            "golden": golden_text(golden),
        }
    )
    write_artefact(folder, manifest, {member.file: onnx})
    return engine


class _Batches:
    """Requests of 64 new rows of one shard each, without end."""

    def __init__(self, population: Population, log: Log) -> None:
        self._fresh = population.fresh(seed=2)
        self._lot = population.coming
        self._log = log
        self._numbers = count()
        self._offsets = [count() for _ in range(log.partitions)]

    def take(self, rows: int) -> list[bytes]:
        """Return serialised requests for so many rows, rounded down to whole batches."""
        requests: list[bytes] = []
        filling = [self._empty(partition) for partition in range(self._log.partitions)]
        while len(requests) < rows // MAX_ROWS:
            for transaction in self._fresh.take(MAX_ROWS):
                place = next(self._numbers) % len(self._lot.transactions)
                partition = partition_of(transaction.card_token.encode(), self._log.partitions)
                request = filling[partition]
                row = request.rows.add(
                    digest=digest_of(transaction),
                    vector=self._lot.vectors[place].tobytes(),
                    sequence=self._lot.sequences[place].tobytes(),
                    offset=next(self._offsets[partition]),
                    traceparent=TraceContext.start(_SAMPLE_RATIO).traceparent(),
                )
                row.transaction.CopyFrom(transaction)
                if len(request.rows) == MAX_ROWS:
                    request.from_offset = request.rows[0].offset
                    requests.append(request.SerializeToString())
                    filling[partition] = self._empty(partition)
        return requests[: rows // MAX_ROWS]

    def _empty(self, partition: int) -> FeatureBatchRequest:
        return FeatureBatchRequest(
            topic_id=self._log.topic_id,
            partition=partition,
            generation=FIRST_GENERATION,
            feature_hashes=FEATURE_HASHES,
            sequence_hash=SEQUENCE_HASH,
        )


class _Service:
    """One scoring service, and what calls its door for the features service."""

    def __init__(self, process: ServiceProcess, port: int, batches: _Batches) -> None:
        self._process = process
        self._port = port
        self._batches = batches

    def run(self, rows: int) -> Sample:
        """Have so many rows decided by the model, else `MeasurementFailed`."""
        requests = self._batches.take(rows)
        rows = len(requests) * MAX_ROWS
        spent_us, started_s = session_cpu_us({self._process.pid}), time.monotonic()
        answers = asyncio.run(self._call_all(requests))
        wall_s = time.monotonic() - started_s
        spent_us = session_cpu_us({self._process.pid}) - spent_us
        results = [r for answer in answers for r in ScoreBatchResponse.FromString(answer).results]
        sound = sum(r.HasField("decision") and not r.decision.stand_in for r in results)
        if sound != rows:
            raise MeasurementFailed(f"{rows} rows, {sound} of them decided by the model")
        return {"rows_per_s": rows / wall_s, "cpu_us": spent_us / rows}

    async def _call_all(self, requests: Sequence[bytes]) -> list[bytes]:
        waiting, answers = iter(requests), list[bytes]()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            call = channel.unary_unary(_METHOD, bytes, bytes)

            async def caller() -> None:
                answers.extend([await call(request, timeout=_TIMEOUT_S) for request in waiting])

            await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        return answers
