"""The GPU engine: one class for TensorRT and TensorRT-RTX, in fp32 and fp16.

Each batch size is a lane of its own: an execution context with fixed shapes, and a CUDA graph of
copy in, compute, copy out. TensorRT-RTX makes graphs itself; for TensorRT one is captured by hand.
Buffers are pinned and shared by all lanes: one batch runs at a time.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Final

from fraudstream.engines.cuda import CudaSession, GpuBuffer, Handle
from fraudstream.engines.engine_cache import EngineCache, PlanKey
from fraudstream.engines.engine_kinds import EngineOrder
from fraudstream.engines.half import to_half
from fraudstream.engines.protocol import GPU_BUCKETS, FloatArray, Precision
from fraudstream.engines.tensorrt_build import ROW_PROFILES, Plan, build_plan
from fraudstream.engines.tensorrt_library import Library, Native, open_library
from fraudstream.errors import EngineFailed, ModelRefused

_INPUTS: Final = ("vector", "sequence")
_OUTPUT: Final = "raw_score"
_OUT_OF_MEMORY: Final = "out of memory"

_LOG = logging.getLogger(__name__)


def open_tensorrt(onnx: bytes, order: EngineOrder) -> TensorRTEngine:
    """Return the engine of an fp32 ONNX file: from the cache, else built now (seconds to minutes).

    Raises:
        EngineFailed: A library or the GPU is not there, or its memory is exhausted.
        ModelRefused: The library cannot build the model.
        InvalidSettings: The folder of the cache is not ours alone.
    """
    return start_engine(open_library(order.kind), CudaSession.open(), onnx, order)


def start_engine(
    library: Library, session: CudaSession, onnx: bytes, order: EngineOrder
) -> TensorRTEngine:
    """Return the engine by an open library on an open session, which it closes in the end.

    Raises:
        EngineFailed: The GPU's memory is exhausted, or it fails.
        ModelRefused: The library cannot build the model.
        InvalidSettings: The folder of the cache is not ours alone.
    """
    try:
        return TensorRTEngine(library, session, _Plans(library, session, onnx, order))
    except BaseException:
        session.close()
        raise


class _Plans:
    """The plan of one model on this GPU, kept or made."""

    def __init__(
        self, library: Library, session: CudaSession, onnx: bytes, order: EngineOrder
    ) -> None:
        device = session.device()
        self._library = library
        self._onnx = onnx
        self._cache = EngineCache(order.cache_folder)
        self.key = PlanKey(
            model_sha256=hashlib.sha256(onnx).hexdigest(),
            precision=order.precision,
            library=library.name,
            library_version=library.version,
            gpu_name=device.name,
            compute_capability=device.compute_capability,
            profiles=ROW_PROFILES,
        )

    def engine(self, runtime: Native) -> tuple[Plan, Native]:
        """Return the plan and the library's engine of it."""
        kept = self._cache.load(self.key)
        if kept is not None:
            engine = runtime.deserialize_cuda_engine(kept.content)
            if engine is not None:
                return kept, engine
            _LOG.warning("engine %s is refused, it is built again: %s", self.key.name, self._said())
        plan = self._build()
        engine = runtime.deserialize_cuda_engine(plan.content)
        if engine is None:
            raise _failed(self._library, "cannot load the plan that it built")
        self._cache.store(self.key, plan)
        return plan, engine

    def _said(self) -> str:
        return self._library.said()

    def _build(self) -> Plan:
        is_half = self.key.precision is Precision.FP16
        onnx = to_half(self._onnx) if is_half else self._onnx
        targets = (self.key.compute_capability,) if self._library.is_rtx else ()
        return build_plan(self._library, onnx, compute_capabilities=targets)

    def kernels(self) -> bytes:
        """Return what TensorRT-RTX compiled before; empty for nothing."""
        return self._cache.load_kernels(self.key)

    def keep_kernels(self, kernels: bytes) -> None:
        """Keep what it compiled now."""
        self._cache.store_kernels(self.key, kernels)


@dataclass(frozen=True, slots=True)
class _Lane:
    """One batch size: its context, and its graph where one was captured."""

    rows: int
    context: Native
    graph: Handle | None


