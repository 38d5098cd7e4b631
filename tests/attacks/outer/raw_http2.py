"""An attacker's HTTP/2: calls that are begun and not ended, as many and as large as is let.

It obeys the server's windows, so that what the server holds of a call is what it asked for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from loadtest.generator.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW_BYTES,
    LARGEST_FRAME_BYTES,
    Frame,
    FrameKind,
    Setting,
    cancel_frame,
    frame,
    opening,
    request_headers,
    settings_of,
    status_of,
    take_frames,
)


def headers_of(method: str, token: str = "") -> bytes:
    """Return the header block of a call, with a bearer token where there is one."""
    block = request_headers(method, "127.0.0.1:1", None)
    if token:
        value = f"Bearer {token}".encode()
        block += b"\x00\x0dauthorization" + bytes([len(value)]) + value
    return block


def unfinished(size: int) -> bytes:
    """Return the body of a message of a size, without its last byte."""
    return b"\x00" + size.to_bytes(4, "big") + bytes(size - 1)


def whole(message: bytes) -> bytes:
    """Return the body of a message."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


@dataclass(slots=True)
class RawCall:
    """One call of an attacker.

    Attributes:
        body: What is still to be sent, as the windows let.
        window: How much the server takes of it now.
        is_over: The server has ended it.
        status: gRPC status, where it told one.
        answer: Bytes of its answer.
    """

    body: memoryview
    window: int
    ends: bool
    is_over: bool = False
    status: int | None = None
    answer: bytes = b""


class RawConnection(asyncio.Protocol):
    """One connection with any number of calls."""

    def __init__(self, window: int | None = None) -> None:
        self.calls: dict[int, RawCall] = {}
        self.is_lost = False
        self._buffer = bytearray()
        self._next = 1
        self._window = FIRST_WINDOW_BYTES
        self._first = FIRST_WINDOW_BYTES
        self._own_window = window
        self._heard = asyncio.Event()
        self._is_ready = False
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def opened(cls, port: int, ca: Path, *, window: int | None = None) -> RawConnection:
        """Return a connection over TLS on which the server has told its settings.

        `window`: bytes of an answer that it takes of each call; None for all.
        """
        trusting = ssl.create_default_context(cafile=str(ca))
        trusting.set_alpn_protocols(["h2"])
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: cls(window), "127.0.0.1", port, ssl=trusting
        )
        await connection.until(lambda: connection._is_ready)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what a client sends first."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(opening())
        if self._own_window is not None:
            told = Setting.INITIAL_WINDOW_SIZE.to_bytes(2, "big") + self._own_window.to_bytes(
                4, "big"
            )
            self._transport.write(frame(FrameKind.SETTINGS, 0, 0, told))

    def connection_lost(self, exc: Exception | None) -> None:
        """End all that was open."""
        del exc
        self.is_lost = True
        for call in self.calls.values():
            call.is_over = True
        self._heard.set()

    def begin(self, headers: bytes, body: bytes = b"", *, ends: bool = False) -> RawCall:
        """Begin a call; its body goes as the windows let. `ends` tells that nothing follows."""
        stream, self._next = self._next, self._next + 2
        call = RawCall(memoryview(body), self._first, ends)
        self.calls[stream] = call
        flags = END_HEADERS | (END_STREAM if ends and not body else 0)
        self.write(frame(FrameKind.HEADERS, flags, stream, headers))
        self._pump(stream, call)
        return call

    def begin_and_take_back(self, headers: bytes, count: int) -> None:
        """Begin so many calls and reset each at once."""
        parts = []
        for _ in range(count):
            parts.append(frame(FrameKind.HEADERS, END_HEADERS, self._next, headers))
            parts.append(cancel_frame(self._next))
            self._next += 2
        self.write(b"".join(parts))

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None and not self.is_lost:
            self._transport.write(data)

    def close(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    async def until_open(self, most: int, timeout_s: float = 60.0) -> None:
        """Wait until the server holds so many of its calls or fewer."""
        await self.until(lambda: self._open() <= most, timeout_s)

    async def until_stands(self, timeout_s: float = 60.0) -> None:
        """Wait until each call is over, or all that there is of it is sent."""
        await self.until(
            lambda: all(c.is_over or not c.body for c in self.calls.values()), timeout_s
        )

    def _open(self) -> int:
        return sum(not call.is_over for call in self.calls.values())

    async def until(self, holds: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Wait until something holds; it is looked at whenever the server says something."""
        async with asyncio.timeout(timeout_s):
            while not holds():
                self._heard.clear()
                await self._heard.wait()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._buffer += data
        for came in take_frames(self._buffer):
            self._take(came)
        self._heard.set()

    def _take(self, came: Frame) -> None:
        if came.kind == FrameKind.SETTINGS and not came.flags & ACK:
            told = settings_of(came.payload)
            self._first = told.get(Setting.INITIAL_WINDOW_SIZE, self._first)
            self._is_ready = True
            self.write(frame(FrameKind.SETTINGS, ACK, 0, b""))
        elif came.kind == FrameKind.PING and not came.flags & ACK:
            self.write(frame(FrameKind.PING, ACK, 0, came.payload))
        elif came.kind == FrameKind.WINDOW_UPDATE:
            self._widen(came)
        elif came.stream in self.calls:
            self._take_of_call(came, self.calls[came.stream])

    def _widen(self, came: Frame) -> None:
        more = int.from_bytes(came.payload, "big")
        if came.stream:
            call = self.calls[came.stream]
            call.window += more
            self._pump(came.stream, call)
            return
        self._window += more
        for stream, call in self.calls.items():
            self._pump(stream, call)

    def _take_of_call(self, came: Frame, call: RawCall) -> None:
        if came.kind == FrameKind.DATA:
            call.answer += came.payload
        elif came.kind == FrameKind.HEADERS and came.flags & END_STREAM:
            call.status = status_of(came.payload)
        if came.flags & END_STREAM or came.kind == FrameKind.RST_STREAM:
            call.is_over = True
            call.body = call.body[:0]

    def _pump(self, stream: int, call: RawCall) -> None:
        while call.body and not call.is_over:
            size = min(len(call.body), call.window, self._window, LARGEST_FRAME_BYTES)
            if size <= 0:
                return
            part, call.body = call.body[:size], call.body[size:]
            call.window -= size
            self._window -= size
            flags = END_STREAM if call.ends and not call.body else 0
            self.write(frame(FrameKind.DATA, flags, stream, bytes(part)))
