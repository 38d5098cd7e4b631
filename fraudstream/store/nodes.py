"""Ways to the store: one server, or the primaries of a cluster; scripts and plain commands on them.

One connection a primary and no hidden retries: what fails says so at once, as one error, and a
cluster's map is read again before the next call. Cost: one round trip a call and node.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import hiredis
from redis.crc import key_slot

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.settings import RedisSettings
from fraudstream.store.connection import Argument, Command, StoreLine

_SCRIPTS: Final = (
    "admit",
    "drop_pending",
    "fill_values",
    "hold_outbox",
    "leave_witness",
    "note_loss",
    "open_shard",
    "read_marker",
    "read_shard",
    "record_decisions",
    "refuse",
    "settle_published",
    "switch_generation",
    "take_out_record",
    "take_outbox",
    "write_shard",
)
_SLOTS: Final = 16_384

# What an error of the server begins with that does not know a script.
_NO_SCRIPT: Final = "NOSCRIPT"
# Answered as names and values in turn.
_HASH: Final = "HGETALL"
# Plain reads, and what they answer where nothing is.
_EMPTY: Final[Mapping[str, Any]] = {_HASH: (), "GET": None}
# What the server puts between its own words and what it was sent.
_ARGUMENTS: Final = ", with args beginning with:"
# All of a shard's keys have its tag.
_KEY_NAME: Final = re.compile(r"\S*\{[a-z]+\d+\}\S*")
_LONGEST_WORDS: Final = 200
# What the client raises; a time-out is an OSError.
_FAULTS: Final = (hiredis.HiredisError, OSError)

ScriptCall = tuple[Sequence[str], Sequence[Argument]]
"""Keys of one shard, further arguments."""


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
    folder = files("fraudstream.store.scripts")
    fence = folder.joinpath("fence.lua").read_text()
    return {name: fence + folder.joinpath(f"{name}.lua").read_text() for name in _SCRIPTS}


class StoreNodes:
    """The servers of the store. One instance a process; safe within one event loop.

    Raises:
        OnlineStoreUnavailable: A server does not answer in time, or serves other keys now (every
            method); whether a script ran is unknown.
    """

    def __init__(self, settings: RedisSettings) -> None:
        """Keep the settings; nothing is connected before `connect`."""
        self._seeds = addresses_of(settings.address())
        self._timeout_s = settings.timeout_s
        self._is_cluster = settings.is_cluster
        self._lines: dict[str, StoreLine] = {}
        self._owners: list[StoreLine | None] = []
        self._looking = asyncio.Lock()
        self._sources = _script_sources()
        self._hashes = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }

    async def connect(self) -> None:
        """Connect to every primary and load the scripts there."""
        loads: list[Command] = [("SCRIPT", "LOAD", source) for source in self._sources.values()]
        for line in await self._primaries():
            await self._ask(line, loads)

    async def close(self) -> None:
        """Close all connections."""
        for line in self._lines.values():
            await line.close()

    def doubt(self) -> None:
        """Have the cluster's map read again before the next call."""
        self._owners = []

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script on keys of one shard; load it where the server does not know it."""
        (answer,) = await self.run_each(name, [(keys, arguments)])
        if isinstance(answer, OnlineStoreUnavailable):
            raise answer
        return answer

    async def run_each(self, name: str, calls: Sequence[ScriptCall]) -> list[Any]:
        """Run a script once for each call, all in one round trip a node.

        Each call's keys are of one shard. Returns their answers in the order given; a call whose
        answer there is not has an `OnlineStoreUnavailable` in its place.
        """
        commands: list[Command] = [
            ("EVALSHA", self._hashes[name], len(keys), *keys, *arguments)
            for keys, arguments in calls
        ]
        if not self._is_cluster:
            return await self._run_on(self._line_at(self._seeds[0]), name, commands)
        answers: list[Any] = [None] * len(calls)
        chunks: dict[StoreLine, list[int]] = {}
        for index, (keys, _) in enumerate(calls):
            try:
                chunks.setdefault(await self._line_of(keys[0]), []).append(index)
            except OnlineStoreUnavailable as exc:
                answers[index] = exc
        found = await asyncio.gather(
            *(
                self._run_on(line, name, [commands[p] for p in chunk])
                for line, chunk in chunks.items()
            )
        )
        for indices, chunk_answers in zip(chunks.values(), found, strict=True):
            for index, answer in zip(indices, chunk_answers, strict=True):
                answers[index] = answer
        return answers

    async def _run_on(self, line: StoreLine, name: str, commands: list[Command]) -> list[Any]:
        try:
            answers = await line.ask_each(commands)
            unknown = [index for index, answer in enumerate(answers) if _is_unknown(answer)]
            if unknown:
                load: Command = ("SCRIPT", "LOAD", self._sources[name])
                _, *again = await line.ask_each([load, *(commands[index] for index in unknown)])
                for index, answer in zip(unknown, again, strict=True):
                    answers[index] = answer
        except _FAULTS as exc:
            return [self._unavailable(exc) for _ in commands]
        for index, answer in enumerate(answers):
            if isinstance(answer, hiredis.HiredisError):
                answers[index] = self._unavailable(answer)
        return answers

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run plain commands: one pipelined round trip a node, all nodes at once.

        Commands of one shard run in the order given. Returns their answers in the order given; that
        of HGETALL is a dictionary.
        """
        if not self._is_cluster:
            return await self._ask(self._line_at(self._seeds[0]), commands)
        chunks: dict[StoreLine, list[int]] = {}
        for index, command in enumerate(commands):
            chunks.setdefault(await self._line_of(str(command[1])), []).append(index)
        chunk_answers = await asyncio.gather(
            *(self._ask(line, [commands[p] for p in chunk]) for line, chunk in chunks.items())
        )
        answers: list[Any] = [None] * len(commands)
        for indices, found in zip(chunks.values(), chunk_answers, strict=True):
            for index, answer in zip(indices, found, strict=True):
                answers[index] = answer
        return answers

    async def _ask(self, line: StoreLine, commands: Sequence[Command]) -> list[Any]:
        try:
            answers = await line.ask_each(commands)
        except _FAULTS as exc:
            raise self._unavailable(exc) from exc
        for index, command in enumerate(commands):
            if isinstance(answers[index], hiredis.HiredisError):
                answers[index] = self._empty(command, answers[index])
            if command[0] == _HASH:
                fields = iter(answers[index])
                answers[index] = dict(zip(fields, fields, strict=True))
        return answers

    def _empty(self, command: Command, refusal: hiredis.HiredisError) -> Any:
        """Return what is read at a key of another kind, which nobody of ours wrote: nothing.

        One such key must not take the values of all others away.
        """
        if command[0] in _EMPTY and str(refusal).startswith("WRONGTYPE"):
            return _EMPTY[str(command[0])]
        raise self._unavailable(refusal) from refusal

    def _unavailable(self, fault: Exception) -> OnlineStoreUnavailable:
        """Return a fault of the client as ours, and have the cluster's map read again."""
        self.doubt()
        msg = f"the online store did not answer in time or refused: {words_of(fault)}"
        unavailable = OnlineStoreUnavailable(msg)
        unavailable.__cause__ = fault
        return unavailable

    async def _primaries(self) -> list[StoreLine]:
        if not self._is_cluster:
            return [self._line_at(self._seeds[0])]
        if not self._owners:
            await self._look()
        return list({id(owner): owner for owner in self._owners if owner is not None}.values())

    async def _line_of(self, key: str) -> StoreLine:
        """Return the way to the primary that serves a key."""
        if not self._is_cluster:
            return self._line_at(self._seeds[0])
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
            for address in dict.fromkeys([*self._lines, *self._seeds]):
                try:
                    (found,) = await self._line_at(address).ask([("CLUSTER", "SLOTS")])
                except (hiredis.HiredisError, OSError):
                    continue
                if found:
                    self._owners = self._owners_in(found, address)
                    return
        msg = "no server of the cluster tells which primary serves what"
        raise OnlineStoreUnavailable(msg)

    def _owners_in(self, found: Any, told_by: str) -> list[StoreLine | None]:
        owners: list[StoreLine | None] = [None] * _SLOTS
        for begin, end, primary, *_ in found:
            host = primary[0].decode() if primary[0] else ""
            line = self._line_at(address_at(told_by, host, int(primary[1])))
            owners[int(begin) : int(end) + 1] = [line] * (int(end) - int(begin) + 1)
        return owners

    def _line_at(self, address: str) -> StoreLine:
        if address not in self._lines:
            self._lines[address] = StoreLine(address, self._timeout_s)
        return self._lines[address]


def words_of(fault: Exception) -> str:
    """Return what the store or its client says of a fault: no names of keys, no values.

    >>> words_of(hiredis.ReplyError("OOM command not allowed when used memory > 'maxmemory'."))
    "ReplyError: OOM command not allowed when used memory > 'maxmemory'."
    >>> words_of(hiredis.ReplyError("ERR unknown command 'X', with args beginning with: 'a' 'b'"))
    "ReplyError: ERR unknown command 'X'"
    >>> words_of(hiredis.ReplyError("WRONGTYPE of f:{p17}:g1:state:bank.k1.0f"))
    'ReplyError: WRONGTYPE of KEY'
    """
    text = _KEY_NAME.sub("KEY", str(fault).partition(_ARGUMENTS)[0])
    return f"{type(fault).__name__}: {' '.join(text.split())[:_LONGEST_WORDS]}".rstrip(": ")


def _is_unknown(answer: Any) -> bool:
    """Return whether a server does not know the script that it was to run."""
    return isinstance(answer, hiredis.ReplyError) and str(answer).startswith(_NO_SCRIPT)
