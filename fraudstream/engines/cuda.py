"""The CUDA runtime, as far as an engine needs it: a stream, pinned buffers, copies and graphs.

It stands on NVIDIA's own bindings (`cuda-bindings`), which are imported when a GPU is asked for.
Call a session from one thread at a time.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Self

import numpy as np

from fraudstream.engines.protocol import FloatArray
from fraudstream.errors import EngineFailed

CUDA_BINDINGS: Final = "cuda.bindings.runtime"
_FLOAT_BYTES: Final = 4
_ABSENT: Final = frozenset({"cudaErrorInsufficientDriver", "cudaErrorNoDevice"})
_MEMORY: Final = "cudaErrorMemoryAllocation"

# A stream, a graph or another handle of the bindings, which have no types.
Handle = Any


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """Which GPU computes.

    Attributes:
        name: As its driver calls it.
        compute_capability: Major and minor number.
    """

    name: str
    compute_capability: tuple[int, int]


@dataclass(frozen=True, slots=True)
class GpuBuffer:
    """The same floats on both sides.

    Attributes:
        host: float32 [rows, ...], in pinned memory.
        host_pointer: Where it lies.
        device_pointer: Where its twin lies on the GPU.
        row_bytes: Bytes of one row.
    """

    host: FloatArray
    host_pointer: int
    device_pointer: int
    row_bytes: int


class CudaSession:
    """One stream on the first GPU, with the memory that was taken for it."""

    def __init__(self, runtime: ModuleType) -> None:
        self._runtime = runtime
        self._host_pointers: list[int] = []
        self._device_pointers: list[int] = []
        self._graphs: list[Handle] = []
        if self._call("cudaGetDeviceCount") < 1:
            raise EngineFailed("GPU_ABSENT", "expected a GPU, found none")
        self._stream: Handle = self._call("cudaStreamCreate")

    @classmethod
    def open(cls, bindings: str = CUDA_BINDINGS) -> Self:
        """Open a session.

        Raises:
            EngineFailed: `LIBRARY_ABSENT`, `GPU_ABSENT` or `GPU_MEMORY`.
        """
        try:
            runtime = importlib.import_module(bindings)
        except (ImportError, OSError) as exc:
            msg = f"expected the package cuda-bindings (extra: gpu): {exc}"
            raise EngineFailed("LIBRARY_ABSENT", msg) from exc
        return cls(runtime)

    @property
    def stream(self) -> int:
        """Return the stream, as TensorRT wants it."""
        return int(self._stream)

    def device(self) -> GpuDevice:
        """Return which GPU this is."""
        found = self._call("cudaGetDeviceProperties", 0)
        name = bytes(found.name).split(b"\0")[0].decode("utf-8", "replace")
        return GpuDevice(name, (int(found.major), int(found.minor)))

    def buffer(self, rows: int, row_shape: tuple[int, ...]) -> GpuBuffer:
        """Return floats [rows, *row_shape] in pinned memory and on the GPU.

        Raises:
            EngineFailed: `GPU_MEMORY`.
        """
        floats = rows * int(np.prod(row_shape, dtype=np.int64))
        host_pointer = int(self._call("cudaMallocHost", floats * _FLOAT_BYTES))
        self._host_pointers.append(host_pointer)
        device_pointer = int(self._call("cudaMalloc", floats * _FLOAT_BYTES))
        self._device_pointers.append(device_pointer)
        memory = (ctypes.c_float * floats).from_address(host_pointer)
        host: FloatArray = np.ctypeslib.as_array(memory).reshape(rows, *row_shape)
        return GpuBuffer(host, host_pointer, device_pointer, floats * _FLOAT_BYTES // rows)

    def copy_in(self, buffer: GpuBuffer, rows: int) -> None:
        """Queue a copy of the first rows to the GPU."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(buffer.device_pointer, buffer.host_pointer, rows * buffer.row_bytes, kind)

    def copy_out(self, buffer: GpuBuffer, rows: int) -> None:
        """Queue a copy of the first rows from the GPU."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(buffer.host_pointer, buffer.device_pointer, rows * buffer.row_bytes, kind)

    def _copy(self, target: int, source: int, size_bytes: int, kind: Handle) -> None:
        self._call("cudaMemcpyAsync", target, source, size_bytes, kind, self._stream)

    def synchronize(self) -> None:
        """Wait until everything that was queued is done.

        Raises:
            EngineFailed: Something of it failed.
        """
        self._call("cudaStreamSynchronize", self._stream)

    def capture(self, queue_work: Callable[[], None]) -> Handle:
        """Return what `queue_work` puts on the stream as a graph, without running it.

        Raises:
            EngineFailed: It cannot be captured.
        """
        # Of this thread only: another one may build an engine meanwhile.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            queue_work()
        finally:
            captured = self._call("cudaStreamEndCapture", self._stream)
        graph = self._call("cudaGraphInstantiate", captured, 0)
        self._call("cudaGraphDestroy", captured)
        self._graphs.append(graph)
        return graph

    def launch(self, graph: Handle) -> None:
        """Queue a captured graph."""
        self._call("cudaGraphLaunch", graph, self._stream)

    def close(self) -> None:
        """Give everything back. Views of its buffers must not be used any more."""
        calls = [("cudaGraphExecDestroy", graph) for graph in self._graphs]
        calls += [("cudaFree", pointer) for pointer in self._device_pointers]
        calls += [("cudaFreeHost", pointer) for pointer in self._host_pointers]
        for name, argument in (*calls, ("cudaStreamDestroy", self._stream)):
            getattr(self._runtime, name)(argument)  # a broken GPU gives nothing back; nor need it
        self._graphs, self._device_pointers, self._host_pointers = [], [], []

    def _call(self, name: str, *arguments: Handle) -> Handle:
        """Call the runtime and return its answer; an error code becomes a named error."""
        status, *answers = getattr(self._runtime, name)(*arguments)
        if int(status) == 0:
            return answers[0] if answers else None
        found = str(status.name)
        reason = "GPU_ABSENT" if found in _ABSENT else "GPU_FAILED"
        raise EngineFailed("GPU_MEMORY" if found == _MEMORY else reason, f"{name}: {found}")
