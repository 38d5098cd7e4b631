"""What an ONNX file declares: inputs, outputs, operators, external files. Read without a runtime.

A walk over the protobuf wire format of the few fields that matter (onnx.proto, IR version 3 on), so
that a hostile file is refused before ONNX Runtime or a parser of it sees a byte. Weights are
stepped over, never copied: 1 ms for a graph of 200 nodes, whatever it weighs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fraudstream.errors import ModelRefused

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS, _MODEL_TRAINING = 7, 8, 25, 20
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_DIMENSIONS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_VALUE_NAME, _VALUE_TYPE = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_MAX_TAG: Final = (1 << 32) - 1
_MAX_DIMENSIONS: Final = 16

Value = int | memoryview
Fields = Iterator[tuple[int, Value]]


@dataclass(frozen=True, slots=True)
class DeclaredTensor:
    """One input or output. A dimension is its size, or -1 where it is open."""

    name: str
    element_type: int
    dimensions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OnnxDeclared:
    """What one file declares.

    Attributes:
        opsets: Domain to version; the standard domain is the empty string.
        operators: `domain::name` of every node, the standard domain without a prefix.
        inputs: Graph inputs.
        outputs: Graph outputs.
        has_external: Whether a tensor lies in another file.
        has_subgraphs: Whether a node has a graph or a sparse tensor inside, or the model has
            functions of its own.
        most_elements: Of one tensor of weights, whether or not they are in the file.
        nodes: How many the graph has.
    """

    opsets: dict[str, int]
    operators: frozenset[str]
    inputs: tuple[DeclaredTensor, ...]
    outputs: tuple[DeclaredTensor, ...]
    has_external: bool
    has_subgraphs: bool
    most_elements: int
    nodes: int


def read_declared(model: bytes) -> OnnxDeclared:
    """Return what an ONNX file declares.

    Raises:
        ModelRefused: `MODEL_CORRUPT`, the bytes are no ONNX file.
    """
    try:
        found = _read_model(memoryview(model))
    except (ValueError, IndexError, TypeError, UnicodeDecodeError) as exc:
        msg = "expected an ONNX file, found bytes that cannot be read as one"
        raise ModelRefused("MODEL_CORRUPT", msg) from exc
    if not found.operators or not found.outputs:
        raise ModelRefused("MODEL_CORRUPT", "expected an ONNX graph with nodes, found none")
    return found


def _read_model(model: memoryview) -> OnnxDeclared:
    opsets: dict[str, int] = {}
    graph = memoryview(b"")
    has_functions = False
    for number, value in _fields(model):
        if number == _MODEL_OPSET:
            parts = dict(_fields(_message(value)))
            domain = _text(parts.get(_OPSET_DOMAIN, memoryview(b"")))
            opsets["" if domain == "ai.onnx" else domain] = _number(parts.get(_OPSET_VERSION, 0))
        elif number == _MODEL_GRAPH and not len(graph):
            graph = _message(value)
        elif number in (_MODEL_FUNCTIONS, _MODEL_TRAINING, _MODEL_GRAPH):
            has_functions = True
    return _read_graph(graph, opsets, has_functions)


@dataclass(slots=True)
class _Seen:
    """What was met on the walk so far."""

    operators: set[str] = field(default_factory=set)
    has_external: bool = False
    has_subgraphs: bool = False
    most_elements: int = 0
    nodes: int = 0


def _read_graph(graph: memoryview, opsets: dict[str, int], has_functions: bool) -> OnnxDeclared:
    seen = _Seen(has_subgraphs=has_functions)
    inputs: list[DeclaredTensor] = []
    outputs: list[DeclaredTensor] = []
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            _read_node(_message(value), seen)
        elif number == _GRAPH_INITIALIZER:
            _read_tensor(_message(value), seen)
        elif number == _GRAPH_SPARSE:
            seen.has_subgraphs = True  # never written by our exporter; refused with the rest
        elif number == _GRAPH_INPUT:
            inputs.append(_read_value(_message(value)))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_read_value(_message(value)))
    return OnnxDeclared(
        opsets,
        frozenset(seen.operators),
        tuple(inputs),
        tuple(outputs),
        seen.has_external,
        seen.has_subgraphs,
        seen.most_elements,
        seen.nodes,
    )


def _read_node(node: memoryview, seen: _Seen) -> None:
    seen.nodes += 1
    name, domain = "", ""
    for number, value in _fields(node):
        if number == _NODE_OP:
            name = _text(value)
        elif number == _NODE_DOMAIN:
            domain = _text(value)
        elif number == _NODE_ATTRIBUTE:
            _read_attribute(_message(value), seen)
    seen.operators.add(name if domain in ("", "ai.onnx") else f"{domain}::{name}")


def _read_attribute(attribute: memoryview, seen: _Seen) -> None:
    for number, value in _fields(attribute):
        if number in _ATTRIBUTE_GRAPHS or number in _ATTRIBUTE_SPARSE:
            seen.has_subgraphs = True  # sparse as below: a runtime makes room for all its zeros
        elif number in _ATTRIBUTE_TENSORS:
            _read_tensor(_message(value), seen)


def _read_tensor(tensor: memoryview, seen: _Seen) -> None:
    dimensions: list[int] = []
    for number, value in _fields(tensor):
        if number == _TENSOR_DIMENSIONS:
            dimensions += _numbers(value)
        elif number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            seen.has_external = True
    elements = 1
    for size in dimensions:
        elements *= size
    if len(dimensions) > _MAX_DIMENSIONS:
        raise ValueError(len(dimensions))
    seen.most_elements = max(seen.most_elements, elements)


def _numbers(value: Value) -> list[int]:
    """Return the numbers of one field, which a writer may have packed into one."""
    if isinstance(value, int):
        return [value]
    found, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        found.append(number)
    return found


def _read_value(value: memoryview) -> DeclaredTensor:
    """Read a ValueInfoProto: name, and TypeProto's tensor_type (element type, shape)."""
    nothing = memoryview(b"")
    parts = dict(_fields(value))
    kind = dict(_fields(_message(parts.get(_VALUE_TYPE, nothing))))
    tensor = dict(_fields(_message(kind.get(1, nothing))))
    dimensions = []
    for number, dimension in _fields(_message(tensor.get(2, nothing))):
        if number == 1:
            size = dict(_fields(_message(dimension))).get(1, -1)
            dimensions.append(_number(size))
    name = _text(parts.get(_VALUE_NAME, nothing))
    return DeclaredTensor(name, _number(tensor.get(1, 0)), tuple(dimensions))


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise TypeError
    return value


def _text(value: Value) -> str:
    return str(_message(value), "utf-8")


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def _fields(message: memoryview) -> Fields:
    """Yield (field number, value) of one protobuf message; a view for all that has a length."""
    position, end = 0, len(message)
    while position < end:
        # Tags and lengths of one byte, nearly all of them, are read in place: half of the time.
        tag = message[position]
        position += 1
        if tag >= 0x80:
            tag, position = _long_tag(message, position - 1)
        number, wire = tag >> 3, tag & 7
        if wire in (_VARINT, _BYTES):
            size = message[position]
            position += 1
            if size >= 0x80:
                size, position = _varint(message, position - 1)
            if wire == _VARINT:
                yield number, size
                continue
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(wire)
        if number == 0 or position + size > end:
            raise ValueError(number)
        yield number, message[position : position + size]
        position += size


def _long_tag(message: memoryview, position: int) -> tuple[int, int]:
    tag, after = _varint(message, position)
    if tag > _MAX_TAG:  # protobuf drops the higher bits, and would read another field
        raise ValueError(tag)
    return tag, after


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError(position)
