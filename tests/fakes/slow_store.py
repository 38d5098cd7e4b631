"""A proxy before a store: it passes bytes on, late where it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class SlowStore:
    """Passes connections on to a store. `delay_s` holds back each of its answers."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        """Address of the proxy, with the store's scheme and database."""
        return urlunsplit(self._parts._replace(netloc=f"127.0.0.1:{self._port}"))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one caller to the store."""
        there, back = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        for task in (
            asyncio.create_task(self._pass_on(reader, back, is_answer=False)),
            asyncio.create_task(self._pass_on(there, writer, is_answer=True)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        while found := await source.read(1 << 16):
            if is_answer and self.delay_s:
                await asyncio.sleep(self.delay_s)
            sink.write(found)
        sink.close()

    def listens_on(self, port: int) -> None:
        """Take note of the port."""
        self._port = port

    def stop(self) -> None:
        """Cut all connections."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def slow_store(url: str) -> AsyncIterator[SlowStore]:
    """Yield a proxy before the store at `url`."""
    proxy = SlowStore(url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.listens_on(int(server.sockets[0].getsockname()[1]))
    try:
        yield proxy
    finally:
        proxy.stop()
        server.close()
