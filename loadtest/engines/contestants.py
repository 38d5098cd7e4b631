"""Who takes part: every engine by name, and how it is opened. What is missing says so by name.

ONNX Runtime's CUDA engine and PyTorch's are references, never served. Axes: `B` rows of a batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
import torch

from fraudstream.engines.engine_kinds import ENGINES, EngineKind, EngineOrder
from fraudstream.engines.half import to_half
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import GPU_BUCKETS, Engine, FloatArray, Precision
from fraudstream.errors import EngineFailed
from loadtest.engines.networks import Subject
from loadtest.engines.torch_engines import TorchEngine, TorchMode


@dataclass(frozen=True, slots=True)
class Contestant:
    """An engine that may take part."""

    name: str
    precision: Precision
    is_gpu: bool
    open: Callable[[Subject], Engine]


EAGER: Final = "torch-eager"
_PROVIDER: Final = "CUDAExecutionProvider"


def contestants(*, is_gpu: bool) -> list[Contestant]:
    """Return all of them; those of the other kind of machine are skipped by name."""
    device = "cuda" if is_gpu else "cpu"
    both = (Precision.FP32, Precision.FP16)
    found = []
    for precision in both:
        for mode in TorchMode:
            # On a CPU the eager fp32 network is the reference; the rest says nothing there.
            needs_gpu = is_gpu or mode is not TorchMode.EAGER or precision is Precision.FP16
            torch_one = partial(_open_torch, device, mode, precision)
            found.append(Contestant(f"torch-{mode}", precision, needs_gpu, torch_one))
    found.append(Contestant("onnxruntime-cpu", Precision.FP32, False, _open_onnx))
    found += [Contestant("onnxruntime-cuda", p, True, partial(_open_cuda, p)) for p in both]
    for kind in (kind for kind, row in ENGINES.items() if not row.is_cpu):
        found += [Contestant(kind, p, True, partial(_open_ordered, kind, p)) for p in both]
    return found


def _open_torch(device: str, mode: TorchMode, precision: Precision, subject: Subject) -> Engine:
    return TorchEngine(subject.network, device, mode, precision)


def _open_onnx(subject: Subject) -> Engine:
    return OnnxEngine(_onnx_of(subject))


def _open_cuda(precision: Precision, subject: Subject) -> Engine:
    onnx = _onnx_of(subject)
    return OnnxCudaEngine(to_half(onnx) if precision is Precision.FP16 else onnx, precision)


def _open_ordered(kind: EngineKind, precision: Precision, subject: Subject) -> Engine:
    # A folder of its own, so that each run builds: a plan from the cache proves nothing.
    with tempfile.TemporaryDirectory() as folder:
        return EngineOrder(kind, precision, Path(folder)).open(_onnx_of(subject))


def _onnx_of(subject: Subject) -> bytes:
    try:
        return subject.onnx()
    except torch.onnx.errors.OnnxExporterError as exc:
        raise EngineFailed("LIBRARY_ABSENT", f"no ONNX file of a network: {exc}") from exc


class OnnxCudaEngine:
    """Scores a batch with an ONNX file on the first GPU."""

    buckets = GPU_BUCKETS
    is_cpu = False

    def __init__(self, model: bytes, precision: Precision) -> None:
        """Open a session, or raise `EngineFailed`: ONNX Runtime itself would use the CPU."""
        if _PROVIDER not in ort.get_available_providers():
            raise EngineFailed("LIBRARY_ABSENT", "expected onnxruntime-gpu, found onnxruntime")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        exact = {"use_tf32": "0"}  # TF32 rounds fp32 products to 11 bits
        self._session = ort.InferenceSession(model, options, providers=[(_PROVIDER, exact)])
        if _PROVIDER not in self._session.get_providers():
            raise EngineFailed("GPU_ABSENT", "ONNX Runtime does not open its CUDA engine")
        self.version = f"onnxruntime-cuda-{ort.__version__}-{precision}"

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B]."""
        (scores,) = self._session.run(["raw_score"], {"vector": vectors, "sequence": sequences})
        return np.asarray(scores, np.float32).reshape(-1)

    def close(self) -> None:
        """Give the GPU's memory back."""
        del self._session