class TensorRTEngine:
    """Scores a batch of a GPU bucket. Call it from one thread at a time."""

    buckets = GPU_BUCKETS
    is_cpu = False

    def __init__(self, library: Library, session: CudaSession, plans: _Plans) -> None:
        self._library = library
        self._session = session
        self._runtime = library.module.Runtime(library.logger)
        plan, self._engine = plans.engine(self._runtime)
        self._buffers = _buffers_of(session, plan)
        self._settings, self._kernels = _run_settings(library, self._engine, plans.kernels())
        self._lanes = {rows: self._open_lane(rows, plan) for rows in self.buckets}
        if self._kernels is not None:
            plans.keep_kernels(bytes(self._kernels.serialize()))  # all shapes have run by now
        major, minor = plans.key.compute_capability
        self.version = f"{library.name}-{library.version}-{plans.key.precision}-sm{major}{minor}"

    @property
    def has_graphs(self) -> bool:
        """Whether a batch is one launch: graphs are captured, or the library makes them."""
        return self._library.is_rtx or all(lane.graph for lane in self._lanes.values())

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B]; B is one of the buckets.

        Raises:
            EngineFailed: The GPU failed on this batch.
        """
        lane = self._lanes.get(len(vectors))
        if lane is None:
            msg = f"expected one of {self.buckets} rows, found {len(vectors)}"
            raise EngineFailed("GPU_FAILED", msg)
        for name, rows in zip(_INPUTS, (vectors, sequences), strict=True):
            self._buffers[name].host[: lane.rows] = rows
        self.launch(lane.rows)
        self._session.synchronize()
        return self._buffers[_OUTPUT].host[: lane.rows].copy()

    def launch(self, rows: int) -> None:
        """Queue the batch that lies in the pinned buffers."""
        lane = self._lanes[rows]
        if lane.graph is None:
            self._queue(lane.rows, lane.context)
        else:
            self._session.launch(lane.graph)

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._lanes.clear()
        self._buffers.clear()
        del self._engine, self._runtime
        self._session.close()

    def _queue(self, rows: int, context: Native) -> None:
        """Queue copy in, compute, copy out."""
        for name in _INPUTS:
            self._session.copy_in(self._buffers[name], rows)
        if not context.execute_async_v3(self._session.stream):
            raise _failed(self._library, f"failed on a batch of {rows} rows")
        self._session.copy_out(self._buffers[_OUTPUT], rows)

    def _open_lane(self, rows: int, plan: Plan) -> _Lane:
        """Open a lane and run it once, which compiles what is compiled at the first run."""
        context = self._open_context(rows, plan)
        self._queue(rows, context)
        self._session.synchronize()
        return _Lane(rows, context, None if self._library.is_rtx else self._capture(rows, context))

    def _open_context(self, rows: int, plan: Plan) -> Native:
        context = self._engine.create_execution_context(*self._settings)
        if context is None:
            raise _failed(self._library, f"opened no context for {rows} rows")
        held = (profile.least <= rows <= profile.most for profile in plan.profiles)
        number = list(held).index(True)
        is_set = context.set_optimization_profile_async(number, self._session.stream)
        self._session.synchronize()
        for tensor in plan.tensors:
            if tensor.is_input:
                is_set &= context.set_input_shape(tensor.name, (rows, *tensor.row_shape))
            pointer = self._buffers[tensor.name].device_pointer
            is_set &= context.set_tensor_address(tensor.name, pointer)
        if not is_set:
            raise _failed(self._library, f"takes no batch of {rows} rows")
        return context

    def _capture(self, rows: int, context: Native) -> Handle | None:
        """Return the graph of a lane; None where the library's kernels cannot be captured."""
        try:
            return self._session.capture(lambda: self._queue(rows, context))
        except EngineFailed as exc:
            _LOG.warning("batches of %d rows run without a CUDA graph: %s", rows, exc)
            return None


def _buffers_of(session: CudaSession, plan: Plan) -> dict[str, GpuBuffer]:
    """Return the buffer of each tensor, for the largest bucket.

    Raises:
        ModelRefused: `MODEL_CONTRACT`, these are not the tensors of a scoring model.
    """
    found = {tensor.name: tensor.dtype for tensor in plan.tensors}
    if found != dict.fromkeys((*_INPUTS, _OUTPUT), "FLOAT"):
        msg = f"expected float {_INPUTS} and {_OUTPUT}, found {found}"
        raise ModelRefused("MODEL_CONTRACT", msg)
    return {
        tensor.name: session.buffer(GPU_BUCKETS[-1], tensor.row_shape) for tensor in plan.tensors
    }


def _run_settings(
    library: Library, engine: Native, kernels: bytes
) -> tuple[tuple[Native, ...], Native | None]:
    """Return what contexts are opened with, and the cache of kernels: TensorRT-RTX has both."""
    if not library.is_rtx:
        return (), None
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = library.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    cache = config.create_runtime_cache()
    if kernels and not cache.deserialize(kernels):
        _LOG.info("compiled kernels of another environment are left out: %s", library.said())
    config.set_runtime_cache(cache)
    return (config,), cache


def _failed(library: Library, what: str) -> EngineFailed:
    said = library.said()
    reason = "GPU_MEMORY" if _OUT_OF_MEMORY in said.lower() else "GPU_FAILED"
    return EngineFailed(reason, f"{library.name} {library.version} {what}: {said}")
