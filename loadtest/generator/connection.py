"""One connection: unary calls side by side, as many as the server takes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from loadtest.bench.figure import MeasurementFailed
from loadtest.generator import frames
from loadtest.generator.calls import Call
from loadtest.generator.frames import ACK, Frame, FrameKind, frame

_FEW_STREAMS: Final = 100  # until the server says how many it takes


class Connection(asyncio.Protocol):
    """Use from one event loop. All calls have the same header block; `ended` hears of each end."""

    def __init__(self, headers: bytes, ended: Callable[[], None]) -> None:
        self._headers = headers
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._open: dict[int, Call] = {}
        self._waiting: deque[Call] = deque()
        self._next_stream = 1
        self._most_streams = _FEW_STREAMS
        self._window_bytes = frames.FIRST_WINDOW_BYTES
        self._is_lost = asyncio.Event()
        self.failure = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what a client sends first."""
        self._transport = cast("asyncio.Transport", transport)  # of a TCP connection
        self._write(frames.opening())

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep why, and end what is open without an answer."""
        self._is_lost.set()
        self._fail(f"the connection was closed: {exc or 'by the server'}")
        for call in self._open.values():
            self._end(call)
        self._open.clear()

    async def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()
            await self._is_lost.wait()

    def send(self, call: Call) -> None:
        """Send a call, or have it wait until the server takes one more."""
        if self.failure:
            self._end(call)
            return
        self._waiting.append(call)
        self._send_waiting()

    def cancel(self, call: Call) -> None:
        """Give a call up: it ends without an answer, and the server is told."""
        if call.stream:
            self._write(frames.cancel_frame(call.stream))
            del self._open[call.stream]
        else:
            self._waiting.remove(call)
        self._end(call)
        self._send_waiting()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._buffer += data
        for came in frames.take_frames(self._buffer):
            if came.stream:
                self._take_of_call(came)
            else:
                self._take_of_connection(came)
        self._send_waiting()

    def _take_of_call(self, came: Frame) -> None:
        call = self._open.get(came.stream)
        if call is None:  # given up meanwhile
            return
        is_last = came.flags & frames.END_STREAM
        if came.kind == FrameKind.DATA:
            call.answer += came.payload
        elif came.kind == FrameKind.HEADERS and not came.flags & frames.END_HEADERS:
            raise MeasurementFailed("headers in several frames are not read here")
        elif came.kind == FrameKind.HEADERS and is_last:
            call.status = frames.status_of(came.payload)
            if call.status is None:
                raise MeasurementFailed("trailers without a grpc-status in plain text")
        if is_last or came.kind == FrameKind.RST_STREAM:
            call.answer = call.answer[frames.MESSAGE_HEAD_BYTES :]
            del self._open[came.stream]
            self._end(call)

    def _take_of_connection(self, came: Frame) -> None:
        if came.kind == FrameKind.PING and not came.flags & ACK:
            self._write(frame(FrameKind.PING, ACK, 0, came.payload))
        elif came.kind == FrameKind.SETTINGS and not came.flags & ACK:
            told = frames.settings_of(came.payload)
            most = frames.Setting.MAX_CONCURRENT_STREAMS
            self._most_streams = told.get(most, self._most_streams)
            self._write(frame(FrameKind.SETTINGS, ACK, 0, b""))
        elif came.kind == FrameKind.WINDOW_UPDATE:
            self._window_bytes += int.from_bytes(came.payload, "big")
        elif came.kind == FrameKind.GOAWAY:
            self._fail("the server asked for another connection: the run is too long for one")

    def _fail(self, why: str) -> None:
        """Take no more calls, and end those that wait without an answer."""
        self.failure = self.failure or why
        waiting = list(self._waiting)
        self._waiting.clear()
        for call in waiting:
            self._end(call)

    def _send_waiting(self) -> None:
        """Send what waits, in order, as far as the server's limits go."""
        parts = []
        while self._waiting and len(self._open) < self._most_streams and not self.failure:
            body_bytes = frames.MESSAGE_HEAD_BYTES + len(self._waiting[0].message)
            if body_bytes > self._window_bytes:
                break
            call = self._waiting.popleft()
            self._window_bytes -= body_bytes
            parts.append(frames.request_frames(self._next_stream, self._headers, call.message))
            self._open[self._next_stream] = call
            call.stream = self._next_stream
            self._next_stream += 2
            call.sent_ns = time.monotonic_ns()
        if parts:
            self._write(b"".join(parts))

    def _end(self, call: Call) -> None:
        call.ended_ns = time.monotonic_ns()
        self._ended()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
