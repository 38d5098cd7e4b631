"""The engines' room: engines run from a bare copy of the tree, wherever NumPy and a runtime are."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fraudstream.engines.members import Formula, MembersEngine, bounded_logit
from fraudstream.engines.protocol import BUCKETS, FloatArray, score_rows

ROOMS = (
    "protocol",
    "golden",
    "members",
    "onnx_engine",
    "half",
    "cuda",
    "tensorrt_library",
    "tensorrt_build",
    "tensorrt_engine",
    "engine_cache",
    "fallback",
)
HEAVY = ("pydantic", "torch", "training", "services", "grpc", "numba")


@pytest.mark.parametrize("room", ROOMS)
def test_engine_modules_need_neither_pydantic_nor_torch(room: str) -> None:
    """Timing on another machine takes what it has: NumPy and ONNX Runtime."""
    code = (
        f"import sys, fraudstream.engines.{room}\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


class FakeEngine:
    """Scores every row alike."""

    buckets = BUCKETS
    is_cpu = True

    def __init__(self, raw: float, version: str) -> None:
        self._raw = raw
        self.version = version

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return the one raw score, float32 [B]."""
        return np.full(len(vectors), self._raw, np.float32)

    def close(self) -> None:
        """Hold nothing."""


def test_versions_of_members_are_named_once() -> None:
    """A decision says what computed it, each library once."""
    engines = [FakeEngine(0.2, "a-1"), FakeEngine(0.8, "b-2"), FakeEngine(0.5, "a-1")]

    assert MembersEngine(engines, Formula((1.0, 1.0, 1.0), 0.0)).version == "a-1+b-2"


def test_opposite_members_cancel_out() -> None:
    """Log-odds of 0.2 and 0.8 add up to nothing."""
    engines = [FakeEngine(0.2, "a"), FakeEngine(0.8, "b")]
    engine = MembersEngine(engines, Formula((1.0, 1.0), 0.0))
    rows = np.zeros((70, 3), np.float32)

    assert score_rows(engine, rows, rows, 64).tolist() == pytest.approx([0.5] * 70)


def test_no_member_moves_a_score_by_a_step_of_rounding() -> None:
    """Near 1, where float32 is coarse, one step moves the sum by less than 1e-4 in log-odds."""
    near_one = np.array([1.0, 1.0 - 2.0**-24, 1.0 - 2.0**-11, 1.0 - 2.0**-10 - 2.0**-24])
    logits = bounded_logit(near_one.astype(np.float32))

    assert np.ptp(logits) < 1e-4
    assert np.isfinite(bounded_logit(np.array([0.0, 1.0]))).all()


def test_missing_score_of_a_member_is_a_missing_score() -> None:
    """NaN is never hidden by the formula, so that the row gets a stand-in."""
    found = Formula((0.5, 0.5), 0.0).combine([np.array([np.nan]), np.array([0.3])])

    assert np.isnan(found).all()
