"""The queue before the engine, with a working engine of plain numpy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import get_ident

import numpy as np
import pytest

from fraudstream.engines.protocol import BUCKETS, GPU_BUCKETS, FloatArray
from fraudstream.errors import FeatureSpecMismatch, Overloaded
from fraudstream.models.calibration import Thresholds
from fraudstream.v1.decision_pb2 import StandInCause
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.inference.batcher import MAX_WAITING_BATCHES, Batcher, EngineRows
from services.scoring.inference.model_scorer import ModelJudge
from services.scoring.inference.served_model import ServedModel
from services.scoring.reasons.estimate import Estimate
from tests.fakes.fake_engine import FakeEngine

STEPS = (2, 3)


class Lone:
    """A batcher with the one engine that a test is about."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.batcher = Batcher(lambda: 1)

    async def score(self, vectors: FloatArray, sequences: FloatArray) -> EngineRows:
        """Score rows."""
        return await self.batcher.score(self.engine, vectors, sequences)


@asynccontextmanager
async def running(engine: FakeEngine) -> AsyncIterator[Lone]:
    """Yield a batcher at work."""
    lone = Lone(engine)
    work = asyncio.create_task(lone.batcher.score_forever())
    yield lone
    engine.gate.set()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    lone.batcher.close()


def rows(*numbers: float) -> tuple[FloatArray, FloatArray]:
    """Return rows that score these numbers."""
    vectors = np.array([[number, 0.0] for number in numbers], np.float32)
    return vectors, np.zeros((len(numbers), *STEPS), np.float32)


async def test_each_caller_gets_the_scores_of_its_own_rows() -> None:
    """Rows of many callers share batches and are told apart again, in order."""
    async with running(FakeEngine()) as batcher:
        callers = [[n + i / 16 for i in range(n % 5 + 1)] for n in range(40)]

        found = await asyncio.gather(*(batcher.score(*rows(*numbers)) for numbers in callers))

        assert [answer.raw_scores.tolist() for answer in found] == callers


async def test_what_waits_while_the_engine_is_busy_is_one_batch() -> None:
    """No timer: the first row goes alone, the next batch is all that came meanwhile."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as batcher:
        calls = [asyncio.create_task(batcher.score(*rows(n))) for n in range(20)]
        await asyncio.sleep(0)
        engine.gate.set()

        await asyncio.gather(*calls)

        assert sum(engine.sizes) <= 1 + 32
        assert set(engine.sizes) <= set(BUCKETS)


async def test_large_call_is_cut_into_batches_of_64() -> None:
    """A batch is never larger than 64 rows, and the last is padded to a bucket."""
    engine = FakeEngine()
    async with running(engine) as batcher:
        answer = await batcher.score(*rows(*range(150)))

        assert engine.sizes == [64, 64, 32]
        assert answer.raw_scores.tolist() == list(range(150))
        assert answer.buckets.tolist() == [64] * 128 + [32] * 22


async def test_batches_grow_to_what_the_engine_takes() -> None:
    """A GPU engine gets up to 1024 rows at once."""
    engine = FakeEngine()
    engine.buckets = GPU_BUCKETS
    async with running(engine) as batcher:
        answer = await batcher.score(*rows(*range(1100)))

        assert engine.sizes == [1024, 128]
        assert answer.buckets.tolist() == [1024] * 1024 + [128] * 76


async def test_few_rows_of_a_quick_engine_need_no_thread() -> None:
    """Once it was quick with few rows, a lone caller's run where its call is; many rows do not."""
    engine = FakeEngine()
    async with running(engine) as lone:
        for count in (1, 1, 4, 5):
            await lone.score(*rows(*range(count)))

        engine_thread, *others = engine.threads
        assert engine_thread != get_ident()
        assert [thread == get_ident() for thread in others] == [True, True, False]


async def test_slow_engine_keeps_to_its_thread() -> None:
    """Few rows of one that takes milliseconds would hold up the event loop."""
    times_us = iter(range(0, 100_000, 2_000))
    engine = FakeEngine()
    async with running(engine) as lone:
        lone.batcher._clock_us = lambda: next(times_us)
        for _ in range(3):
            await lone.score(*rows(1))

        assert get_ident() not in engine.threads


