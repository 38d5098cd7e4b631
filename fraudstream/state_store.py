"""The packed store on Redis or Valkey: one atomic script a shard and step, fenced by its marker.

No hidden retries: a time-out is an `OnlineStoreUnavailable` with an unknown outcome, and the
caller reads the marker again. Cost: one round trip a call; about a microsecond a key in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import NoScriptError, RedisError

from fraudstream.errors import OnlineStoreUnavailable, ShardClosed, ShardMoved
from fraudstream.identity import DIGEST_BYTES
from fraudstream.settings import RedisSettings
from fraudstream.shard import (
    AdmitOutcome,
    DoorAnswer,
    DoorRow,
    Marker,
    OutboxEntry,
    RecordAnswer,
    RecordOutcome,
    RecordRow,
    ShardKeys,
    ShardRef,
    pack_pending,
    unpack_pending,
)

_SCRIPTS: Final = (
    "open_shard",
    "read_shard",
    "write_shard",
    "record_decisions",
    "settle_published",
    "admit",
    "refuse",
)

# A shard that stood still for longer must be opened as after a loss: its records may be gone.
OUTAGE_LONGEST_S: Final = 47 * 3600
# Right on any primary: what is published is put back, what is refused is forgotten.
_UNFENCED: Final = ("settle_published", "refuse")

# Decision records outlive the lateness bound (24 h) and the longest outage together.
RECORD_LIFE_S: Final = 72 * 3600
# Longer than the kernel's expiry of 90 days: the TTL only frees memory.
STATE_LIFE_S: Final = 100 * 86_400
PENDING_LIFE_S: Final = 24 * 3600
PENDING_LONGEST: Final = 256
# No call may wait longer for its decision: an older entry without one has lost its scorer.
PENDING_UNDECIDED_MS: Final = 60_000

_Argument = bytes | str | int

# Primary that the script call in flight names in its fence, empty for a call without one.
_NAMED_PRIMARY: Final[ContextVar[str]] = ContextVar("named_primary", default="")


class _Guard:
    """Turns the client's errors into ours."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RedisError | OSError | asyncio.TimeoutError):
            msg = f"the online store did not answer in time or refused: {type(error).__name__}"
            raise OnlineStoreUnavailable(msg) from error


@dataclass(frozen=True, slots=True)
class StoredValue:
    """One value of a state write: key, content and life."""

    key: str
    content: bytes
    life_s: int


@dataclass(frozen=True, slots=True)
class ShardWrite:
    """All that a finished batch of a shard writes, at once or not at all.

    Attributes:
        from_offset: Consumer position at which the batch began; must be the marker's `next`.
        to_offset: Position after the batch; becomes `next`, also when every row was skipped.
        values: States and claims.
        marks: High marks of an entity shard: field and content.
        cards: Card tokens whose pending lists may hold finished rows.
        finished: Identity and digest (48 bytes) of each finished row.
    """

    from_offset: int
    to_offset: int
    values: Sequence[StoredValue] = ()
    marks: Sequence[tuple[str, str]] = ()
    cards: Sequence[str] = ()
    finished: Sequence[bytes] = ()


