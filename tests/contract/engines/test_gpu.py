"""On a GPU: every TensorRT that is installed builds, reproduces the golden rows and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fraudstream.engines.engine_kinds import EngineKind, EngineOrder
from fraudstream.engines.golden import check_golden, within
from fraudstream.engines.protocol import GOLDEN_TOLERANCE, Precision
from fraudstream.engines.tensorrt_engine import TensorRTEngine, open_tensorrt
from fraudstream.engines.tensorrt_library import TENSORRTS
from tests.servers.this_gpu import builds_for, kind_of_gpu, library_here

pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from loadtest.engines.networks import SHAPES, Subject, subject  # after the skip

pytestmark = pytest.mark.gpu
PRECISIONS = pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])


@pytest.fixture(scope="module", params=TENSORRTS)
def library(request: pytest.FixtureRequest) -> EngineKind:
    """Each TensorRT, if it and a GPU that it builds for are here."""
    name: EngineKind = request.param
    opened, kind = library_here(name), kind_of_gpu()
    if not builds_for(opened, kind):
        pytest.skip(f"{name} {opened.version} does not build for {kind}")
    return name


@pytest.fixture(scope="module", params=list(SHAPES))
def one(request: pytest.FixtureRequest) -> Subject:
    """Each network."""
    return subject(request.param)


@pytest.fixture
def order(library: EngineKind, tmp_path: Path) -> EngineOrder:
    """An engine of a cache that is empty."""
    return EngineOrder(library, Precision.FP32, tmp_path / "engines")


@pytest.fixture
def engine(one: Subject, order: EngineOrder) -> Iterator[TensorRTEngine]:
    """The engine of a network, in fp32."""
    opened = open_tensorrt(one.onnx(), order)
    yield opened
    opened.close()


@PRECISIONS
def test_gpu_reproduces_the_golden_rows_in_every_bucket(
    one: Subject, order: EngineOrder, precision: Precision
) -> None:
    """fp32 within 1e-5, fp16 within 5e-4, from 1 to 1024 rows."""
    opened = open_tensorrt(one.onnx(), EngineOrder(order.kind, precision, order.cache_folder))

    check_golden(opened, one.golden, within(GOLDEN_TOLERANCE[precision]))
    opened.close()


def test_score_depends_on_neither_place_nor_neighbours(
    one: Subject, engine: TensorRTEngine
) -> None:
    """In a batch of one size a row has the same score to the bit, wherever it stands."""
    vectors, sequences = one.golden.vectors[:64], one.golden.sequences[:64]

    turned = engine.score(np.roll(vectors, 1, axis=0), np.roll(sequences, 1, axis=0))

    assert np.roll(turned, -1).tobytes() == engine.score(vectors, sequences).tobytes()


def test_second_start_takes_the_plan_from_the_cache(
    one: Subject, order: EngineOrder, engine: TensorRTEngine
) -> None:
    """And scores the same to the bit."""
    vectors, sequences = one.golden.vectors[:64], one.golden.sequences[:64]
    written = {path.name: path.stat().st_mtime_ns for path in order.cache_folder.glob("*.plan")}

    again = open_tensorrt(one.onnx(), order)

    assert written == {
        path.name: path.stat().st_mtime_ns for path in order.cache_folder.glob("*.plan")
    }
    assert again.score(vectors, sequences).tobytes() == engine.score(vectors, sequences).tobytes()
    again.close()
