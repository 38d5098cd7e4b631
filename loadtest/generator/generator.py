"""The generator: some connections to one server, and the two ways of loading it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from loadtest.bench.figure import MeasurementFailed
from loadtest.generator.calls import Call
from loadtest.generator.connection import Connection
from loadtest.generator.frames import request_headers

_LONGEST_NAP_S: Final = 0.01
_BEGIN_AFTER_NS: Final = 10_000_000
# For answers after the last call: nothing that is measured takes longer.
_PATIENCE_S: Final = 60.0
_NS_PER_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class Target:
    """What is called, over so many connections; the server may be told a deadline."""

    host: str
    port: int
    method: str
    timeout_ms: int | None = None
    connections: int = 8


class Generator:
    """Connected to one target, for one run. Use from one event loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connections: list[Connection] = []
        self._headers = request_headers(
            target.method, f"{target.host}:{target.port}", target.timeout_ms
        )
        self._left = 0
        self._next: Iterator[Call] = iter(())
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect."""
        loop, at = asyncio.get_running_loop(), (self._target.host, self._target.port)
        for _ in range(self._target.connections):
            _, connection = await loop.create_connection(self._connection, *at)
            self._connections.append(connection)
        return self

    def _connection(self) -> Connection:
        return Connection(self._headers, self._ended)

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        for connection in self._connections:
            await connection.close()

    async def run_closed(self, messages: Sequence[bytes], in_flight: int) -> list[Call]:
        """Keep so many calls in flight until all messages are answered: to find a capacity."""
        calls = [Call(message) for message in messages]
        self._left, self._next = len(calls), iter(calls)
        self._over.clear()
        with _no_collection():
            for _ in range(min(in_flight, len(calls))):
                self._send_next()
            await self._wait_over()
        return calls

    async def run_open(
        self, messages: Sequence[bytes], due_ns: npt.NDArray[np.int64], give_up_ms: float
    ) -> list[Call]:
        """Send each message when it is due, whatever became of those before it.

        A call without an answer `give_up_ms` after it was due is taken back.
        """
        calls = [Call(message) for message in messages]
        # The collector takes its time here, before calls are due.
        with _no_collection():
            begin_ns = time.monotonic_ns() + _BEGIN_AFTER_NS
            for call, due in zip(calls, due_ns.tolist(), strict=True):
                call.due_ns = begin_ns + due
            await self._send_all(calls, int(give_up_ms * 1e6))
        return calls

    async def _send_all(self, calls: Sequence[Call], give_up_ns: int) -> None:
        waiting: deque[tuple[Call, Connection]] = deque()
        sent = 0
        while sent < len(calls) or waiting:
            now_ns = time.monotonic_ns()
            while sent < len(calls) and calls[sent].due_ns <= now_ns:
                waiting.append((calls[sent], self._send(calls[sent], sent)))
                sent += 1
            # The first ones have ended, or were due so long ago that they are given up.
            while waiting and (
                waiting[0][0].ended_ns or waiting[0][0].due_ns + give_up_ns <= now_ns
            ):
                call, connection = waiting.popleft()
                if not call.ended_ns:
                    connection.cancel(call)
            nap_s = _LONGEST_NAP_S
            if sent < len(calls):
                nap_s = min(nap_s, (calls[sent].due_ns - time.monotonic_ns()) / _NS_PER_S)
            await asyncio.sleep(max(nap_s, 0.0))
        self._check()

    def _send_next(self) -> None:
        call = next(self._next, None)
        if call is not None:
            call.due_ns = time.monotonic_ns()
            self._send(call, self._left)

    def _send(self, call: Call, number: int) -> Connection:
        connection = self._connections[number % len(self._connections)]
        connection.send(call)
        return connection

    def _ended(self) -> None:
        """Send the next one of a closed run."""
        self._left -= 1
        if not self._left:
            self._over.set()
        self._send_next()

    async def _wait_over(self) -> None:
        while not self._over.is_set():
            before = self._left
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._over.wait()
            except TimeoutError as exc:
                if self._left == before:
                    msg = f"no answer to {before} calls in {_PATIENCE_S:g} s"
                    raise MeasurementFailed(msg) from exc
        self._check()

    def _check(self) -> None:
        failures = [connection.failure for connection in self._connections if connection.failure]
        if failures:
            raise MeasurementFailed(failures[0])


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let the collector rest during a run: its pauses would be taken for the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
