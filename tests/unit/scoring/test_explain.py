"""Explanations take what decisions leave of the engine."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from fraudstream.engines.protocol import BUCKETS, FloatArray
from fraudstream.errors import Overloaded
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.models.calibration import Thresholds
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.inference.batcher import MAX_WAITING_BATCHES, Batcher
from services.scoring.inference.explainer import Explainer
from services.scoring.inference.served_model import ServedModel
from services.scoring.reasons.estimate import Estimate
from services.scoring.reasons.occlusion import Occlusion
from tests.fakes.fake_engine import FakeEngine

FEATURES = len(FEATURE_HASHES)
ROOM = MAX_WAITING_BATCHES * BUCKETS[-1]
MODEL = ServedModel(
    model_hash="m",
    feature_hashes=tuple(FEATURE_HASHES),
    feature_names=tuple(FEATURE_NAMES),
    sequence_hash=SEQUENCE_HASH,
    calibrate=lambda raw: raw,
    thresholds=Thresholds(challenge=0.5, review=0.6, decline=0.7),
    occlusions=(
        Occlusion(
            "ONE",
            "One",
            np.array([0], np.intp),
            np.zeros(1, np.float32),
            np.zeros(0, np.intp),
            np.zeros(0, np.float32),
        ),
    ),
    estimate=Estimate(np.zeros(FEATURES, np.float32), np.zeros((FEATURES, 1))),
)


def arrays_of(rows: int) -> tuple[FloatArray, FloatArray]:
    """Return rows without a past."""
    shape = (rows, SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS))
    return np.zeros((rows, FEATURES), np.float32), np.zeros(shape, np.float32)


def decisions(count: int) -> list[Decision]:
    """Return decisions of the model, as they were recorded."""
    vectors, sequences = arrays_of(1)
    decision = Decision(
        model_hash="m",
        feature_set_hash=FEATURE_SET_HASH,
        sequence_hash=SEQUENCE_HASH,
        vector=vectors.tobytes(),
        sequence=sequences.tobytes(),
    )
    return [decision] * count


async def test_a_round_of_alerts_leaves_decisions_their_room() -> None:
    """While the reasons of 128 alerts wait, as many rows as ever are taken for decisions."""
    engine, batcher = FakeEngine(), Batcher(lambda: 1)
    explainer = Explainer(MODEL, engine, batcher)
    measuring = asyncio.create_task(explainer.measure_decisions(decisions(128)))
    await asyncio.sleep(0)

    deciding = asyncio.create_task(batcher.score(engine, *arrays_of(ROOM)))
    await asyncio.sleep(0)
    waiting = batcher.waiting_rows
    work = asyncio.create_task(batcher.score_forever())
    decided, measured = await asyncio.gather(deciding, measuring)
    work.cancel()
    batcher.close()

    assert waiting == ROOM
    assert len(decided.raw_scores) == ROOM
    assert all(measured)


async def test_alerts_keep_their_estimate_while_decisions_keep_the_engine_busy() -> None:
    """An alert is worth more than its why: nobody waits for an engine that has other work."""
    engine, batcher = FakeEngine(), Batcher(lambda: 1)
    deciding = asyncio.create_task(batcher.score(engine, *arrays_of(ROOM)))
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await Explainer(MODEL, engine, batcher).measure_decisions(decisions(1))

    deciding.cancel()
    batcher.close()


async def test_explanations_of_a_call_take_at_most_half_of_the_queue() -> None:
    """A batch whose every row is flagged is answered with estimates, not with a full queue."""
    engine, batcher = FakeEngine(), Batcher(lambda: 1)
    rows = ROOM // 2 // 3 + 1  # three questions each

    with pytest.raises(Overloaded):
        await Explainer(MODEL, engine, batcher).measure(*arrays_of(rows), [0.5] * rows)

    assert batcher.waiting_rows == 0
    batcher.close()