async def test_gpu_keeps_to_the_thread() -> None:
    """One that stalls must not stop the event loop, where stand-ins are made."""
    engine = FakeEngine()
    engine.is_cpu = False
    async with running(engine) as lone:
        for _ in range(3):
            await lone.score(*rows(1))

        assert get_ident() not in engine.threads


async def test_few_rows_wait_for_the_batch_that_runs() -> None:
    """One engine is used by one thread at a time, however few the rows."""
    engine = FakeEngine()
    async with running(engine) as lone:
        await lone.score(*rows(1))
        engine.gate.clear()
        many = asyncio.create_task(lone.score(*rows(*range(64))))
        await asyncio.sleep(0)  # one turn of the loop, in which a call joins the queue
        few = asyncio.create_task(lone.score(*rows(7)))
        await asyncio.sleep(0)
        engine.gate.set()

        await asyncio.gather(many, few)

        assert engine.sizes == [1, 64, 1]
        assert get_ident() not in engine.threads


async def test_rows_say_what_computed_them() -> None:
    """An engine may change between two batches of one call: each row names its own."""
    engine = FakeEngine()
    engine.changes = [("gpu", BUCKETS), ("cpu", BUCKETS)]
    async with running(engine) as batcher:
        answer = await batcher.score(*rows(*range(70)))

        assert answer.versions == ["gpu"] * 64 + ["cpu"] * 6


async def test_engines_take_turns_and_share_no_batch() -> None:
    """Two models during a swap: neither waits for all rows of the other."""
    first, second = FakeEngine(), FakeEngine()
    first.gate.clear()
    async with running(first) as lone:
        begun = asyncio.create_task(lone.score(*rows(0)))
        await asyncio.sleep(0)
        turns: list[str] = []
        first.turns, second.turns = (turns, "first"), (turns, "second")
        calls = [
            asyncio.create_task(lone.batcher.score(engine, *rows(*range(count))))
            for engine, count in ((first, 130), (second, 70))
        ]
        await asyncio.sleep(0)
        first.gate.set()

        answers = await asyncio.gather(*calls)

        await begun
        assert turns == ["first", "first", "second", "first", "second", "first"]
        assert [answer.raw_scores.tolist() for answer in answers] == [
            list(range(130)),
            list(range(70)),
        ]


async def test_patient_rows_are_scored_when_no_other_row_waits() -> None:
    """What decides nothing goes last, whenever it came."""
    engine, shadow = FakeEngine(), FakeEngine()
    engine.gate.clear()
    async with running(engine) as lone:
        begun = asyncio.create_task(lone.score(*rows(0)))
        await asyncio.sleep(0)
        turns: list[str] = []
        engine.turns, shadow.turns = (turns, "decides"), (turns, "shadow")
        patient = asyncio.create_task(lone.batcher.score_when_idle(shadow, *rows(1, 2)))
        await asyncio.sleep(0)
        deciding = asyncio.create_task(lone.score(*rows(*range(100))))
        await asyncio.sleep(0)
        assert lone.batcher.waiting_rows == 100
        engine.gate.set()

        await asyncio.gather(begun, patient, deciding)

        assert turns == ["decides", "decides", "decides", "shadow"]


async def test_bucket_is_that_of_the_engine_that_took_over() -> None:
    """A batch of 1024 rows that a CPU had to score was scored in batches of 64."""
    engine = FakeEngine()
    engine.buckets = GPU_BUCKETS
    engine.changes = [("cpu", BUCKETS)]
    async with running(engine) as batcher:
        answer = await batcher.score(*rows(*range(1024)))

        assert answer.buckets.tolist() == [64] * 1024


