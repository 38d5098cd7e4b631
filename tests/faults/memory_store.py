"""The real store client on a real Valkey, its connection replaced by one that waits for turns.

Every command is one step. Its answer may be lost, it may run after its sender gave up, and the
server may turn into another primary that lacks the last writes: the keys of an earlier moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, cast

import redis
from pydantic import SecretStr
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import TimeoutError as NoAnswer

from fraudstream.settings import RedisSettings
from fraudstream.state_store import StateStore
from tests.faults.stepping import Fate, Process, Schedule

_FATES = (Fate.OK, Fate.NOT_RUN, Fate.ANSWER_LOST, Fate.LATE)

# What takes a rule away: script name to pairs of a guarding text and what stands there instead.
Removals = Mapping[str, Sequence[tuple[str, str]]]
Snapshot = dict[bytes, tuple[bytes, int]]


@cache
def _sources() -> dict[str, str]:
    """Return the text of every script by its name."""
    return {
        path.name.removesuffix(".lua"): path.read_text()
        for path in files("fraudstream.scripts").iterdir()
        if path.name.endswith(".lua")
    }


def script_without(name: str, removals: Sequence[tuple[str, str]]) -> str:
    """Return a script with its guards replaced; each must be there exactly once."""
    text = _sources()[name]
    for guard, instead in removals:
        if text.count(guard) != 1:
            msg = f"{name}.lua holds {text.count(guard)} of {guard!r}, expected one"
            raise AssertionError(msg)
        text = text.replace(guard, instead)
    return text


class StoreServer:
    """One primary at a time over the keys of one prefix."""

    def __init__(self, url: str, prefix: str, removals: Removals) -> None:
        self.client = redis.Redis.from_url(url)
        self.prefix = prefix
        self.settings = RedisSettings(url=SecretStr(url), key_prefix=prefix)
        self.primary_number = 1
        self._variants = {name: script_without(name, pairs) for name, pairs in removals.items()}

    @property
    def primary(self) -> str:
        """Replication id of the primary that answers now."""
        return f"{self.primary_number:040d}"

    def load_script(self, source: str) -> tuple[str, str]:
        """Load a script, or what stands for it without a rule; return its name and its hash."""
        name = next(name for name, text in _sources().items() if text == source)
        return name, self.client.script_load(self._variants.get(name, source))

    def names(self) -> list[bytes]:
        """Return the names of all keys."""
        return sorted(self.client.scan_iter(match=f"{self.prefix}:*", count=1000))

    def snapshot(self) -> Snapshot:
        """Return all keys as they are: what a replica may be left with."""
        names = self.names()
        pipeline = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.dump(name)
            pipeline.pttl(name)
        answers = pipeline.execute()
        return {n: (answers[2 * at], answers[2 * at + 1]) for at, n in enumerate(names)}

    def fail_over(self, snapshot: Snapshot) -> None:
        """Let another primary answer, which has only what is in the snapshot."""
        self.wipe()
        for name, (content, life_ms) in snapshot.items():
            self.client.restore(name, max(life_ms, 0), content)
        self.primary_number += 1

    def wipe(self) -> None:
        """Delete all keys."""
        names = self.names()
        if names:
            self.client.delete(*names)


class _Hello:
    """The connection that a greeting sees: it answers who the primary is."""

    def __init__(self, primary: str) -> None:
        self._primary = primary

    async def on_connect(self) -> None:
        """Do nothing: there is no login."""

    async def send_command(self, *_command: str) -> None:
        """Take the question."""

    async def read_response(self) -> bytes:
        """Return the one line of it that matters."""
        return f"role:master\r\nmaster_replid:{self._primary}\r\n".encode()


class SteppedClient:
    """What `StateStore` uses of redis-py, one step a command, in the order of the turns."""

    def __init__(
        self,
        process: Process,
        schedule: Schedule,
        server: StoreServer,
        greet: Callable[[AbstractConnection], Awaitable[None]],
    ) -> None:
        self._process = process
        self._schedule = schedule
        self._server = server
        self._greet = greet
        self._reached = ""
        self._script_names: dict[str, str] = {}

    async def _connect(self, reached: str) -> None:
        """Do what redis-py does when it finds its connection closed: greet, then send."""
        primary = self._server.primary
        if reached != primary:
            await self._greet(cast(AbstractConnection, _Hello(primary)))
            self._reached = primary

    async def exchange(self, name: str, command: Callable[[redis.Redis], Any]) -> Any:
        """Run one command in its turn.

        Raises:
            NoAnswer: It did not run, or ran without an answer, or will run some time.
        """
        # Each call has a connection of its own, whomever other calls have greeted meanwhile.
        reached = self._reached
        await self._schedule.turn(self._process, name)
        await self._connect(reached)
        fate = self._schedule.choose(self._process, name, _FATES)
        if fate is Fate.LATE:
            self._run_later(name, command)
        answer = command(self._server.client) if fate in (Fate.OK, Fate.ANSWER_LOST) else None
        await self._schedule.turn(self._process, f"after {name}")
        if fate is not Fate.OK:
            raise NoAnswer(fate.value)
        return answer

    def _run_later(self, name: str, command: Callable[[redis.Redis], Any]) -> None:
        sent_to = self._server.primary

        def run() -> None:
            if self._server.primary == sent_to:
                command(self._server.client)

        self._schedule.later(f"late {name}", run)

    async def script_load(self, source: str) -> str:
        """Load a script, at no turn of its own."""
        await self._connect(self._reached)
        name, sha = self._server.load_script(source)
        self._script_names[sha] = name
        return sha

    async def evalsha(self, sha: str, keys: int, *rest: Any) -> Any:
        """Run a script."""
        return await self.exchange(self._script_names[sha], lambda c: c.evalsha(sha, keys, *rest))

    async def hgetall(self, key: str) -> Any:
        """Read a hash."""
        return await self.exchange("read marker", lambda c: c.hgetall(key))

    async def zrangebyscore(self, key: str, low: str, high: int, start: int, num: int) -> Any:
        """Read a range of a sorted set."""
        return await self.exchange(
            "read outbox", lambda c: c.zrangebyscore(key, low, high, start=start, num=num)
        )

    async def mget(self, keys: Sequence[str]) -> Any:
        """Read values."""
        return await self.exchange("read records", lambda c: c.mget(keys))

    async def zrem(self, key: str, *members: bytes) -> Any:
        """Take members out of a sorted set."""
        return await self.exchange("drop from outbox", lambda c: c.zrem(key, *members))

    async def zmscore(self, key: str, members: list[bytes]) -> Any:
        """Read scores."""
        asked: Any = members
        return await self.exchange("look into outbox", lambda c: c.zmscore(key, asked))

    def pipeline(self, transaction: bool) -> _SteppedPipeline:
        """Return a pipeline that runs as one step."""
        assert not transaction
        return _SteppedPipeline(self)

    async def aclose(self) -> None:
        """Do nothing."""


class _SteppedPipeline:
    """Commands that are sent together."""

    def __init__(self, client: SteppedClient) -> None:
        self._client = client
        self._commands: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def get(self, key: str) -> None:
        """Read a value."""
        self._commands.append(("get", (key,), {}))

    def hgetall(self, key: str) -> None:
        """Read a hash."""
        self._commands.append(("hgetall", (key,), {}))

    def set(self, key: str, content: bytes, ex: int) -> None:
        """Write a value."""
        self._commands.append(("set", (key, content), {"ex": ex}))

    async def execute(self) -> Any:
        """Run all of them."""

        def run(client: redis.Redis) -> Any:
            pipeline = client.pipeline(transaction=False)
            for name, arguments, options in self._commands:
                getattr(pipeline, name)(*arguments, **options)
            return pipeline.execute()

        return await self._client.exchange("pipeline", run)


async def open_store(
    process: Process, schedule: Schedule, server: StoreServer, clock_ms: Callable[[], int]
) -> StateStore:
    """Return the real store client of a process, its scripts loaded."""
    store = StateStore(server.settings, clock_ms)
    client: Any = SteppedClient(process, schedule, server, store._greet)
    store._client = client
    await store.connect()
    return store
