"""The scorer: a grpc.aio server; ONNX Runtime runs once for the rows of a call."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np
import uvloop

from fraudstream.engines.protocol import Engine, FloatArray, bucket_of, pad_rows
from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_SET_HASH, SEQUENCE_HASH
from fraudstream.models.open_engine import Budget
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.runtime.readiness import say_ready
from fraudstream.signing import People
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import (
    FeatureBatchRequest,
    FeatureRow,
    RowResult,
    ScoreBatchResponse,
)
from loadtest.plain.settings import NAME, SERVICE, PlainSettings
from services.scoring.decision.message import write_decision
from services.scoring.decision.verdict import EngineTimes, Verdict, action_of
from services.scoring.inference.explainer import explanation_of, groups_to_ask
from services.scoring.inference.model_source import ModelSource, cpu_class
from services.scoring.inference.served_model import ServedModel
from services.scoring.reasons.explanation import Explanation
from services.scoring.reasons.occlusion import rows_asked
from services.scoring.reasons.texts import FITS, reasons_of
from services.scoring.stream.request import read_arrays, read_subject

Context = grpc.aio.ServicerContext[Any, Any]

_SAMPLE_RATIO: Final = 0.01
_BUDGET: Final = Budget(batch_ms=250.0, growth_bytes=512 << 20)


class RowScorer:
    """Decides what a call brings."""

    def __init__(self, model: ServedModel, engine: Engine) -> None:
        self._model = model
        self._engine = engine
        places = {number: place for place, number in enumerate(FEATURE_HASHES)}
        self._columns = np.array([places[number] for number in model.feature_hashes], np.intp)
        self._template = Decision(
            model_hash=model.model_hash,
            feature_set_hash=FEATURE_SET_HASH,
            sequence_hash=SEQUENCE_HASH,
            cpu_class=cpu_class(),
        )

    async def score(self, request: FeatureBatchRequest, _: Context) -> ScoreBatchResponse:
        """Return the decisions of many rows, by one run of the engine."""
        decisions = self._decide(request.rows)
        return ScoreBatchResponse(results=[RowResult(decision=each) for each in decisions])

    def _decide(self, rows: Sequence[FeatureRow]) -> list[Decision]:
        started_us = epoch_us()
        arrays = read_arrays(rows, len(FEATURE_HASHES))
        vectors, bucket = arrays.vectors[:, self._columns], bucket_of(len(rows))
        engine_us = epoch_us()
        raw = self._engine.score(pad_rows(vectors, bucket), pad_rows(arrays.sequences, bucket))
        times = EngineTimes(engine_us, epoch_us())
        raw_scores = raw[: len(rows)].astype(np.float64)  # [n]
        decisions = []
        for place, score in enumerate(self._model.calibrate(raw_scores).tolist()):
            raw_score = float(raw_scores[place])
            inputs = vectors[place : place + 1], arrays.sequences[place : place + 1]
            verdict = Verdict(
                action_of(score, self._model.thresholds),
                score,
                raw_score,
                self._why(score, raw_score, *inputs),
                bucket=bucket,
                engine_version=self._engine.version,
            )
            subject = read_subject(rows[place], _SAMPLE_RATIO, started_us)
            decision = write_decision(self._template, subject, verdict, times)
            decision.timings.scoring_ended_us = epoch_us()
            decisions.append(decision)
        return decisions

    def _why(
        self, score: float, raw_score: float, vector: FloatArray, sequence: FloatArray
    ) -> Explanation:
        model = self._model
        if score < model.thresholds.challenge:
            return FITS
        if score < model.thresholds.review:
            (estimated,) = model.estimate.contributions(vector).tolist()
            return Explanation(reasons_of(estimated, model.occlusions), is_estimated=True)
        groups = groups_to_ask(model, vector[0])
        answers = self._engine.score(*rows_asked(vector[0], sequence[0], groups))
        return explanation_of(raw_score, answers, groups, sequence[0])


def serve(settings: PlainSettings) -> None:
    """Serve until a signal."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


async def _serve(settings: PlainSettings) -> None:
    people = People.load(settings.people_file)
    repository = ModelRepository(settings.model, people, epoch_ms)
    scorer = RowScorer(*ModelSource(repository, _BUDGET, None).load_champion())
    server = grpc.aio.server()
    methods = {
        NAME: grpc.unary_unary_rpc_method_handler(
            scorer.score,
            request_deserializer=FeatureBatchRequest.FromString,
            response_serializer=ScoreBatchResponse.SerializeToString,
        )
    }
    handler = grpc.method_handlers_generic_handler(SERVICE, methods)
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{settings.scorer_port}")
    await server.start()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    say_ready()
    await stopped.wait()
    await server.stop(grace=1.0)
