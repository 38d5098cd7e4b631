"""Half precision: an ONNX file with the same inputs and output whose matrix products are fp16.

A raw amount or age does not fit into fp16 (65,504 at most), and a raw score near 1 needs more than
its 11 bits. So what stands before the first matrix product, and after the last one, stays fp32; all
between them, an LSTM with its weights included, is converted. ONNX Runtime's own converter rounds
every tensor to fp16 also between the nodes that it is told to leave: the demo model was 0.9 off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fraudstream.errors import ModelRefused

if TYPE_CHECKING:
    import onnx

_HEAVY: Final = frozenset({"LSTM", "Gemm", "MatMul"})
_HALF: Final = "_half"  # a tensor's fp16 form is named so


@dataclass(frozen=True, slots=True)
class _Node:
    """A node in one direction: which tensors it reads, which it gives."""

    number: int
    reads: set[str]
    gives: set[str]


def to_half(model: bytes) -> bytes:
    """Return the file with fp16 matrix products; it needs the package onnx.

    Raises:
        ModelRefused: `MODEL_HALF`, there is nothing to convert, a weight is too large for fp16, or
            the package is missing.
    """
    try:
        import onnx  # not at module level: serving on a CPU has no need of it
    except ImportError as exc:
        raise ModelRefused("MODEL_HALF", "fp16 needs the package onnx (extra: gpu)") from exc
    loaded = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
    graph = loaded.graph
    _lift_constants(graph)
    halved = _halved_nodes(graph)
    if not halved:
        raise ModelRefused("MODEL_HALF", f"expected one of {sorted(_HEAVY)}, found none")
    _Rewrite(graph, halved).apply()
    return bytes(loaded.SerializeToString())


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Make an initialiser of each Constant node, so that constants come in one form only."""
    from onnx import helper

    constants = [node for node in graph.node if node.op_type == "Constant"]
    for node in constants:
        tensor = helper.get_node_attr_value(node, "value")  # exporters write no other form
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _halved_nodes(graph: onnx.GraphProto) -> set[int]:
    """Return the numbers of the nodes between matrix products, and of those of their constants."""
    nodes = [
        _Node(number, set(node.input) - {""}, set(node.output) - {""})
        for number, node in enumerate(graph.node)
    ]
    backwards = [_Node(node.number, node.gives, node.reads) for node in reversed(nodes)]
    heavy = [node for node in nodes if graph.node[node.number].op_type in _HEAVY]
    after = _reached(nodes, _all(node.gives for node in heavy))
    before = _reached(backwards, _all(node.reads for node in heavy))
    between = {node.number for node in heavy} | (after & before)
    moving = _reached(nodes, {tensor.name for tensor in graph.input})
    feeding = _reached(backwards, _all(node.reads for node in nodes if node.number in between))
    return between | (feeding - moving)


def _all(sets: Iterable[set[str]]) -> set[str]:
    return set().union(*sets)


def _reached(nodes: list[_Node], tensors: set[str]) -> set[int]:
    """Return the numbers of the nodes that read one of the tensors, or what such a node gave.

    Args:
        nodes: In an order in which nothing is read before it is given, as ONNX lists them.
        tensors: Where it begins.
    """
    found: set[int] = set()
    known = set(tensors)
    for node in nodes:
        if known & node.reads:
            found.add(node.number)
            known |= node.gives
    return found


class _Rewrite:
    """Rewrites a graph: a float tensor may stand in it twice, as it was and as `NAME_half`."""

    def __init__(self, graph: onnx.GraphProto, halved: set[int]) -> None:
        self._graph = graph
        self._nodes = list(graph.node)
        self._halved = halved
        self._floats = _float_tensors(graph)
        self._made_half = _all(set(node.output) & self._floats for node in self._of(is_halved=True))
        self._read_half = _all(set(node.input) & self._floats for node in self._of(is_halved=True))
        self._read_whole = _all(set(node.input) for node in self._of(is_halved=False))
        self._read_whole |= {tensor.name for tensor in graph.output}

    def apply(self) -> None:
        """Change the graph in place."""
        weights = list(self._graph.initializer)
        constant = {tensor.name for tensor in weights}
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        for tensor in weights:
            self._add_weight(tensor)
        for value in self._graph.input:
            if value.name not in constant:
                self._add_cast(value.name)
        for number, node in enumerate(self._nodes):
            if number in self._halved:
                self._convert(node)
            self._graph.node.append(node)
            for name in node.output:
                self._add_cast(name.removesuffix(_HALF))

    def _of(self, *, is_halved: bool) -> list[onnx.NodeProto]:
        return [
            node for number, node in enumerate(self._nodes) if (number in self._halved) is is_halved
        ]

    def _add_weight(self, tensor: onnx.TensorProto) -> None:
        """Keep a constant in the forms in which it is read."""
        if tensor.name in self._read_whole or tensor.name not in self._read_half:
            self._graph.initializer.append(tensor)
        if tensor.name in self._read_half:
            self._graph.initializer.append(_half_tensor(tensor, tensor.name + _HALF))

    def _add_cast(self, name: str) -> None:
        """Give a tensor that was just made its other form, where something reads that."""
        from onnx import TensorProto, helper

        half = name + _HALF
        if name in self._made_half:
            if name in self._read_whole:
                cast = helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT)
                self._graph.node.append(cast)
        elif name in self._read_half:
            cast = helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16)
            self._graph.node.append(cast)

    def _convert(self, node: onnx.NodeProto) -> None:
        """Make a node read and give fp16."""
        from onnx import TensorProto

        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in self._floats:
                    names[index] = name + _HALF
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            if attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_half_tensor(attribute.t, attribute.t.name))


def _float_tensors(graph: onnx.GraphProto) -> set[str]:
    """Return the names of all fp32 tensors of the graph."""
    from onnx import TensorProto

    values = (*graph.input, *graph.output, *graph.value_info)
    found = {
        value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    return found | {
        tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT
    }


def _half_tensor(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    from onnx import numpy_helper

    with np.errstate(over="ignore"):  # an overflow is refused by name below
        values = numpy_helper.to_array(tensor).astype(np.float16)
    if not np.isfinite(values).all():
        raise ModelRefused("MODEL_HALF", f"constant {tensor.name} does not fit into fp16")
    return numpy_helper.from_array(values, name)
