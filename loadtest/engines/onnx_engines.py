"""ONNX Runtime's CUDA engine, as it comes. A reference, never served.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnxruntime as ort

from fraudstream.engines.protocol import GPU_BUCKETS, FloatArray, Precision
from fraudstream.errors import EngineFailed

_PROVIDER: Final = "CUDAExecutionProvider"


class OnnxCudaEngine:
    """Scores a batch with an ONNX file on the first GPU."""

    buckets = GPU_BUCKETS

    def __init__(self, model: bytes, precision: Precision) -> None:
        """Open a session.

        Raises:
            EngineFailed: `LIBRARY_ABSENT` or `GPU_ABSENT`; ONNX Runtime itself would use the CPU.
        """
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
