"""Ways to the store: one server, or the primaries of a cluster; scripts and plain commands on them.

One plain client a primary and no hidden retries: what fails says so at once, as one error, and a
cluster's map is read again before the next call. Cost: one round trip a call and node.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import NoScriptError, RedisError

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.settings import RedisSettings

_SCRIPTS: Final = (
    "admit",
    "drop_pending",
    "fill_values",
    "leave_witness",
    "open_shard",
    "read_marker",
    "read_shard",
    "record_decisions",
    "refuse",
    "settle_published",
    "switch_generation",
    "write_shard",
)
_SLOTS: Final = 16_384

Argument = bytes | str | int
Command = tuple[Argument, ...]
"""Name, key, further arguments."""


def addresses_of(url: str) -> list[str]:
    """Return one address for each server that an address names, separated by commas.

    >>> addresses_of("rediss://user:word@a:1,b:2/0")
    ['rediss://user:word@a:1/0', 'rediss://user:word@b:2/0']
    """
    parts = urlsplit(url)
    login, at, servers = parts.netloc.rpartition("@")
    return [
        urlunsplit(parts._replace(netloc=f"{login}{at}{server}")) for server in servers.split(",")
    ]


def address_at(url: str, host: str, port: int) -> str:
    """Return the address of another server of the same cluster: same scheme and login.

    >>> address_at("rediss://user:word@a:1/0", "b", 2)
    'rediss://user:word@b:2/0'
    """
    parts = urlsplit(url)
    login, at, server = parts.netloc.rpartition("@")
    # A server that does not know its own name says none: it is the one that was asked.
    named = f"[{host}]" if ":" in host else host or server.rpartition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{login}{at}{named}:{port}"))


def _script_sources() -> Mapping[str, str]:
    folder = files("fraudstream.scripts")
    fence = folder.joinpath("fence.lua").read_text()
    return {name: fence + folder.joinpath(f"{name}.lua").read_text() for name in _SCRIPTS}


class _Guard:
    """Turns the client's errors into ours, and has the cluster's map read again."""

    def __init__(self, nodes: StoreNodes) -> None:
        self._nodes = nodes

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RedisError | OSError | asyncio.TimeoutError):
            self._nodes.doubt()
            msg = f"the online store did not answer in time or refused: {type(error).__name__}"
            raise OnlineStoreUnavailable(msg) from error


class StoreNodes:
    """The servers of the store. One instance a process; safe within one event loop.

    Raises:
        OnlineStoreUnavailable: A server does not answer in time, or serves other keys now (every
            method); whether a script ran is unknown.
    """

    def __init__(self, settings: RedisSettings) -> None:
        """Keep the settings; nothing is connected before `connect`."""
        self._seeds = addresses_of(settings.url.get_secret_value())
        self._timeout_s = settings.timeout_s
        self._is_cluster = settings.is_cluster
        self._clients: dict[str, redis.Redis] = {}
        self._owners: list[redis.Redis | None] = []
        self._looking = asyncio.Lock()
        self._guard = _Guard(self)
        self._sources = _script_sources()
        self._hashes = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }

    async def connect(self) -> None:
        """Connect to every primary and load the scripts there."""
        for client in await self._primaries():
            async with self._guard:
                for source in self._sources.values():
                    await client.script_load(source)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    def doubt(self) -> None:
        """Have the cluster's map read again before the next call."""
        self._owners = []

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script on keys of one shard; load it where the server does not know it."""
        client = await self._client_of(keys[0])
        async with self._guard:
            try:
                return await client.evalsha(self._hashes[name], len(keys), *keys, *arguments)
            except NoScriptError:
                await client.script_load(self._sources[name])
                return await client.evalsha(self._hashes[name], len(keys), *keys, *arguments)

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run plain commands: one pipelined round trip a node, all nodes at once.

        Commands of one shard run in the order given. Returns their answers in the order given.
        """
        lots: dict[redis.Redis, list[int]] = {}
        for place, command in enumerate(commands):
            lots.setdefault(await self._client_of(str(command[1])), []).append(place)
        lot_answers = await asyncio.gather(
            *(self._pipeline_on(c, [commands[p] for p in lot]) for c, lot in lots.items())
        )
        answers: list[Any] = [None] * len(commands)
        for places, found in zip(lots.values(), lot_answers, strict=True):
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return answers

    async def _pipeline_on(self, client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
        async with self._guard:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute()
            return answers

    async def _primaries(self) -> list[redis.Redis]:
        if not self._is_cluster:
            return [self._client_at(self._seeds[0])]
        if not self._owners:
            await self._look()
        return list({id(owner): owner for owner in self._owners if owner is not None}.values())

    async def _client_of(self, key: str) -> redis.Redis:
        """Return the client of the primary that serves a key."""
        if not self._is_cluster:
            return self._client_at(self._seeds[0])
        if not self._owners:
            await self._look()
        owner = self._owners[key_slot(key.encode())]
        if owner is None:
            self.doubt()
            msg = f"no primary serves slot {key_slot(key.encode())} of the cluster"
            raise OnlineStoreUnavailable(msg)
        return owner

    async def _look(self) -> None:
        """Read the cluster's map from the first server that tells it."""
        async with self._looking:
            if self._owners:
                return
            for address in dict.fromkeys([*self._clients, *self._seeds]):
                try:
                    client: Any = self._client_at(address)
                    found = await client.execute_command("CLUSTER SLOTS")
                except (TimeoutError, RedisError, OSError):
                    continue
                if found:
                    self._owners = self._owners_in(found, address)
                    return
        msg = "no server of the cluster tells which primary serves what"
        raise OnlineStoreUnavailable(msg)

    def _owners_in(self, found: Any, told_by: str) -> list[redis.Redis | None]:
        owners: list[redis.Redis | None] = [None] * _SLOTS
        for begin, end, primary, *_ in found:
            host = primary[0].decode() if primary[0] else ""
            client = self._client_at(address_at(told_by, host, int(primary[1])))
            owners[int(begin) : int(end) + 1] = [client] * (int(end) - int(begin) + 1)
        return owners

    def _client_at(self, address: str) -> redis.Redis:
        if address not in self._clients:
            self._clients[address] = redis.Redis.from_url(
                address,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        return self._clients[address]