async def test_queue_is_bounded() -> None:
    """More rows than may wait are refused at once."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as batcher:
        full = rows(*range(MAX_WAITING_BATCHES * BUCKETS[-1]))
        waiting = asyncio.create_task(batcher.score(*full))
        await asyncio.sleep(0)

        with pytest.raises(Overloaded):
            await batcher.score(*full)

        waiting.cancel()


async def test_cancelled_caller_gives_up_its_rows() -> None:
    """Rows that nobody waits for any more are not scored, and the others are."""
    engine = FakeEngine()
    engine.gate.clear()
    async with running(engine) as batcher:
        first = asyncio.create_task(batcher.score(*rows(1)))
        await asyncio.sleep(0)
        given_up = asyncio.create_task(batcher.score(*rows(*range(64))))
        kept = asyncio.create_task(batcher.score(*rows(3)))
        await asyncio.sleep(0)
        given_up.cancel()
        engine.gate.set()

        assert (await kept).raw_scores.tolist() == [3.0]
        await first
        assert 64 not in engine.sizes


def judge_with(lone: Lone) -> ModelJudge:
    """Return a judge whose model needs the features 11 and 12."""
    model = ServedModel(
        model_hash="m",
        feature_hashes=(12, 11),
        feature_names=("twelve", "eleven"),
        sequence_hash="s",
        calibrate=lambda raw: raw,
        thresholds=Thresholds(challenge=0.5, review=0.6, decline=0.7),
        occlusions=(),
        estimate=Estimate(np.zeros(2, np.float32), np.zeros((2, 0))),
    )
    return ModelJudge(model, lone.engine, lone.batcher)


async def test_judge_gathers_the_features_that_the_model_needs() -> None:
    """Vectors may hold more, in another order."""
    async with running(FakeEngine()) as batcher:
        vectors = np.array([[0.1, 0.2, 0.3]], np.float32)
        arrays = FeatureArrays(vectors, np.zeros((1, *STEPS), np.float32))

        judged = await judge_with(batcher).judge(arrays, Layout((10, 11, 12), "", "s"))

        assert judged.verdicts[0].raw_score == pytest.approx(0.3)


async def test_judge_names_what_is_missing() -> None:
    """A vector without a needed feature is refused by its name."""
    async with running(FakeEngine()) as batcher:
        arrays = FeatureArrays(*rows(0.5))

        with pytest.raises(FeatureSpecMismatch, match="twelve"):
            await judge_with(batcher).judge(arrays, Layout((10, 11), "", "s"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.5, 1.5])
async def test_score_that_is_none_becomes_a_stand_in_of_its_row_only(number: float) -> None:
    """NaN or a number outside [0, 1] is no score."""
    async with running(FakeEngine()) as batcher:
        vectors = np.array([[0, 0, 0.25], [0, 0, number]], np.float32)
        arrays = FeatureArrays(vectors, np.zeros((2, *STEPS), np.float32))

        good, bad = (
            await judge_with(batcher).judge(arrays, Layout((10, 11, 12), "", "s"))
        ).verdicts

        assert (good.is_stand_in, good.engine_version) == (False, "numpy")
        assert bad.engine_version == ""
        assert bad.stand_in_cause == StandInCause.STAND_IN_CAUSE_MODEL_FAILED


async def test_engine_that_fails_leaves_stand_ins() -> None:
    """A failing engine costs the model's opinion, never the answer."""
    engine = FakeEngine()
    engine.is_failing = True
    async with running(engine) as batcher:
        arrays = FeatureArrays(*rows(0.5, 0.1))

        judged = await judge_with(batcher).judge(arrays, Layout((12, 11), "", "s"))

        assert [verdict.is_stand_in for verdict in judged.verdicts] == [True, True]


async def test_only_a_known_card_has_habits_to_fit() -> None:
    """The first transaction of a card passes for want of history, a later one for its habits."""
    async with running(FakeEngine()) as batcher:
        sequences = np.full((2, *STEPS), -1.0, np.float32)
        sequences[:, -1] = 0.0
        sequences[1, -2] = 1.0
        arrays = FeatureArrays(np.full((2, 3), 0.1, np.float32), sequences)

        verdicts = (await judge_with(batcher).judge(arrays, Layout((10, 11, 12), "", "s"))).verdicts

        assert [each.why.reasons[0].code for each in verdicts] == ["NO_HISTORY", "FITS_HABITS"]
