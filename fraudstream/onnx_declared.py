"""What an ONNX file declares: inputs, outputs, operators, external files. Read without a runtime.

A walk over the protobuf wire format of the few fields that matter (onnx.proto, IR version 3 on), so
that a hostile file is refused before ONNX Runtime or a parser of it sees a byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import ModelRefused

# What our graphs are made of, and what both ONNX Runtime and TensorRT compute.
_NAMES: Final = (
    "Abs Add And Cast Clip Concat Constant ConstantOfShape Cos Div Equal Erf Exp Expand Flatten "
    "Gather GatherElements GatherND Gemm Greater GreaterOrEqual Identity IsNaN LayerNormalization "
    "LSTM Less LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or Pad Pow ReduceMax ReduceMean "
    "ReduceMin ReduceSum Relu Reshape Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt "
    "Squeeze Sub Tanh Transpose Unsqueeze Where"
)
KNOWN_OPERATORS: Final = frozenset(_NAMES.split())

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS, _MODEL_TRAINING = 7, 8, 25, 20
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 10, (6, 11)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_VALUE_NAME, _VALUE_TYPE = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10

Fields = Iterator[tuple[int, int | bytes]]


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
        has_subgraphs: Whether a node has a graph inside, or the model has functions of its own.
    """

    opsets: dict[str, int]
    operators: frozenset[str]
    inputs: tuple[DeclaredTensor, ...]
    outputs: tuple[DeclaredTensor, ...]
    has_external: bool
    has_subgraphs: bool


def read_declared(model: bytes) -> OnnxDeclared:
    """Return what an ONNX file declares.

    Raises:
        ModelRefused: `MODEL_CORRUPT`, the bytes are no ONNX file.
    """
    try:
        found = _read_model(model)
    except (ValueError, IndexError, TypeError, UnicodeDecodeError) as exc:
        msg = "expected an ONNX file, found bytes that cannot be read as one"
        raise ModelRefused("MODEL_CORRUPT", msg) from exc
    if not found.operators or not found.outputs:
        raise ModelRefused("MODEL_CORRUPT", "expected an ONNX graph with nodes, found none")
    return found


def _read_model(model: bytes) -> OnnxDeclared:
    opsets: dict[str, int] = {}
    graph: bytes | None = None
    has_functions = False
    for number, value in _fields(model):
        if number == _MODEL_OPSET:
            parts = dict(_fields(_message(value)))
            domain = _message(parts.get(_OPSET_DOMAIN, b"")).decode()
            opsets["" if domain == "ai.onnx" else domain] = _number(parts.get(_OPSET_VERSION, 0))
        elif number == _MODEL_GRAPH and graph is None:
            graph = _message(value)
        elif number in (_MODEL_FUNCTIONS, _MODEL_TRAINING, _MODEL_GRAPH):
            has_functions = True
    return _read_graph(graph or b"", opsets, has_functions)


def _read_graph(graph: bytes, opsets: dict[str, int], has_functions: bool) -> OnnxDeclared:
    operators: set[str] = set()
    inputs: list[DeclaredTensor] = []
    outputs: list[DeclaredTensor] = []
    has_external, has_subgraphs = False, has_functions
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            node = _read_node(_message(value))
            operators.add(node.operator)
            has_external |= node.has_external
            has_subgraphs |= node.has_subgraphs
        elif number == _GRAPH_INITIALIZER:
            has_external |= _is_external(_message(value))
        elif number == _GRAPH_SPARSE:
            has_subgraphs = True  # never written by our exporter; refused with the rest
        elif number == _GRAPH_INPUT:
            inputs.append(_read_value(_message(value)))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_read_value(_message(value)))
    return OnnxDeclared(
        opsets, frozenset(operators), tuple(inputs), tuple(outputs), has_external, has_subgraphs
    )


@dataclass(frozen=True, slots=True)
class _Node:
    operator: str
    has_external: bool
    has_subgraphs: bool


def _read_node(node: bytes) -> _Node:
    name, domain = "", ""
    has_external = has_subgraphs = False
    for number, value in _fields(node):
        if number == _NODE_OP:
            name = _message(value).decode()
        elif number == _NODE_DOMAIN:
            domain = _message(value).decode()
        elif number == _NODE_ATTRIBUTE:
            for part, inner in _fields(_message(value)):
                has_subgraphs |= part in _ATTRIBUTE_GRAPHS
                if part in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    has_external |= _is_external(_message(inner))
    prefix = "" if domain in ("", "ai.onnx") else f"{domain}::"
    return _Node(prefix + name, has_external, has_subgraphs)


def _is_external(tensor: bytes) -> bool:
    return any(
        number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0)
        for number, value in _fields(tensor)
    )


def _read_value(value: bytes) -> DeclaredTensor:
    """Read a ValueInfoProto: name, and TypeProto's tensor_type (element type, shape)."""
    parts = dict(_fields(value))
    kind = dict(_fields(_message(parts.get(_VALUE_TYPE, b""))))
    tensor = dict(_fields(_message(kind.get(1, b""))))
    dimensions = []
    for number, dimension in _fields(_message(tensor.get(2, b""))):
        if number == 1:
            size = dict(_fields(_message(dimension))).get(1, -1)
            dimensions.append(_number(size))
    name = _message(parts.get(_VALUE_NAME, b"")).decode()
    return DeclaredTensor(name, _number(tensor.get(1, 0)), tuple(dimensions))


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return value


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def _fields(message: bytes) -> Fields:
    """Yield (field number, value) of one protobuf message; bytes for everything with a length."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(message, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(wire)
        if number == 0 or position + size > len(message):
            raise ValueError(number)
        yield number, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = message[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise ValueError(position)
