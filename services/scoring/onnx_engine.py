"""The CPU engine: ONNX Runtime with one thread and no spinning.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnxruntime as ort

from fraudstream.errors import ModelNotLoaded, ModelRefused
from fraudstream.manifest import GoldenRows
from services.scoring.batcher import BUCKETS, FloatArray, pad_rows

# Bound on fp32 raw scores between engines and batch sizes, bad-input table M8.
GOLDEN_TOLERANCE: Final = 1e-5
_WARM_UP_RUNS: Final = 2


class OnnxEngine:
    """Scores a batch with a single-file ONNX model. Call it from one thread at a time."""

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        # One thread: two on two shared cores were 1.4 to 2.2 times slower. Scale by process.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                model, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # ONNX Runtime's errors share no base of their own
            msg = f"ONNX Runtime does not load the model: {type(exc).__name__}"
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
            msg = f"ONNX Runtime failed: {type(exc).__name__}"
            raise ModelNotLoaded(msg) from exc
        return np.asarray(scores, np.float32).reshape(-1)

    def check_golden(self, golden: GoldenRows) -> None:
        """Score the golden rows in every bucket, which also warms each of them.

        Raises:
            ModelRefused: A raw score is further than 1e-5 from the expected one (`MODEL_GOLDEN`).
        """
        for bucket in BUCKETS:
            for _ in range(_WARM_UP_RUNS):
                found = self._score_in_bucket(golden, bucket)
            # `not <=`, so that NaN is refused as well
            if not np.max(np.abs(found - golden.raw_scores)) <= GOLDEN_TOLERANCE:
                worst = float(np.max(np.abs(found - golden.raw_scores)))
                msg = (
                    f"golden rows differ by {worst:.2e} in batches of {bucket}, "
                    f"at most {GOLDEN_TOLERANCE:.0e} is expected"
                )
                raise ModelRefused("MODEL_GOLDEN", msg)

    def _score_in_bucket(self, golden: GoldenRows, bucket: int) -> FloatArray:
        scores = np.empty(len(golden.raw_scores), np.float32)
        for begin in range(0, len(scores), bucket):
            end = min(begin + bucket, len(scores))
            padded = self.score(
                pad_rows(golden.vectors[begin:end], bucket),
                pad_rows(golden.sequences[begin:end], bucket),
            )
            scores[begin:end] = padded[: end - begin]
        return scores
