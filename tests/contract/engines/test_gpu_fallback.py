"""On a GPU: the CPU gives way to an engine that opens, and serves where one fails or is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fraudstream.engines.engine_kinds import EngineKind, EngineOrder
from fraudstream.engines.fallback import FALLBACK_MARK, EngineChange, FallbackEngine, Retries
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import GOLDEN_TOLERANCE, Precision, score_rows
from fraudstream.engines.tensorrt_engine import open_tensorrt
from tests.servers.this_gpu import builds_for, kind_of_gpu, library_here

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from loadtest.engines.networks import Subject, sample_rows, subject  # noqa: E402  # after the skip
from loadtest.engines.torch_engines import TorchEngine, TorchMode  # noqa: E402

pytestmark = pytest.mark.gpu
ONCE = Retries(first_s=3600.0, most_s=3600.0)


@pytest.fixture(scope="module")
def one() -> Subject:
    """A network."""
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")
    return subject("lstm-2x64")


@contextmanager
def no_memory_left() -> Iterator[None]:
    """Let this process take no more of the GPU."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_gpu_takes_over_and_the_cpu_takes_the_batch_that_finds_no_memory(
    one: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are scored, by either, and each change is told."""
    # By default PyTorch lets an LSTM compute in TF32, which the fp32 tolerance is not for.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    changes: list[EngineChange] = []
    engine = FallbackEngine(
        OnnxEngine(one.onnx()),
        lambda: TorchEngine(one.network, "cuda", TorchMode.EAGER, Precision.FP32),
        changes.append,
        ONCE,
    )
    engine.wait_tried()
    golden = one.golden
    on_gpu = score_rows(engine, golden.vectors, golden.sequences)
    version = engine.version
    rows = sample_rows(1024, seed=5)

    with no_memory_left():
        scores = engine.score(*rows)

    cpu = OnnxEngine(one.onnx())
    assert version.endswith("-cuda")
    assert np.abs(on_gpu - golden.raw_scores).max() <= GOLDEN_TOLERANCE[Precision.FP32]
    assert scores.tobytes() == score_rows(cpu, *rows).tobytes()
    assert engine.version == cpu.version + FALLBACK_MARK
    assert [change.reason for change in changes] == ["NOT_OPENED", "OPENED", "GPU_MEMORY"]
    engine.close()


def test_gpu_that_a_library_does_not_build_for_is_named_and_the_cpu_serves(
    one: Subject, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorRT-RTX knows some GPUs only: on another one nothing is built, and nothing stops."""
    library, kind = library_here(EngineKind.TENSORRT_RTX), kind_of_gpu()
    if builds_for(library, kind):
        pytest.skip(f"TensorRT-RTX builds for {kind}")
    order = EngineOrder(EngineKind.TENSORRT_RTX, Precision.FP32, tmp_path / "engines")
    cpu = OnnxEngine(one.onnx())
    with caplog.at_level(logging.ERROR):
        engine = FallbackEngine(cpu, lambda: open_tensorrt(one.onnx(), order), lambda _: None, ONCE)
        engine.wait_tried()
        scores = engine.score(*sample_rows(64, seed=5))

    assert engine.version == cpu.version + FALLBACK_MARK
    assert np.isfinite(scores).all()
    assert f"the GPU is {kind}" in caplog.text
    engine.close()
