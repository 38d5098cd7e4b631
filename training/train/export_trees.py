"""Export boosted trees as one ONNX file that reads what a network reads: raw vector and sequence.

Axes: N rows, F features, T steps, C channels.
"""

from __future__ import annotations

import numpy as np
import onnx
import xgboost
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import GOLDEN_TOLERANCE, Precision, score_rows
from fraudstream.errors import ModelRefused
from training.dataset import Examples
from training.models.onnx_file import OPSET

_IR_VERSION = 8  # that of the networks' exporter
_TREES_OPSET = 1  # what onnxmltools writes


def export_trees(
    model: xgboost.XGBClassifier,
    codes_from: int,
    examples: Examples,
    expected: NDArray[np.floating],
) -> bytes:
    """Return the trees as ONNX with an open batch, checked against XGBoost on the examples.

    Args:
        model: Reads the vector, then the channels of the sequence's last step from one on.
        codes_from: The first of these channels.
        examples: Rows to check on; some with missing values, or missing values stay unchecked.
        expected: XGBoost's own scores of these rows.

    Raises:
        ModelRefused: `MODEL_GOLDEN`, ONNX Runtime computes something else.
    """
    made = helper.make_model(
        _graph(model, codes_from, examples),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", _TREES_OPSET),
        ],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(made, full_check=True)
    content = bytes(made.SerializeToString())
    found = score_rows(OnnxEngine(content), examples.vectors, examples.sequences)
    worst = float(np.max(np.abs(found - expected)))
    if not worst <= GOLDEN_TOLERANCE[Precision.FP32]:
        raise ModelRefused("MODEL_GOLDEN", f"ONNX differs from XGBoost by {worst:.1e}")
    return content


def _graph(model: xgboost.XGBClassifier, codes_from: int, examples: Examples) -> onnx.GraphProto:
    features, (steps, channels) = examples.vectors.shape[1], examples.sequences.shape[1:]
    trees = _tree_node(model, features + channels - codes_from)
    far = np.iinfo(np.int64).max
    constants = {
        "last_step": np.array([-1, codes_from], np.int64),
        "to_the_end": np.array([far, far], np.int64),
        "of_steps_and_channels": np.array([1, 2], np.int64),
        "steps": np.array([1], np.int64),
        "fraud": np.array(1, np.int64),
    }
    nodes = [
        helper.make_node(
            "Slice", ["sequence", "last_step", "to_the_end", "of_steps_and_channels"], ["codes_3d"]
        ),
        helper.make_node("Squeeze", ["codes_3d", "steps"], ["codes"]),  # [B, C - codes_from]
        helper.make_node("Concat", ["vector", "codes"], ["columns"], axis=1),
        trees,
        helper.make_node("Gather", ["probabilities", "fraud"], ["raw_score"], axis=1),  # [B]
    ]
    return helper.make_graph(
        nodes,
        "boosting",
        [
            helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", features]),
            helper.make_tensor_value_info(
                "sequence", TensorProto.FLOAT, ["batch", steps, channels]
            ),
        ],
        [helper.make_tensor_value_info("raw_score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def _tree_node(model: xgboost.XGBClassifier, columns: int) -> onnx.NodeProto:
    """Return the trees as a node from `columns` to `probabilities`, float32 [B, 2]."""
    named = [("columns", FloatTensorType([None, columns]))]
    converted = convert_xgboost(model, initial_types=named, target_opset=15)
    node: onnx.NodeProto = converted.graph.node[0]
    if len(converted.graph.node) != 1 or list(node.output) != ["label", "probabilities"]:
        raise ModelRefused("MODEL_OPS", f"expected a classifier, found outputs {node.output}")
    return node
