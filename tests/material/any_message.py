"""Random messages of any type: what a fault or a foreign writer may leave on a trusted topic."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

M = TypeVar("M", bound=Message)

_EDGES_64 = [0, 1, -1, 2**31, -(2**31), 2**63 - 1, -(2**63), 1_790_000_000_000]
_INT_32 = st.integers(-(2**31), 2**31 - 1)
_INT_64 = st.sampled_from(_EDGES_64) | st.integers(-(2**63), 2**63 - 1)
_UINT_32 = st.integers(0, 2**32 - 1)
_UINT_64 = st.integers(0, 2**64 - 1)
_FLOATS = st.floats(width=32)
_DOUBLES = st.floats()
_TEXTS = st.text(max_size=8)
_BYTES = st.binary(max_size=40)

_SCALARS = {
    FieldDescriptor.TYPE_INT32: _INT_32,
    FieldDescriptor.TYPE_SINT32: _INT_32,
    FieldDescriptor.TYPE_SFIXED32: _INT_32,
    FieldDescriptor.TYPE_INT64: _INT_64,
    FieldDescriptor.TYPE_SINT64: _INT_64,
    FieldDescriptor.TYPE_SFIXED64: _INT_64,
    FieldDescriptor.TYPE_UINT32: _UINT_32,
    FieldDescriptor.TYPE_FIXED32: _UINT_32,
    FieldDescriptor.TYPE_UINT64: _UINT_64,
    FieldDescriptor.TYPE_FIXED64: _UINT_64,
    FieldDescriptor.TYPE_FLOAT: _FLOATS,
    FieldDescriptor.TYPE_DOUBLE: _DOUBLES,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: _BYTES,
}


@st.composite
def any_message(draw: st.DrawFn, kind: type[M], depth: int = 3) -> M:
    """Draw a message with any fields set to anything that their types hold."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        count = draw(st.integers(1, 2)) if field.is_repeated else 1
        for _ in range(count):
            _draw_field(draw, message, field, depth)
    return message


# The descriptor's own stubs differ between protobuf's two implementations.
def _draw_field(draw: st.DrawFn, message: Message, field: Any, depth: int) -> None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if depth:
            inner = draw(any_message(field.message_type._concrete_class, depth - 1))
            target = getattr(message, field.name)
            (target.add() if field.is_repeated else target).CopyFrom(inner)
        return
    if field.type == FieldDescriptor.TYPE_ENUM:
        known = [value.number for value in field.enum_type.values]
        content = draw(st.sampled_from(known) | _INT_32)
    else:
        content = draw(_SCALARS[field.type])
    if field.is_repeated:
        getattr(message, field.name).append(content)
    else:
        setattr(message, field.name, content)
