"""The exported graph is the network: same scores, raw inputs, one row at a time or many."""

from __future__ import annotations

import numpy as np
import pytest

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import score_rows
from fraudstream.features.catalogue import FEATURE_NAMES, SEQUENCE_CHANNELS
from fraudstream.models.allowed_operators import KNOWN_OPERATORS
from fraudstream.models.onnx_reader import read_declared
from tests.fakes.tiny_model import some_sequences, some_vectors

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from training.dataset import Examples  # noqa: E402  # after the skip: it needs PyTorch beside it
from training.models.fit_scaling import fit_scaling  # noqa: E402
from training.models.network import SequenceNetwork  # noqa: E402
from training.models.scaling import NetworkShape, feature_ceilings  # noqa: E402
from training.train.export import export_onnx  # noqa: E402

F = len(FEATURE_NAMES)
ROWS = 70


def some_examples(rows: int = ROWS) -> Examples:
    """Return rows of plausible size, some values missing, sequences of any length."""
    numbers = np.arange(rows, dtype=np.int64)
    return Examples(
        vectors=some_vectors(rows, F),
        sequences=some_sequences(rows),
        is_fraud=numbers % 10 == 0,
        event_time_ms=numbers,
        card=numbers,
        amount_minor=numbers,
        row=numbers,
    )


@pytest.fixture(scope="module")
def exported() -> tuple[SequenceNetwork, bytes]:
    """A network with random weights, and its ONNX file."""
    examples = some_examples()
    torch.manual_seed(3)
    shape = NetworkShape(features=F, hidden=24, ceilings=feature_ceilings())
    scaling = fit_scaling(examples.vectors, examples.sequences, examples.is_fraud, shape)
    network = SequenceNetwork(shape, scaling).eval()
    return network, export_onnx(network, examples)


def test_onnx_equals_torch_on_raw_inputs(exported: tuple[SequenceNetwork, bytes]) -> None:
    """Scaling, codes and missing values are inside the graph: fp32 within 1e-5."""
    network, onnx = exported
    vectors, sequences = some_vectors(33, F, seed=8), some_sequences(33, seed=9)
    with torch.no_grad():
        expected = network(torch.from_numpy(vectors), torch.from_numpy(sequences)).numpy()

    assert np.max(np.abs(score_rows(OnnxEngine(onnx), vectors, sequences, 33) - expected)) <= 1e-5


@pytest.mark.parametrize("batch", [1, 8, 16, 32, 64])
def test_score_of_a_row_does_not_depend_on_the_batch(
    exported: tuple[SequenceNetwork, bytes], batch: int
) -> None:
    """Neighbours and the size of the batch move a score by rounding at most."""
    _, onnx = exported
    vectors, sequences = some_vectors(64, F), some_sequences(64)
    alone = score_rows(OnnxEngine(onnx), vectors, sequences, 1)

    assert np.max(np.abs(score_rows(OnnxEngine(onnx), vectors, sequences, batch) - alone)) <= 1e-6


def test_what_stands_in_padded_steps_is_never_read(
    exported: tuple[SequenceNetwork, bytes],
) -> None:
    """Only seconds_before = -1 says that a step is padding; the rest of it may be anything."""
    _, onnx = exported
    vectors, sequences = some_vectors(20, F), some_sequences(20)
    littered = sequences.copy()
    padded = littered[:, :, 1] < 0
    littered[padded] = 7.0
    littered[padded, 1] = -1.0

    before = score_rows(OnnxEngine(onnx), vectors, sequences, 20)
    assert score_rows(OnnxEngine(onnx), vectors, littered, 20).tobytes() == before.tobytes()


def test_extreme_inputs_give_finite_scores(exported: tuple[SequenceNetwork, bytes]) -> None:
    """All missing, largest amounts, unknown codes: a score in [0, 1], never NaN."""
    _, onnx = exported
    vectors = np.stack([np.full(F, np.nan), np.full(F, 1e13), np.full(F, -1e13), np.zeros(F)])
    sequences = np.zeros((4, 32, len(SEQUENCE_CHANNELS)), np.float32)
    sequences[1] = 1e13
    sequences[2, :, 1] = -1.0
    scores = score_rows(OnnxEngine(onnx), vectors.astype(np.float32), sequences, 4)

    assert ((scores >= 0) & (scores <= 1)).all()


def test_graph_is_plain_and_recurrent(exported: tuple[SequenceNetwork, bytes]) -> None:
    """ONNX's own LSTM operator, no custom code, one file, open batch, opset 22 at most."""
    declared = read_declared(exported[1])

    assert "LSTM" in declared.operators
    assert declared.operators <= KNOWN_OPERATORS
    assert not declared.has_external
    assert not declared.has_subgraphs
    assert declared.opsets[""] <= 22
    assert [tensor.dimensions[0] for tensor in declared.inputs] == [-1, -1]
