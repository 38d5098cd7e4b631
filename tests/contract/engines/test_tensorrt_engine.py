"""The GPU engine's own work, on a GPU that is this process: buffers, lanes, graphs, cache."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")

from fraudstream.engines.cuda import CudaSession  # after the skip
from fraudstream.engines.engine_kinds import EngineKind, EngineOrder
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import GPU_BUCKETS, Precision
from fraudstream.engines.tensorrt_engine import (
    TensorRTEngine,
    start_engine,
)
from fraudstream.engines.tensorrt_library import TENSORRTS
from fraudstream.errors import EngineFailed
from tests.fakes.fake_gpu import FakeGpu, fake_library
from tests.fakes.tiny_model import onnx_bytes, some_sequences, some_vectors, tiny_weights

BOTH = pytest.mark.parametrize("name", TENSORRTS)


@pytest.fixture(scope="module")
def onnx() -> bytes:
    """The tiny model."""
    return onnx_bytes(tiny_weights())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests share, so that a plan is built once for each library."""
    return tmp_path_factory.mktemp("engines") / "cache"


def started(gpu: FakeGpu, onnx: bytes, folder: Path, name: EngineKind) -> TensorRTEngine:
    """Return the engine on a fake GPU."""
    session = CudaSession(cast(ModuleType, gpu))
    order = EngineOrder(name, Precision.FP32, folder)
    return start_engine(fake_library(gpu, onnx, name), session, onnx, order)


@BOTH
def test_every_bucket_gives_the_scores_of_its_rows(
    onnx: bytes, folder: Path, name: EngineKind
) -> None:
    """Rows go in and scores come out of the right places, and no batch sees the one before."""
    engine = started(FakeGpu(), onnx, folder, name)
    reference = OnnxEngine(onnx)

    for rows in (*reversed(GPU_BUCKETS), *GPU_BUCKETS):
        vectors, sequences = some_vectors(rows, seed=rows), some_sequences(rows)
        expected = reference.score(vectors, sequences)
        assert np.array_equal(engine.score(vectors, sequences), expected)


def test_tensorrt_runs_captured_graphs(onnx: bytes, folder: Path) -> None:
    """With the full library a batch is one launch of a graph."""
    gpu = FakeGpu()
    engine = started(gpu, onnx, folder, EngineKind.TENSORRT)

    engine.score(some_vectors(8), some_sequences(8))

    assert (engine.has_graphs, gpu.launches) == (True, 1)


def test_tensorrt_rtx_makes_its_graphs_itself(onnx: bytes, folder: Path) -> None:
    """Nothing is captured by hand where the library does it."""
    gpu = FakeGpu()
    engine = started(gpu, onnx, folder, EngineKind.TENSORRT_RTX)

    engine.score(some_vectors(8), some_sequences(8))

    assert (engine.has_graphs, gpu.launches) == (True, 0)


@BOTH
def test_version_says_library_precision_and_gpu(
    onnx: bytes, folder: Path, name: EngineKind
) -> None:
    """A decision names all that the last bits of its score depend on."""
    engine = started(FakeGpu(), onnx, folder, name)

    assert engine.version.startswith(f"{name}-1.")
    assert engine.version.endswith("-fp32-sm86")


def test_rows_that_are_no_bucket_are_refused(onnx: bytes, folder: Path) -> None:
    """A batch is padded before it comes here."""
    engine = started(FakeGpu(), onnx, folder, EngineKind.TENSORRT)

    with pytest.raises(EngineFailed, match="expected one of"):
        engine.score(some_vectors(3), some_sequences(3))


def test_exhausted_memory_has_its_own_reason(onnx: bytes, folder: Path) -> None:
    """No memory to start with, or none for a batch: both are GPU_MEMORY, and nothing leaks."""
    full, filling = FakeGpu(free_bytes=1000), FakeGpu()
    with pytest.raises(EngineFailed) as at_start:
        started(full, onnx, folder, EngineKind.TENSORRT)
    engine = started(filling, onnx, folder, EngineKind.TENSORRT_RTX)
    filling.is_failing = True

    with pytest.raises(EngineFailed) as in_a_batch:
        engine.score(some_vectors(8), some_sequences(8))

    assert (at_start.value.reason, in_a_batch.value.reason) == ("GPU_MEMORY", "GPU_MEMORY")
    assert full.held_blocks == 0


def test_closing_gives_all_memory_back(onnx: bytes, folder: Path) -> None:
    """An engine that failed must not hold what the next one needs."""
    gpu = FakeGpu()
    engine = started(gpu, onnx, folder, EngineKind.TENSORRT)

    engine.close()

    assert gpu.held_blocks == 0


def test_second_start_takes_the_plan_from_the_cache(
    onnx: bytes, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Plan, JSON and compiled kernels are written once."""
    started(FakeGpu(), onnx, folder, EngineKind.TENSORRT_RTX)
    written = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.plan")}

    started(FakeGpu(), onnx, folder, EngineKind.TENSORRT_RTX)

    assert written == {path.name: path.stat().st_mtime_ns for path in folder.glob("*.plan")}
    assert list(folder.glob("*.jit"))
    assert not caplog.records


def test_plan_that_the_library_refuses_is_built_again(
    onnx: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A whole file of another library or driver costs a build, not the start."""
    folder = tmp_path / "cache"
    started(FakeGpu(), onnx, folder, EngineKind.TENSORRT)
    (plan,) = folder.glob("*.plan")
    (description,) = folder.glob("*.json")
    built = plan.read_bytes()
    foreign = b"else" + built[4:]
    plan.write_bytes(foreign)
    text = description.read_text()
    description.write_text(text.replace(_sha256(built), _sha256(foreign)))

    with caplog.at_level(logging.WARNING):
        started(FakeGpu(), onnx, folder, EngineKind.TENSORRT)

    assert plan.read_bytes() == built
    assert "is refused, it is built again" in caplog.text


def test_no_driver_is_a_named_error(onnx: bytes) -> None:
    """Bindings without a GPU beneath them say GPU_ABSENT."""
    gpu = FakeGpu()
    gpu.has_driver = False

    with pytest.raises(EngineFailed) as failure:
        CudaSession(cast(ModuleType, gpu))

    assert failure.value.reason == "GPU_ABSENT"


def test_no_bindings_is_a_named_error() -> None:
    """A machine without cuda-bindings says which package it needs."""
    with pytest.raises(EngineFailed, match="LIBRARY_ABSENT: expected the package cuda-bindings"):
        CudaSession.open("no_such_bindings.runtime")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
