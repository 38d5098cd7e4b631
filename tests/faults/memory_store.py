"""The real store client on a real Valkey, each of its calls one step that waits for its turn.

A call's answer may be lost, it may run after its sender gave up, and the server may turn into
another primary that lacks the last writes: the keys of an earlier moment. Which primary runs a
script is ours to say, and at what time: its fence asks no server, but holds the number of the
primary of the moment, and its clock is a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import redis
from pydantic import SecretStr

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.settings import RedisSettings
from fraudstream.store.connection import Argument, Command
from fraudstream.store.nodes import ScriptCall, StoreNodes
from fraudstream.store.shard_store import StateStore
from tests.faults.stepping import Fate, Process, Schedule

_FATES: Final = (Fate.OK, Fate.NOT_RUN, Fate.ANSWER_LOST, Fate.LATE)
_SERVING: Final = "string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')"

_TIME: Final = "local time = redis.call('TIME')"

# What takes a rule away: script name to pairs of a guarding text and what stands there instead.
Removals = Mapping[str, Sequence[tuple[str, str]]]
Snapshot = dict[bytes, tuple[bytes, int]]


def script_with(source: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a script with parts of it replaced; each must be there exactly once.

    >>> script_with("return 1", [("1", "2")])
    'return 2'
    """
    for part, instead in pairs:
        if source.count(part) != 1:
            msg = f"the script holds {source.count(part)} of {part!r}, expected one"
            raise AssertionError(msg)
        source = source.replace(part, instead)
    return source


class StoreServer:
    """One primary at a time over the keys of one prefix."""

    def __init__(self, url: str, prefix: str, removals: Removals) -> None:
        self.client = redis.Redis.from_url(url)
        self.prefix = prefix
        self.settings = RedisSettings(url=SecretStr(url), key_prefix=prefix)
        self.primary_number = 1
        self._removals = removals
        self._hashes: dict[tuple[str, str], str] = {}
        self._clock = f"clock-of-{prefix}"

    @property
    def primary(self) -> str:
        """Replication id of the primary that answers now."""
        return f"{self.primary_number:040d}"

    def hash_of(self, name: str, source: str) -> str:
        """Return the hash of a script as the primary of the moment runs it, loaded."""
        place = (name, self.primary)
        if place not in self._hashes:
            time = f"do return redis.call('GET', '{self._clock}') + 0 end {_TIME}"
            pairs = [(_SERVING, f"'{self.primary}'"), (_TIME, time)]
            pairs += self._removals.get(name, ())
            self._hashes[place] = self.client.script_load(script_with(source, pairs))
        return self._hashes[place]

    def set_clock(self, now_ms: int) -> None:
        """Tell scripts what time it is."""
        self.client.set(self._clock, now_ms)

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


class SteppedNodes(StoreNodes):
    """The way to the store, one step a call, in the order of the turns."""

    def __init__(
        self,
        process: Process,
        schedule: Schedule,
        server: StoreServer,
        clock_ms: Callable[[], int],
    ) -> None:
        super().__init__(server.settings)
        self._clock_ms = clock_ms
        self._process = process
        self._schedule = schedule
        self._server = server

    async def connect(self) -> None:
        """Load the scripts, at no turn of its own."""
        for name, source in self._sources.items():
            self._server.hash_of(name, source)

    async def run_each(self, name: str, calls: Sequence[ScriptCall]) -> list[Any]:
        """Run a script for each call, in turns of their own, on whichever primary answers then."""
        runs = [self._run_one(name, *call) for call in calls]
        if len(runs) == 1:  # no turn of the event loop more than the script's
            return [await runs[0]]
        return await asyncio.gather(*runs)

    async def _run_one(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:

        def command(client: redis.Redis) -> Any:
            source = self._sources[name]
            loaded = self._server.hash_of(name, source)
            if source.count("now_ms()") > 1:  # it is there once in the part before every script
                self._server.set_clock(self._clock_ms())
            return client.evalsha(loaded, len(keys), *keys, *arguments)

        try:
            return await self._exchange(name, command)
        except OnlineStoreUnavailable as exc:
            return exc

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run plain commands as one step, named by the first of them; none are no step."""
        if not commands:
            return []

        def command(client: redis.Redis) -> Any:
            pipeline: Any = client.pipeline(transaction=False)
            for each in commands:
                pipeline.execute_command(*each)
            return pipeline.execute()

        answers: list[Any] = await self._exchange(str(commands[0][0]), command)
        return answers

    async def _exchange(self, name: str, command: Callable[[redis.Redis], Any]) -> Any:
        """Run one call in its turn: or it does not run, or without an answer, or some time."""
        await self._schedule.turn(self._process, name)
        fate = self._schedule.choose(self._process, name, _FATES)
        if fate is Fate.LATE:
            self._run_later(name, command)
        answer = command(self._server.client) if fate in (Fate.OK, Fate.ANSWER_LOST) else None
        await self._schedule.turn(self._process, f"after {name}")
        if fate is not Fate.OK:
            raise self._unavailable(TimeoutError(fate.value))
        return answer

    def _run_later(self, name: str, command: Callable[[redis.Redis], Any]) -> None:
        sent_to = self._server.primary

        def run() -> None:
            if self._server.primary == sent_to:
                command(self._server.client)

        self._schedule.later(f"late {name}", run)


async def open_store(
    process: Process, schedule: Schedule, server: StoreServer, clock_ms: Callable[[], int]
) -> StateStore:
    """Return the real store client of a process, its scripts loaded."""
    store = StateStore(server.settings)
    store.nodes = SteppedNodes(process, schedule, server, clock_ms)
    await store.connect()
    return store