class StateStore:
    """Shards of the online store. One instance a process; safe within one event loop.

    Raises:
        OnlineStoreUnavailable: The store does not answer in time (every method).
        ShardClosed: The marker is missing or names another log, layout, generation or primary.
        ShardMoved: The marker does not stand where the batch begins.
    """

    def __init__(self, settings: RedisSettings, clock_ms: Callable[[], int]) -> None:
        """Make the client; nothing is connected before `connect`.

        Args:
            settings: Where the store is.
            clock_ms: Epoch milliseconds, for outbox times.
        """
        self._prefix = settings.key_prefix
        self._clock_ms = clock_ms
        self._primary = ""
        self._hashes: dict[str, str] = {}
        self._client = redis.Redis.from_url(
            settings.url.get_secret_value(),
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._greet,
        )

    async def _greet(self, connection: AbstractConnection) -> None:
        """Look at the primary's identity on every new connection: another primary closes shards.

        The call that connects has named the old one already, as its marker may: it is not sent.
        """
        await connection.on_connect()
        await connection.send_command("INFO", "replication")
        answer = await connection.read_response()
        lines = dict(line.split(":", 1) for line in answer.decode().split("\r\n") if ":" in line)
        self._primary = lines["master_replid"]
        if _NAMED_PRIMARY.get() not in ("", self._primary):
            msg = "another primary answers than the one that this call names"
            raise NotConnected(msg)

    @property
    def primary(self) -> str:
        """Replication id of the primary that the newest connection reached."""
        return self._primary

    def keys(self, shard: ShardRef) -> ShardKeys:
        """Return the names of a shard's keys."""
        return ShardKeys(self._prefix, shard)

    async def connect(self) -> None:
        """Connect and load the scripts."""
        async with _Guard():
            for name in _SCRIPTS:
                source = files("fraudstream.scripts").joinpath(f"{name}.lua").read_text()
                self._hashes[name] = await self._client.script_load(source)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def marker(self, shard: ShardRef) -> Marker | None:
        """Return a shard's marker, None where there is none."""
        async with _Guard():
            fields: Any = await self._client.hgetall(self.keys(shard).marker)
        if not fields:
            return None
        return Marker(
            fields[b"incarnation"].decode(),
            fields[b"layout"].decode(),
            fields[b"generation"].decode(),
            fields[b"primary"].decode(),
            int(fields[b"next"]),
        )

    async def open_shard(self, shard: ShardRef, next_offset: int) -> Marker:
        """Make a shard's marker where there is none, and return the one that stands afterwards."""
        fence = self._fence(shard)
        answer = await self._run("open_shard", [self.keys(shard).marker], [*fence, next_offset])
        incarnation, layout, generation, primary, stands = (field.decode() for field in answer)
        return Marker(incarnation, layout, generation, primary, int(stands))

    def is_open(self, shard: ShardRef, marker: Marker | None) -> bool:
        """Tell whether a marker is that of this shard, on this primary."""
        return marker is not None and self._fence(shard) == [
            marker.incarnation,
            marker.layout,
            marker.generation,
            marker.primary,
        ]

    async def read_shard(
        self, shard: ShardRef, from_offset: int | None, keys: Sequence[str]
    ) -> list[bytes | None]:
        """Read values of one shard at one moment.

        Args:
            shard: The shard.
            from_offset: Where the batch begins; None reads wherever the marker stands.
            keys: Keys of this shard.
        """
        begins = "" if from_offset is None else from_offset
        answer = await self._run(
            "read_shard", [self.keys(shard).marker, *keys], [*self._fence(shard), begins]
        )
        self._check(shard, answer)
        return answer[2:]  # type: ignore[no-any-return]

    async def write_shard(self, shard: ShardRef, write: ShardWrite) -> None:
        """Write a finished batch and move the marker on: the commit point of the stream."""
        names = self.keys(shard)
        keys = [names.marker, names.marks]
        keys += [value.key for value in write.values]
        keys += [names.pending(card) for card in write.cards]
        arguments: list[_Argument] = [*self._fence(shard), write.from_offset, write.to_offset]
        arguments += [len(write.values), len(write.marks), len(write.finished)]
        for value in write.values:
            arguments += (value.content, value.life_s)
        for mark in write.marks:
            arguments += mark
        arguments += write.finished
        self._check(shard, await self._run("write_shard", keys, arguments))

    async def fill(self, values: Sequence[StoredValue]) -> None:
        """Write states of shards that are not open yet, without a fence: nobody reads them."""
        async with _Guard():
            pipeline = self._client.pipeline(transaction=False)
            for value in values:
                pipeline.set(value.key, value.content, ex=value.life_s)
            await pipeline.execute()

    async def record_decisions(
        self, shard: ShardRef, rows: Sequence[RecordRow]
    ) -> list[RecordAnswer]:
        """Record decisions of identities that have none, and put them into the outbox."""
        names = self.keys(shard)
        keys = [names.marker, names.outbox]
        arguments: list[_Argument] = [*self._fence(shard), self._clock_ms(), RECORD_LIFE_S]
        for row in rows:
            keys += (names.record(row.identity), names.claim(row.identity))
            offset = "" if row.offset is None else row.offset
            arguments += (row.identity, row.digest, offset, row.value)
        answer = await self._run("record_decisions", keys, arguments)
        self._check(shard, answer)
        return [
            RecordAnswer(RecordOutcome(answer[place].decode()), answer[place + 1])
            for place in range(1, len(answer), 2)
        ]

    async def settle_published(self, shard: ShardRef, rows: Sequence[RecordRow]) -> None:
        """Take acknowledged decisions out of the outbox; put records back where they are gone."""
        missing = await self._settle(shard, rows, has_values=False)
        if missing:
            await self._settle(shard, [rows[place] for place in missing], has_values=True)

    async def _settle(
        self, shard: ShardRef, rows: Sequence[RecordRow], *, has_values: bool
    ) -> list[int]:
        """Settle rows, with or without their values; return the places of those that lack one."""
        names = self.keys(shard)
        arguments: list[_Argument] = [RECORD_LIFE_S]
        for row in rows:
            arguments += (row.identity, row.digest + row.value if has_values else b"")
        keys = [names.outbox, *(names.record(row.identity) for row in rows)]
        places: list[int] = await self._run("settle_published", keys, arguments)
        return places

    async def unpublished(
        self, shard: ShardRef, older_than_ms: int, limit: int
    ) -> list[OutboxEntry]:
        """Return outbox entries that were recorded before a time, oldest first.

        An entry whose record is gone has nothing left to publish and is dropped.
        """
        names = self.keys(shard)
        async with _Guard():
            identities: Any = await self._client.zrangebyscore(
                names.outbox, "-inf", older_than_ms, start=0, num=limit
            )
            if not identities:
                return []
            values: Any = await self._client.mget([names.record(i) for i in identities])
            lost = [i for i, value in zip(identities, values, strict=True) if value is None]
            if lost:
                await self._client.zrem(names.outbox, *lost)
        return [
            OutboxEntry(identity, value[:DIGEST_BYTES], value[DIGEST_BYTES:])
            for identity, value in zip(identities, values, strict=True)
            if value is not None
        ]

    async def outbox_identities(self, shard: ShardRef, identities: Sequence[bytes]) -> set[bytes]:
        """Return which of these identities are still in the outbox."""
        if not identities:
            return set()
        async with _Guard():
            scores: Any = await self._client.zmscore(
                self.keys(shard).outbox,
                list(identities),  # type: ignore[arg-type]  # members are bytes
            )
        return {i for i, score in zip(identities, scores, strict=True) if score is not None}

    async def admit(self, shard: ShardRef, rows: Sequence[DoorRow]) -> list[DoorAnswer]:
        """Admit transactions of one shard that came by gRPC, in order."""
        names = self.keys(shard)
        keys = [names.marker]
        now_ms = self._clock_ms()
        arguments: list[_Argument] = [*self._fence(shard), PENDING_LONGEST, PENDING_LIFE_S]
        arguments.append(now_ms - PENDING_UNDECIDED_MS)
        for row in rows:
            keys += (
                names.record(row.identity),
                names.claim(row.identity),
                names.pending(row.card_token),
                names.state("card", row.card_token),
            )
            entry = pack_pending(row.identity, row.digest, now_ms, row.row)
            arguments += (row.identity, row.digest, entry)
        answer = await self._run("admit", keys, arguments)
        self._check(shard, answer)
        next_offset = int(answer[1])
        return [
            DoorAnswer(
                AdmitOutcome(answer[place].decode()),
                answer[place + 1],
                answer[place + 2],
                tuple(unpack_pending(entry) for entry in answer[place + 3]),
                next_offset,
            )
            for place in range(2, len(answer), 4)
        ]

    async def refuse(self, shard: ShardRef, card_token: str, identity: bytes) -> None:
        """Take a refused transaction out of its card's pending list."""
        await self._run("refuse", [self.keys(shard).pending(card_token)], [identity])

    async def read_many(
        self, keys: Sequence[str], marks: Sequence[str]
    ) -> tuple[list[bytes | None], list[dict[bytes, bytes]]]:
        """Read values and hashes of any shards in one pipelined round trip, without a fence."""
        async with _Guard():
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.get(key)
            for name in marks:
                pipeline.hgetall(name)
            answer = await pipeline.execute()
        return answer[: len(keys)], answer[len(keys) :]

    def _fence(self, shard: ShardRef) -> list[_Argument]:
        return [shard.incarnation, shard.layout, shard.generation, self._primary]

    def _check(self, shard: ShardRef, answer: list[Any]) -> None:
        """Turn a script's refusal into its error."""
        if answer[0] == b"closed":
            msg = (
                f"shard {shard.role}{shard.partition} is closed: expected a marker of log"
                f" {shard.incarnation}, layout {shard.layout}, generation {shard.generation}"
                f" and primary {self._primary[:8]}"
            )
            raise ShardClosed(msg)
        if answer[0] == b"moved":
            stands = int(answer[1])
            msg = (
                f"shard {shard.role}{shard.partition} stands at {stands}, not at the batch's begin"
            )
            raise ShardMoved(msg)

    async def _run(self, name: str, keys: Sequence[str], arguments: Sequence[_Argument]) -> Any:
        """Run a script; load it again where a restarted server forgot it."""
        named = _NAMED_PRIMARY.set("" if name in _UNFENCED else self._primary)
        try:
            async with _Guard():
                try:
                    return await self._evaluate(name, keys, arguments)
                except NoScriptError:
                    await self.connect()
                    return await self._evaluate(name, keys, arguments)
        finally:
            _NAMED_PRIMARY.reset(named)

    async def _evaluate(
        self, name: str, keys: Sequence[str], arguments: Sequence[_Argument]
    ) -> Any:
        return await self._client.evalsha(self._hashes[name], len(keys), *keys, *arguments)
