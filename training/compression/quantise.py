"""LSTM layers in 8-bit integers, so that a row's score still depends on that row alone.

ONNX Runtime's DynamicQuantizeLSTM takes the range of its inputs and of its hidden states from the
batch at hand: left to itself, a row's score moves with its neighbours (by up to 0.2, measured on
the demo's model). Here both ranges are the same for every batch. Inputs are divided by a bound for
each column, cut at it, and get two more columns of +1 and -1. Hidden states get two more units
whose gates stand open: after t steps they are +tanh(t) and -tanh(t), and no state of an LSTM lies
further out than that.

Weights have 7 bits, so that no kernel saturates and a score does not depend on the processor, and
each row of gates has its own scale. Dense layers stay in fp32: they are 3 % of the work, and in
int8 they cost more alerts than the LSTM and would depend on the batch again.

Axes: T steps, B rows, D inputs of a step, H hidden units, G = 4 H (gates input, output, forget,
cell).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fraudstream.errors import ModelRefused

FloatArray = NDArray[np.float32]
Constants = dict[str, NDArray[np.generic]]

_GATES: Final = 4
_MORE: Final = 2  # columns and units: one for the highest value, one for the lowest
_OPEN: Final = 30.0  # bias at which a sigmoid and a tanh are 1 in float32
_LEAST_BOUND: Final = 1e-6
# The kernels for AVX2 add two products of a weight and an input (0 to 255) in 16 bits, and saturate
# at 32767: 2 x 255 x 64 stays below it, so every processor computes the same sums.
_MOST_WEIGHT: Final = 64
_DOMAIN: Final = "com.microsoft"


def outer_inputs(content: bytes) -> list[str]:
    """Return the names of what goes into LSTM layers from elsewhere, float32 [T, B, D] each."""
    graph = onnx.load_from_string(content).graph
    inner = _between_layers(graph)
    return [node.input[0] for node in _layers_of(graph) if node.input[0] not in inner]


def quantise_lstm(content: bytes, bounds: Mapping[str, FloatArray]) -> bytes:
    """Return a graph with its LSTM layers in int8.

    Args:
        content: ONNX file in fp32. Its LSTMs run forward and begin with states of zero.
        bounds: For each of `outer_inputs` the largest magnitude of each column, float32 [D]; what
            is larger will be cut.

    Raises:
        ModelRefused: `MODEL_OPS`: it has no LSTM, or one of another form.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    if not _layers_of(graph):
        raise ModelRefused("MODEL_OPS", "expected LSTM layers to quantise, found none")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inner = _between_layers(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "LSTM":
            nodes.append(node)
            continue
        layer = _Layer(node, weights)
        if node.input[0] not in inner:
            nodes += layer.bounded_inputs(bounds[node.input[0]])
        nodes += layer.quantised({name for name in node.output if name in inner})
        graph.initializer.extend(layer.tensors())
    _replace_nodes(graph, nodes)
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return bytes(model.SerializeToString())


def with_outputs(content: bytes, names: Iterable[str]) -> bytes:
    """Return a graph that also puts out some of its inner tensors."""
    model: ModelProto = onnx.load_from_string(content)
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return bytes(model.SerializeToString())


def _layers_of(graph: GraphProto) -> list[NodeProto]:
    return [node for node in graph.node if node.op_type == "LSTM"]


def _between_layers(graph: GraphProto) -> set[str]:
    """Return the tensors that only LSTM layers make and read, squeezed on the way or not."""
    readers: dict[str, list[NodeProto]] = {output.name: [] for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def is_for_layers(name: str) -> bool:
        return bool(readers.get(name)) and all(
            (node.op_type == "LSTM" and node.input[0] == name)
            or (node.op_type == "Squeeze" and is_for_layers(node.output[0]))
            for node in readers[name]
        )

    found = {node.output[0] for node in _layers_of(graph) if is_for_layers(node.output[0])}
    for node in graph.node:
        if node.op_type == "Squeeze" and node.input[0] in found:
            found.add(node.output[0])
    return found


def _replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Put nodes into a graph, without those and the weights that nothing reads any more."""
    needed = {output.name for output in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    for field in (graph.node, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)


class _Layer:
    """One LSTM node on its way to int8."""

    def __init__(self, node: NodeProto, weights: Mapping[str, FloatArray]) -> None:
        named = {attribute.name: attribute for attribute in node.attribute}
        if set(named) != {"hidden_size"}:
            raise ModelRefused("MODEL_OPS", f"expected plain LSTMs, found {sorted(named)}")
        self._node = node
        self._inputs = node.input[0]
        self._hidden: int = named["hidden_size"].i
        shape = (_GATES, self._hidden, -1)
        self._input_weights = weights[node.input[1]].reshape(shape)  # [4, H, D]
        self._hidden_weights = weights[node.input[2]].reshape(shape)  # [4, H, H]
        self._bias = weights[node.input[3]].reshape(2, _GATES, self._hidden)
        self._constants: Constants = {}

    def tensors(self) -> list[TensorProto]:
        """Return the constants that the nodes made so far read."""
        return [numpy_helper.from_array(value, name) for name, value in self._constants.items()]

    def bounded_inputs(self, bounds: FloatArray) -> list[NodeProto]:
        """Return what brings the inputs into [-1, 1] and puts +1 and -1 beside them."""
        bounds = np.maximum(bounds, _LEAST_BOUND).astype(np.float32)
        self._input_weights = self._input_weights * bounds
        factor = self._keep("factor", 1 / bounds)
        most, least = self._keep("most", np.float32(1)), self._keep("least", np.float32(-1))
        after = self._keep("after", np.array([0, 0, 0, 0, 0, 1], np.int64))
        steps = [("Mul", [factor]), ("Clip", [least, most]), ("Pad", [after, most])]
        nodes: list[NodeProto] = []
        for operator, constants in [*steps, ("Pad", [after, least])]:
            made = self._named(f"step_{len(nodes)}")
            nodes.append(helper.make_node(operator, [self._inputs, *constants], [made]))
            self._inputs = made
        return nodes

    def quantised(self, wide: set[str]) -> list[NodeProto]:
        """Return the layer with two more units, cut off again but from the outputs in `wide`."""
        units = self._hidden + _MORE
        bias = np.zeros((2, _GATES, units), np.float32)
        bias[:, :, : self._hidden] = self._bias
        bias[0, :, self._hidden :] = _OPEN
        bias[0, -1, -1] = -_OPEN  # the cell of the last unit falls
        inputs = self._keep_integers("inputs", self._input_weights)
        hidden = self._keep_integers("hidden", self._hidden_weights)
        operands = [inputs[0], hidden[0], self._keep("bias", bias.reshape(1, -1)), *[""] * 4]
        read = [name for name in self._node.output if name and name not in wide]
        outputs = [name + "_wide" if name in read else name for name in self._node.output]
        layer = helper.make_node(
            "DynamicQuantizeLSTM",
            [self._inputs, *operands, *inputs[1:], *hidden[1:]],
            outputs,
            domain=_DOMAIN,
            hidden_size=units,
        )
        cut = [self._keep(f"cut_{end}", np.array([end])) for end in (0, self._hidden, -1)]
        slices = [helper.make_node("Slice", [name + "_wide", *cut], [name]) for name in read]
        return [layer, *slices]

    def _keep_integers(self, name: str, weights: FloatArray) -> tuple[str, str, str]:
        """Keep weights [4, H, D] as int8 [1, D + 2, 4 (H + 2)], with a scale for each gate row."""
        wide = np.pad(weights, [(0, 0), (0, _MORE), (0, _MORE)])
        columns = wide.reshape(-1, wide.shape[2]).T[None]
        most = np.abs(columns).max(axis=1)  # [1, 4 (H + 2)]
        scale = np.maximum(most, _LEAST_BOUND) / _MOST_WEIGHT
        numbers = np.rint(columns / scale[:, None]).astype(np.int8)
        return (
            self._keep(name, np.ascontiguousarray(numbers)),
            self._keep(f"{name}_scale", scale.astype(np.float32)),
            self._keep(f"{name}_zero", np.zeros(scale.shape, np.int8)),
        )

    def _keep(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        full = self._named(name)
        self._constants[full] = np.asarray(value)
        return full

    def _named(self, name: str) -> str:
        return f"{self._node.output[0] or self._node.output[1]}/int8/{name}"
