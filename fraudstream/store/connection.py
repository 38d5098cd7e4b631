"""One connection to one server of the store; what is asked in a turn of the loop goes out at once.

redis-py's asyncio client costs some 150 microseconds a call. Here it is about 15, for the same
bytes: hiredis packs and reads them, answers come in the order of the questions, and nothing lies
between. No retries: a connection that fails, or an answer that is late, fails all that wait for it.
After a late answer nobody else waits as long: one question of our own finds out when the server
answers again, and until then all others fail at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

from fraudstream.errors import InvalidSettings

Argument = bytes | str | int
Command = tuple[Argument, ...]
"""Name, key, further arguments."""

_PORT: Final = 6379
# A server that is asked at all is asked more often.
_SILENCE_LIFE_S: Final = 5.0
_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_KNOWN: Final = {"host", "port", "db", "username", "password", "connection_class", *_TLS_FILES}


class _Ask:
    """Some commands of one caller, and their answers as they come."""

    __slots__ = ("answers", "asked_s", "future", "left")

    def __init__(self, commands: int, future: asyncio.Future[list[Any]], asked_s: float) -> None:
        self.left = commands
        self.future = future
        self.asked_s = asked_s
        self.answers: list[Any] = []


class _Wire(asyncio.Protocol):
    """Commands out, answers in, in one order."""

    def __init__(self, timeout_s: float, note_silence: Callable[[], None]) -> None:
        self._timeout_s = timeout_s
        self._note_silence = note_silence
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._asks: deque[_Ask] = deque()
        self._out: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._why = ""
        self._is_silent = False

    @property
    def is_lost(self) -> bool:
        """Return whether nothing can be asked any more."""
        return bool(self._why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all that wait: whether their commands ran is unknown."""
        self._why = self._why or f"the connection was lost: {exc or 'closed by the server'}"
        if self._watch is not None:
            self._watch.cancel()
        kind = TimeoutError if self._is_silent else ConnectionError
        while self._asks:
            future = self._asks.popleft().future
            if not future.done():
                future.set_exception(kind(self._why))

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers; an error among them is there as such."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._asks.append(_Ask(len(commands), future, self._loop.time()))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]  # its stub knows one-tuples only
        return await future

    def close(self) -> None:
        """Close the connection."""
        self._why = self._why or "the connection is closed"
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Hand answers to whom they belong."""
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                self._take(answer)
        except (hiredis.ProtocolError, IndexError) as exc:
            self._abort(f"the server answers nonsense: {exc}")

    def _take(self, answer: Any) -> None:
        ask = self._asks[0]
        ask.answers.append(answer)
        ask.left -= 1
        if not ask.left:
            self._asks.popleft()
            if not ask.future.done():  # its caller may be gone
                ask.future.set_result(ask.answers)

    def _flush(self) -> None:
        if self._transport is not None and not self.is_lost:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _look(self) -> None:
        """End the connection if its oldest question has waited too long; else look again then.

        One timer for all: one for each question costs more than to pack it.
        """
        self._watch = None
        if not self._asks:
            return
        left_s = self._asks[0].asked_s + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self._is_silent = True
            self._note_silence()
            self._abort(f"no answer in {self._timeout_s:g} s")
        else:
            self._watch = self._loop.call_later(left_s, self._look)

    def _abort(self, why: str) -> None:
        """End it at once: later answers would be taken for other questions'."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.abort()


class StoreLine:
    """One server of the store, connected when it is first asked and again after a loss.

    Raises:
        OSError: It cannot be reached, or the connection was lost (`ask`).
        TimeoutError: It could not be reached in time (`ask`).
        hiredis.HiredisError: It refuses a command (`ask`).
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        """Keep the address; nothing is connected before the first question.

        Args:
            address: redis:// or rediss://, with user, password and database where needed.
            timeout_s: Bound on connecting and on each answer.

        Raises:
            InvalidSettings: It is of another kind, or has options that are not known.
        """
        self._options = parse_url(address)
        self._timeout_s = timeout_s
        self._wire: _Wire | None = None
        self._connecting = asyncio.Lock()
        self._silent_until_s = 0.0
        self._greeting: asyncio.Task[None] | None = None
        unknown = sorted(set(self._options) - _KNOWN)
        if unknown:
            raise InvalidSettings(
                f"FRAUD_REDIS_URL: expected a host and of options only {', '.join(_TLS_FILES)},"
                f" found {', '.join(unknown)}"
            )

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands, in order; the first error among them is raised."""
        return _checked(await self.ask_each(commands))

    async def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands, in order; a refused one has its `HiredisError` there."""
        if not commands:
            return []
        wire = self._wire
        if wire is None or wire.is_lost:
            wire = await self._connected()
        return await wire.ask(commands)

    async def close(self) -> None:
        """Close the connection."""
        if self._greeting is not None:
            self._greeting.cancel()
        if self._wire is not None:
            self._wire.close()

    async def _connected(self) -> _Wire:
        if asyncio.get_running_loop().time() < self._silent_until_s:
            if self._greeting is None or self._greeting.done():
                self._greeting = asyncio.create_task(self._greet())
            msg = f"no answer in {self._timeout_s:g} s a moment ago; the server is asked again"
            raise TimeoutError(msg)
        async with self._connecting:
            if self._wire is None or self._wire.is_lost:
                self._wire = await self._connect_in_time()
            return self._wire

    async def _connect_in_time(self) -> _Wire:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._connect()
        except TimeoutError as exc:
            self._note_silence()
            msg = f"no connection in {self._timeout_s:g} s"
            raise TimeoutError(msg) from exc

    def _note_silence(self) -> None:
        """Have nobody wait for a server that did not answer in time, until it does.

        Who asks long after that has no news of it, and waits again.
        """
        life_s = max(_SILENCE_LIFE_S, 2 * self._timeout_s)
        self._silent_until_s = asyncio.get_running_loop().time() + life_s

    async def _greet(self) -> None:
        """Connect to a server that was silent, and see whether it answers."""
        async with self._connecting:
            try:
                wire = await self._connect_in_time()
                await wire.ask([("PING",)])
            except TimeoutError:
                return
            except (hiredis.HiredisError, OSError):
                self._silent_until_s = 0.0  # it fails at once: whoever asks next is told why
                return
            self._wire, self._silent_until_s = wire, 0.0

    async def _connect(self) -> _Wire:
        options = self._options
        host, port = options.get("host", "localhost"), options.get("port", _PORT)
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: _Wire(self._timeout_s, self._note_silence), host, port, ssl=_tls_of(options)
        )
        first: list[Command] = []
        password, database = options.get("password"), options.get("db")
        if password:
            first.append(("AUTH", options.get("username") or "default", password))
        if database:
            first.append(("SELECT", database))
        try:
            _checked(await wire.ask(first) if first else [])
        except BaseException:
            wire.close()
            raise
        return wire


def _tls_of(options: Any) -> ssl.SSLContext | None:
    """Return the TLS context of an address, None without TLS."""
    if options.get("connection_class") is not SSLConnection:
        return None
    authority, certificate, key = (options.get(name) for name in _TLS_FILES)
    context = ssl.create_default_context(cafile=authority)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def _checked(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, hiredis.HiredisError):
            raise answer
    return answers
