"""Every engine is held to the PyTorch reference, and a score to its row alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fraudstream.engines.golden import GoldenRows, check_golden, within
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import BUCKETS, GOLDEN_TOLERANCE, FloatArray, Precision, pad_rows
from fraudstream.errors import ModelNotLoaded, ModelRefused
from tests.fakes.tiny_model import (
    FEATURES,
    HIDDEN,
    Weights,
    onnx_bytes,
    some_sequences,
    some_vectors,
    tiny_weights,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")


TOLERANCE = GOLDEN_TOLERANCE[Precision.FP32]


class TorchEngine:
    """The reference: the same network in PyTorch, weights moved gate by gate."""

    version = "torch"

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._lstm = torch.nn.LSTM(weights.gates_input.shape[2], HIDDEN, batch_first=True)
        bias = weights.gates_bias[0]
        with torch.no_grad():
            self._lstm.weight_ih_l0.copy_(_torch_gates(weights.gates_input[0]))
            self._lstm.weight_hh_l0.copy_(_torch_gates(weights.gates_hidden[0]))
            self._lstm.bias_ih_l0.copy_(_torch_gates(bias[: 4 * HIDDEN]))
            self._lstm.bias_hh_l0.copy_(_torch_gates(bias[4 * HIDDEN :]))

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B]."""
        weights = self._weights
        with torch.no_grad():
            features = torch.tanh(torch.from_numpy(np.nan_to_num(vectors) * weights.vector_scale))
            _, (hidden, _) = self._lstm(torch.from_numpy(sequences * weights.sequence_scale))
            joined = torch.cat([hidden[0], features], dim=1)
            logit = joined @ torch.from_numpy(weights.head) + torch.from_numpy(weights.head_bias)
        scores: FloatArray = torch.sigmoid(logit)[:, 0].numpy()
        return scores


def _torch_gates(onnx_gates: FloatArray) -> Any:
    """Bring ONNX's gate order (input, output, forget, cell) into PyTorch's (i, f, c, o)."""
    input_gate, output_gate, forget_gate, cell = np.split(onnx_gates, 4)
    return torch.from_numpy(np.concatenate([input_gate, forget_gate, cell, output_gate]))


def golden_rows(rows: int, shift: float = 0.0) -> GoldenRows:
    """Return golden rows of the reference, `shift` off."""
    vectors, sequences = some_vectors(rows), some_sequences(rows)
    scores = TorchEngine(tiny_weights()).score(vectors, sequences) + np.float32(shift)
    return GoldenRows(vectors, sequences, scores)


@pytest.fixture(scope="module")
def engine() -> OnnxEngine:
    """ONNX Runtime with the tiny model."""
    return OnnxEngine(onnx_bytes(tiny_weights()))


@pytest.mark.parametrize("bucket", BUCKETS)
def test_onnx_agrees_with_torch_in_every_bucket(engine: OnnxEngine, bucket: int) -> None:
    """Raw scores of both engines differ by at most 1e-6 (CPU, fp32)."""
    vectors, sequences = some_vectors(bucket), some_sequences(bucket)

    expected = TorchEngine(tiny_weights()).score(vectors, sequences)

    assert np.max(np.abs(engine.score(vectors, sequences) - expected)) <= 1e-6


@pytest.mark.parametrize("bucket", BUCKETS)
def test_score_depends_on_neither_place_nor_neighbours(engine: OnnxEngine, bucket: int) -> None:
    """In a batch of one padded size a row has the same score to the bit, wherever it stands."""
    vectors, sequences = some_vectors(bucket + 1), some_sequences(bucket + 1)
    row_vector, row_sequence = vectors[-1:], sequences[-1:]
    alone = engine.score(pad_rows(row_vector, bucket), pad_rows(row_sequence, bucket))[0]

    for place in range(bucket):
        crowd_vectors, crowd_sequences = vectors[:bucket].copy(), sequences[:bucket].copy()
        crowd_vectors[place], crowd_sequences[place] = row_vector[0], row_sequence[0]
        found = engine.score(crowd_vectors, crowd_sequences)[place]
        assert found.tobytes() == alone.tobytes()


def test_golden_rows_pass_in_every_bucket(engine: OnnxEngine) -> None:
    """A good model passes its own golden rows, padded to each size."""
    check_golden(engine, golden_rows(70), within(TOLERANCE))


def test_model_off_its_golden_rows_is_refused(engine: OnnxEngine) -> None:
    """A model that answers otherwise than in training does not serve."""
    with pytest.raises(ModelRefused, match="MODEL_GOLDEN"):
        check_golden(engine, golden_rows(3, shift=10 * TOLERANCE), within(TOLERANCE))


def test_bytes_that_are_no_model_are_refused() -> None:
    """A truncated file is MODEL_CORRUPT, not a crash."""
    with pytest.raises(ModelRefused, match="MODEL_CORRUPT"):
        OnnxEngine(onnx_bytes(tiny_weights())[:1000])


def test_engine_failure_is_typed(engine: OnnxEngine) -> None:
    """What ONNX Runtime cannot compute becomes ModelNotLoaded, so that a stand-in follows."""
    with pytest.raises(ModelNotLoaded):
        engine.score(np.zeros((1, len(FEATURES) + 1), np.float32), some_sequences(1))
