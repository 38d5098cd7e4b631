"""Formats of raw records: what `content-type` may say, and what then decodes the value.

A format more is a module with its decoder, a line of the table here, and a line in docs/data.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fraudstream.transaction.json_form import decode_json
from fraudstream.transaction.protobuf_form import decode_protobuf
from fraudstream.v1.transaction_pb2 import Transaction

Headers = Sequence[tuple[str, bytes]]
Decode = Callable[[bytes, list[str] | None], Transaction]
"""Decodes a value; the list takes the names of fields that the schema does not have."""

CONTENT_TYPE: Final = "content-type"
JSON: Final = b"application/json"
PROTOBUF: Final = b"application/x-protobuf"

DECODERS: Final[Mapping[bytes, Decode]] = {JSON: decode_json, PROTOBUF: decode_protobuf}
"""Each content type by the name that ours use for it, with its decoder."""

# Other names of the same.
_ALIASES: Final = {
    b"application/protobuf": PROTOBUF,
    b"application/vnd.google.protobuf": PROTOBUF,
}


def content_type_of(headers: Headers) -> bytes:
    """Return what the value is said to be: one of `DECODERS` or something else; JSON untold.

    The name is read in capitals too, as HTTP's is. A header without content says nothing.

    >>> content_type_of([("Content-Type", b"application/protobuf")])
    b'application/x-protobuf'
    """
    told = [content for name, content in headers if name.lower() == CONTENT_TYPE and content]
    content_type = told[-1].split(b";")[0].strip().lower() if told else JSON
    return _ALIASES.get(content_type, content_type)
