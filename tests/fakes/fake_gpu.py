"""A GPU that works without one: its memory is this process's, and plans run by ONNX Runtime.

`FakeGpu` stands for the CUDA runtime's bindings, `fake_library` for a TensorRT whose builder is the
real TensorRT-RTX and whose runtime computes here. What is queued while a stream is captured is
kept in the graph and runs when that is launched, as on a GPU.
"""

# ruff: noqa: N802, N815  # the names are NVIDIA's

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np

from fraudstream.engines.engine_kinds import EngineKind
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import FloatArray
from fraudstream.engines.tensorrt_library import Library, open_library

Work = Callable[[], None]


class Status(IntEnum):
    """Codes of the CUDA runtime."""

    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35


class FakeGpu:
    """The functions of `cuda.bindings.runtime` that an engine calls.

    Attributes:
        free_bytes: What is left of its memory.
        is_failing: Whether the next batch fails.
        launches: Graphs that were launched.
        has_driver: Whether it can be used at all.
    """

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, name: str = "Fake 86", free_bytes: int = 1 << 30) -> None:
        self.name = name
        self.free_bytes = free_bytes
        self.is_failing = False
        self.has_driver = True
        self.launches = 0
        self._blocks: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._captured: list[Work] | None = None
        self._graphs: dict[int, list[Work]] = {}

    @property
    def held_blocks(self) -> int:
        """Return how many pieces of memory are not given back."""
        return len(self._blocks)

    def submit(self, work: Work) -> None:
        """Do a piece of work, or keep it where a stream is captured."""
        if self._captured is None:
            work()
        else:
            self._captured.append(work)

    def cudaGetDeviceCount(self) -> tuple[Status, int]:
        return (Status.cudaSuccess if self.has_driver else Status.cudaErrorInsufficientDriver), 1

    def cudaGetDeviceProperties(self, _device: int) -> tuple[Status, Any]:
        name = self.name.encode().ljust(256, b"\0")
        return Status.cudaSuccess, SimpleNamespace(name=name, major=8, minor=6)

    def cudaStreamCreate(self) -> tuple[Status, int]:
        return Status.cudaSuccess, 7

    def cudaStreamDestroy(self, _stream: int) -> tuple[Status]:
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, _stream: int) -> tuple[Status]:
        return (Status.cudaSuccess,)

    def cudaMallocHost(self, size: int) -> tuple[Status, int]:
        block = ctypes.create_string_buffer(size)
        self._blocks[ctypes.addressof(block)] = block
        return Status.cudaSuccess, ctypes.addressof(block)

    def cudaMalloc(self, size: int) -> tuple[Status, int]:
        if size > self.free_bytes:
            return Status.cudaErrorMemoryAllocation, 0
        self.free_bytes -= size
        return self.cudaMallocHost(size)

    def cudaFree(self, pointer: int) -> tuple[Status]:
        del self._blocks[pointer]
        return (Status.cudaSuccess,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, _kind: int, _stream: int
    ) -> tuple[Status]:
        def copy() -> None:
            ctypes.memmove(target, source, size)

        self.submit(copy)
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, _stream: int, _mode: int) -> tuple[Status]:
        self._captured = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, _stream: int) -> tuple[Status, list[Work]]:
        captured, self._captured = self._captured or [], None
        return Status.cudaSuccess, captured

    def cudaGraphInstantiate(self, graph: list[Work], _flags: int) -> tuple[Status, int]:
        number = len(self._graphs) + 1
        self._graphs[number] = graph
        return Status.cudaSuccess, number

    def cudaGraphDestroy(self, _graph: list[Work]) -> tuple[Status]:
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, number: int) -> tuple[Status]:
        del self._graphs[number]
        return (Status.cudaSuccess,)

    def cudaGraphLaunch(self, number: int, _stream: int) -> tuple[Status]:
        self.launches += 1
        for work in self._graphs[number]:
            work()
        return (Status.cudaSuccess,)


class _Context:
    """An execution context with fixed shapes."""

    def __init__(self, gpu: FakeGpu, onnx: OnnxEngine, complaints: deque[str]) -> None:
        self._gpu = gpu
        self._onnx = onnx
        self._complaints = complaints
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._pointers: dict[str, int] = {}
        self.profile = -1

    def set_optimization_profile_async(self, number: int, _stream: int) -> bool:
        self.profile = number
        return number >= 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self._pointers[name] = pointer
        return True

    def execute_async_v3(self, _stream: int) -> bool:
        if self._gpu.is_failing:
            self._complaints.append("CUDA failure 2: out of memory")
            return False
        self._gpu.submit(self._compute)
        return True

    def _compute(self) -> None:
        vectors, sequences = (self._floats(name, self._shapes[name]) for name in self._shapes)
        scores = self._onnx.score(vectors, sequences)
        self._floats("raw_score", scores.shape)[:] = scores

    def _floats(self, name: str, shape: Sequence[int]) -> FloatArray:
        memory = (ctypes.c_float * int(np.prod(shape))).from_address(self._pointers[name])
        return np.ctypeslib.as_array(memory).reshape(shape)


class _Kernels:
    """A cache of compiled kernels."""

    def __init__(self) -> None:
        self.loaded = b""

    def deserialize(self, kernels: bytes) -> bool:
        self.loaded = kernels
        return True

    def serialize(self) -> bytes:
        return b"compiled"


class _Engine:
    def __init__(self, gpu: FakeGpu, onnx: OnnxEngine, complaints: deque[str]) -> None:
        self._parts = (gpu, onnx, complaints)

    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace(cuda_graph_strategy=None)
        config.create_runtime_cache = _Kernels
        config.set_runtime_cache = lambda _cache: None
        return config

    def create_execution_context(self, *_settings: object) -> _Context:
        return _Context(*self._parts)


def fake_library(gpu: FakeGpu, onnx: bytes, name: EngineKind) -> Library:
    """Return a TensorRT that builds as TensorRT-RTX does, and runs the ONNX file on `gpu`."""
    real = open_library(EngineKind.TENSORRT_RTX)
    complaints: deque[str] = deque()

    class Runtime:
        def __init__(self, _logger: object) -> None:
            self.loads = 0

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            is_plan = plan.startswith(b"vtrt")
            return _Engine(gpu, OnnxEngine(onnx), complaints) if is_plan else None

    module = SimpleNamespace(**{key: getattr(real.module, key) for key in dir(real.module)})
    module.Runtime = Runtime
    return Library(name, cast(ModuleType, module), real.logger, complaints)
