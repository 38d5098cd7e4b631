"""As much of HTTP/2 (RFC 9113) as unary calls of gRPC need, without a library between. Pure.

grpcio's client costs more CPU than the server that it calls; here a call costs some 15
microseconds. The server is told to keep no table of headers (RFC 7541, section 4.2), so that
`grpc-status` always comes as plain text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from loadtest.bench.figure import MeasurementFailed

FRAME_HEAD_BYTES: Final = 9
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
ACK: Final = 0x1
CANCEL: Final = 8
# RFC 9113, sections 6.5.2 and 6.9.2.
FIRST_WINDOW_BYTES: Final = 65_535
WIDEST_WINDOW_BYTES: Final = 2**31 - 1
LARGEST_FRAME_BYTES: Final = 16_384

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = struct.Struct(">HBBBI")
_SETTING: Final = struct.Struct(">HI")
_MESSAGE: Final = struct.Struct(">BI")
MESSAGE_HEAD_BYTES: Final = _MESSAGE.size
_STATUS: Final = re.compile(rb"\x0bgrpc-status([\x01\x02])(\d{1,2})")


class FrameKind(IntEnum):
    """RFC 9113, section 6."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """RFC 9113, section 6.5.2."""

    HEADER_TABLE_SIZE = 1
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: FrameKind, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame as it is sent.

    >>> frame(FrameKind.PING, ACK, 0, bytes(8)).hex()
    '0000080601000000000000000000000000'
    """
    length = len(payload)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def opening() -> bytes:
    """Return what a client sends first: no table of headers, and windows as wide as they go."""
    told = _SETTING.pack(Setting.HEADER_TABLE_SIZE, 0)
    told += _SETTING.pack(Setting.INITIAL_WINDOW_SIZE, WIDEST_WINDOW_BYTES)
    wider = (WIDEST_WINDOW_BYTES - FIRST_WINDOW_BYTES).to_bytes(4, "big")
    window = frame(FrameKind.WINDOW_UPDATE, 0, 0, wider)
    return _PREFACE + frame(FrameKind.SETTINGS, 0, 0, told) + window


def request_headers(method: str, authority: str, timeout_ms: int | None) -> bytes:
    """Return the header block of every call of a run; a server may be told a deadline."""
    # Numbers of the static table (RFC 7541, appendix A); literals without indexing.
    block = b"\x83\x86"  # POST, http
    block += b"\x04" + _text(method) + b"\x01" + _text(authority)
    block += b"\x0f\x10" + _text("application/grpc")
    block += b"\x00" + _text("te") + _text("trailers")
    if timeout_ms is not None:
        block += b"\x00" + _text("grpc-timeout") + _text(f"{timeout_ms}m")
    return block


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 126:
        raise MeasurementFailed(f"a header of {len(encoded)} bytes, at most 126 are expected")
    return bytes([len(encoded)]) + encoded


def request_frames(stream: int, headers: bytes, message: bytes) -> bytes:
    """Return one whole call: headers, and its one message."""
    body = _MESSAGE.pack(0, len(message)) + message
    if len(body) > LARGEST_FRAME_BYTES:
        raise MeasurementFailed(f"a message of {len(message)} bytes is no unary call of ours")
    head = frame(FrameKind.HEADERS, END_HEADERS, stream, headers)
    return head + frame(FrameKind.DATA, END_STREAM, stream, body)


def cancel_frame(stream: int) -> bytes:
    """Return what takes a call back."""
    return frame(FrameKind.RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))


def take_frames(buffer: bytearray) -> Iterator[Frame]:
    """Take the whole frames from the front of what came, and leave the rest."""
    at, end = 0, len(buffer)
    while end - at >= FRAME_HEAD_BYTES:
        high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
        begin = at + FRAME_HEAD_BYTES
        stop = begin + (high << 8 | low)
        if stop > end:
            break
        yield Frame(kind, flags, stream & WIDEST_WINDOW_BYTES, bytes(buffer[begin:stop]))
        at = stop
    del buffer[:at]


def settings_of(payload: bytes) -> dict[int, int]:
    """Return the settings in a frame.

    >>> settings_of(bytes.fromhex("000300000100"))
    {3: 256}
    """
    return dict(_SETTING.iter_unpack(payload))


def status_of(headers: bytes) -> int | None:
    r"""Return the gRPC status in a header block, None where there is none.

    >>> status_of(b"\x00\x0bgrpc-status\x018"), status_of(b"")
    (8, None)
    """
    found = _STATUS.search(headers)
    return int(found[2][: found[1][0]]) if found else None
