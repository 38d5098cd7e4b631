"""Half precision: same inputs, same output, scores within 5e-4, raw values of any size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fraudstream.engines.half import to_half
from fraudstream.engines.protocol import GOLDEN_TOLERANCE, FloatArray, Precision
from fraudstream.errors import ModelRefused

pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from loadtest.engines.networks import SHAPES, Subject, subject  # after the skip

# In a process of its own: ONNX Runtime 1.31 died of a segmentation fault on some fp16 models.
_SCORE = """
import sys
import numpy as np
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import Precision, score_rows
model, rows, out = sys.argv[1:]
with open(model, "rb") as file:
    engine = OnnxEngine(file.read(), Precision.FP16)
found = np.load(rows)
np.save(out, score_rows(engine, found["vectors"], found["sequences"]))
"""


@pytest.fixture(scope="module", params=list(SHAPES))
def halved(request: pytest.FixtureRequest) -> tuple[Subject, bytes]:
    """Each network, and its fp16 file."""
    one = subject(request.param)
    return one, to_half(one.onnx())


def scored(model: bytes, vectors: FloatArray, sequences: FloatArray, folder: Path) -> FloatArray:
    """Return what ONNX Runtime computes in a process of its own."""
    (folder / "half.onnx").write_bytes(model)
    np.savez(folder / "rows.npz", vectors=vectors, sequences=sequences)
    files = [str(folder / name) for name in ("half.onnx", "rows.npz", "scores.npy")]
    subprocess.run([sys.executable, "-c", _SCORE, *files], check=True)
    found: FloatArray = np.load(folder / "scores.npy")
    return found


def test_half_reproduces_the_golden_rows(halved: tuple[Subject, bytes], tmp_path: Path) -> None:
    """Within what is allowed of fp16, on the CPU."""
    golden = halved[0].golden

    found = scored(halved[1], golden.vectors, golden.sequences, tmp_path)

    assert np.max(np.abs(found - golden.raw_scores)) <= GOLDEN_TOLERANCE[Precision.FP16]


def test_values_beyond_fp16_give_the_same_scores(
    halved: tuple[Subject, bytes], tmp_path: Path
) -> None:
    """An amount of a million and an age of a month are scaled before anything is rounded."""
    golden = halved[0].golden
    vectors, sequences = golden.vectors.copy(), golden.sequences.copy()
    vectors[:, 0], sequences[:, -1, 0] = 1e8, 1e8
    expected = _of_network(halved[0], vectors, sequences)

    found = scored(halved[1], vectors, sequences, tmp_path)

    assert np.max(np.abs(found - expected)) <= GOLDEN_TOLERANCE[Precision.FP16]


def test_file_is_valid_and_smaller(halved: tuple[Subject, bytes]) -> None:
    """ONNX's own checker takes it: sorted, typed, inputs and output still fp32."""
    model = onnx.load_model_from_string(halved[1])

    onnx.checker.check_model(model, full_check=True)

    kinds = {
        tensor.type.tensor_type.elem_type for tensor in (*model.graph.input, *model.graph.output)
    }
    assert kinds == {TensorProto.FLOAT}
    assert len(halved[1]) < len(halved[0].onnx())


def test_matrix_products_and_lstm_weights_are_half(halved: tuple[Subject, bytes]) -> None:
    """Nothing is cast to fp16 again in each run: an LSTM's weights are kept so."""
    graph = onnx.load_model_from_string(halved[1]).graph
    heavy = [node for node in graph.node if node.op_type in {"LSTM", "Gemm", "MatMul"}]

    assert heavy
    assert all(name.endswith("_half") for node in heavy for name in node.input if name)


def one_product(weight: float) -> bytes:
    """Return `rows` times a weight."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "weight"], ["out"])],
        "product",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["B", 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["B", 1])],
        [numpy_helper.from_array(np.full((2, 1), weight, np.float32), "weight")],
    )
    return bytes(helper.make_model(graph, ir_version=8).SerializeToString())


def test_weight_beyond_fp16_is_a_named_error() -> None:
    """It would become infinity."""
    with pytest.raises(ModelRefused, match="MODEL_HALF: constant weight does not fit"):
        to_half(one_product(1e6))


def test_graph_without_matrix_products_is_a_named_error() -> None:
    """There is nothing to gain."""
    model = onnx.load_model_from_string(one_product(1.0))
    model.graph.node[0].CopyFrom(helper.make_node("Identity", ["rows"], ["out"]))

    with pytest.raises(ModelRefused, match="MODEL_HALF: expected one of"):
        to_half(bytes(model.SerializeToString()))


def _of_network(one: Subject, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
    import torch

    with torch.no_grad():
        found = one.network(torch.from_numpy(vectors), torch.from_numpy(sequences))
    scores: FloatArray = found.numpy()
    return scores
