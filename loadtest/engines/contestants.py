"""Who takes part: every engine by name, and how it is opened. What is missing says so by name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fraudstream.engines.half import to_half
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import Engine, Precision
from fraudstream.engines.tensorrt_engine import EngineOrder, open_tensorrt
from fraudstream.engines.tensorrt_library import LibraryName
from fraudstream.errors import EngineFailed
from loadtest.engines.networks import Subject
from loadtest.engines.onnx_engines import OnnxCudaEngine
from loadtest.engines.torch_engines import TorchEngine, TorchMode


@dataclass(frozen=True, slots=True)
class Contestant:
    """An engine that may take part.

    Attributes:
        name: Such as `tensorrt`.
        precision: In which it computes.
        is_gpu: Whether it needs a GPU.
        open: Opens it for a network.
    """

    name: str
    precision: Precision
    is_gpu: bool
    open: Callable[[Subject], Engine]


EAGER = "torch-eager"


def contestants(*, is_gpu: bool) -> tuple[Contestant, ...]:
    """Return all of them; those of the other kind of machine are skipped by name."""
    return (*_torch_ones(is_gpu=is_gpu), *_onnx_ones(), *_tensorrt_ones())


def _torch_ones(*, is_gpu: bool) -> list[Contestant]:
    device = "cuda" if is_gpu else "cpu"
    found = []
    for precision in (Precision.FP32, Precision.FP16):
        for mode in TorchMode:
            # On a CPU the eager fp32 network is the reference; the rest says nothing there.
            needs_gpu = is_gpu or mode is not TorchMode.EAGER or precision is Precision.FP16
            found.append(
                Contestant(f"torch-{mode}", precision, needs_gpu, _torch(device, mode, precision))
            )
    return found


def _torch(device: str, mode: TorchMode, precision: Precision) -> Callable[[Subject], Engine]:
    return lambda subject: TorchEngine(subject.network, device, mode, precision)


def _onnx_ones() -> list[Contestant]:
    def on_cuda(precision: Precision) -> Callable[[Subject], Engine]:
        return lambda subject: OnnxCudaEngine(_file_of(subject, precision), precision)

    return [
        Contestant(
            "onnxruntime-cpu", Precision.FP32, False, lambda subject: OnnxEngine(_onnx_of(subject))
        ),
        Contestant("onnxruntime-cuda", Precision.FP32, True, on_cuda(Precision.FP32)),
        Contestant("onnxruntime-cuda", Precision.FP16, True, on_cuda(Precision.FP16)),
    ]


def _tensorrt_ones() -> list[Contestant]:
    return [
        Contestant(library, precision, True, _tensorrt(library, precision))
        for library in LibraryName
        for precision in (Precision.FP32, Precision.FP16)
    ]


def _tensorrt(library: LibraryName, precision: Precision) -> Callable[[Subject], Engine]:
    def open_one(subject: Subject) -> Engine:
        # A folder of its own, so that each run builds: a plan from the cache proves nothing.
        with tempfile.TemporaryDirectory() as folder:
            order = EngineOrder(library, precision, Path(folder))
            return open_tensorrt(_onnx_of(subject), order)

    return open_one


def _file_of(subject: Subject, precision: Precision) -> bytes:
    onnx = _onnx_of(subject)
    return to_half(onnx) if precision is Precision.FP16 else onnx


def _onnx_of(subject: Subject) -> bytes:
    try:
        return subject.onnx()
    except torch.onnx.errors.OnnxExporterError as exc:
        raise EngineFailed("LIBRARY_ABSENT", f"no ONNX file of a network: {exc}") from exc
