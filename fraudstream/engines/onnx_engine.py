"""The CPU engine: ONNX Runtime with one thread and no spinning.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import onnxruntime as ort

from fraudstream.engines.protocol import BUCKETS, FloatArray, Precision
from fraudstream.errors import ModelNotLoaded, ModelRefused

# All sessions of a process together: an LSTM 2 x 128 takes 20 MiB, and a graph that asks for more
# than is left fails as a batch does, where the process would be killed.
MEMORY_BYTES: Final = 2 << 30
_REASON_CHARACTERS: Final = 500


@functools.cache
def _bound_memory() -> None:
    """Give the process one bounded arena, which ONNX Runtime keeps for as long as it lives."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"max_mem": MEMORY_BYTES}))


def reason_of(exc: Exception) -> str:
    """Return ONNX Runtime's own words on one line, without where in its source they stand.

    >>> reason_of(RuntimeError("[ONNXRuntimeError] : 1 : FAIL : /a/model.cc:1 Unsupported IR"))
    'FAIL : /a/model.cc:1 Unsupported IR'
    """
    words = " ".join(str(exc).split())[:_REASON_CHARACTERS]
    return words.removeprefix("[ONNXRuntimeError] : ").partition(" : ")[2] or words


class OnnxEngine:
    """Scores a batch with a single-file ONNX model. Call it from one thread at a time."""

    buckets = BUCKETS
    is_cpu = True

    def __init__(self, model: bytes, precision: Precision = Precision.FP32) -> None:
        _bound_memory()
        options = ort.SessionOptions()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # One thread: two on two shared cores were 1.4 to 2.2 times slower. Scale by process.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        if precision is Precision.FP16:
            # ONNX Runtime 1.31 dies of a segmentation fault on fp16 with all its optimisations.
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        try:
            self._session = ort.InferenceSession(
                model, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # ONNX Runtime's errors share no base of their own
            msg = f"ONNX Runtime {ort.__version__} does not load the model: {reason_of(exc)}"
            raise ModelRefused("MODEL_CORRUPT", msg) from exc

    @property
    def version(self) -> str:
        """Return the name and version of the library that computes."""
        return f"onnxruntime-{ort.__version__}"

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B].

        Raises:
            ModelNotLoaded: ONNX Runtime failed on this batch.
        """
        try:
            (scores,) = self._session.run(["raw_score"], {"vector": vectors, "sequence": sequences})
        except Exception as exc:  # as above
            msg = f"ONNX Runtime failed: {reason_of(exc)}"
            raise ModelNotLoaded(msg) from exc
        return np.asarray(scores, np.float32).reshape(-1)

    def close(self) -> None:
        """Give the session's memory back."""
        del self._session
