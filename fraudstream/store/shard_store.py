"""The packed store on Redis or Valkey: one atomic script a shard and step, fenced by its marker.

No hidden retries: a time-out is an `OnlineStoreUnavailable` with an unknown outcome, and the
caller reads the marker again. Cost: one round trip a call; about a microsecond a key in the store.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fraudstream.errors import FraudStreamError, OnlineStoreUnavailable, ShardClosed, ShardMoved
from fraudstream.features.stored_values import CARD
from fraudstream.settings import RedisSettings
from fraudstream.store.connection import Argument, Command
from fraudstream.store.nodes import ScriptCall, StoreNodes
from fraudstream.store.shard import (
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
    unpack_pending,
)
from fraudstream.topics import topic_id_of
from fraudstream.transaction.identity import DIGEST_BYTES

R = TypeVar("R")
T = TypeVar("T")

# A shard that stood still for longer must be opened as after a loss: its records may be gone.
OUTAGE_LONGEST_S: Final = 47 * 3600
# Decision records outlive the lateness bound (24 h) and the longest outage together.
RECORD_LIFE_S: Final = 72 * 3600
# Longer than the kernel's expiry of 90 days: the TTL only frees memory.
STATE_LIFE_S: Final = 100 * 86_400
PENDING_LIFE_S: Final = 24 * 3600
PENDING_LONGEST: Final = 256
# No call may wait longer for its decision: an older entry without one has lost its scorer.
PENDING_UNDECIDED_MS: Final = 60_000
# Longer than any opening or filling takes; one that takes longer is refused, and begins again.
_WITNESS_LIFE_S: Final = 7 * 86_400
_LOSS_LIFE_S: Final = 3600


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

    def __init__(self, settings: RedisSettings) -> None:
        """Make the client of the store; nothing is connected before `connect`."""
        self.prefix = settings.key_prefix
        self.nodes = StoreNodes(settings)

    def keys(self, shard: ShardRef) -> ShardKeys:
        """Return the names of a shard's keys."""
        return ShardKeys(self.prefix, shard)

    async def connect(self) -> None:
        """Connect and load the scripts."""
        await self.nodes.connect()

    async def close(self) -> None:
        """Close all connections."""
        await self.nodes.close()

    async def marker(self, shard: ShardRef) -> Marker | None:
        """Return a shard's marker, None where there is none."""
        return _marker_of(await self.nodes.run("read_marker", [self.keys(shard).marker], ()))

    async def leave_witness(self, witness: str) -> None:
        """Leave a key that tells, to whoever comes back, whether the store lost anything since."""
        await self.nodes.run("leave_witness", [witness], [_WITNESS_LIFE_S])

    async def begin_opening(self, shard: ShardRef) -> str:
        """Leave a witness of a shard's opening, and return its key for `open_shard`.

        Between the two the opener looks at the logs, or fills states: a store that lost its writes
        meanwhile may have had the shard open, with decisions that the opener did not see.
        """
        witness = self.keys(shard).opening(secrets.token_hex(8))
        await self.leave_witness(witness)
        return witness

    async def open_shard(
        self, shard: ShardRef, next_offset: int, witness: str | None = None
    ) -> Marker:
        """Make a shard's marker where there is none, and return the one that stands afterwards.

        Args:
            shard: The shard.
            next_offset: First offset that is not applied.
            witness: What `begin_opening` returned; None where nothing was looked at.

        Raises:
            ShardClosed: There is no marker, and the witness is gone or another primary's.
        """
        keys = [self.keys(shard).marker, witness or await self.begin_opening(shard)]
        arguments = [*_fence(shard), next_offset]
        marker = _marker_of(await self.nodes.run("open_shard", keys, arguments))
        if marker is None:
            msg = (
                f"shard {shard.role}{shard.partition} stays closed: the store lost its last writes"
                " while the shard was about to be opened"
            )
            raise ShardClosed(msg)
        return marker

    async def note_loss(self, shard: ShardRef, what: str) -> int:
        """Return how long ago a loss of a shard was first seen, by the store's clock, in ms.

        The switch to a new generation forgets it.

        Args:
            shard: The shard.
            what: The loss.
        """
        names = self.keys(shard)
        age_ms: int = await self.nodes.run("note_loss", [names.loss], [what, _LOSS_LIFE_S])
        return age_ms

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
        answer = await self.nodes.run(
            "read_shard", [self.keys(shard).marker, *keys], [*_fence(shard), begins]
        )
        _check(shard, answer)
        return answer[2:]  # type: ignore[no-any-return]

    async def write_shard(self, shard: ShardRef, write: ShardWrite) -> None:
        """Write a finished batch and move the marker on: the commit point of the stream."""
        names = self.keys(shard)
        keys = [names.marker, names.marks]
        keys += [value.key for value in write.values]
        keys += [names.pending(card) for card in write.cards]
        arguments: list[Argument] = [*_fence(shard), write.from_offset, write.to_offset]
        arguments += [len(write.values), len(write.marks), len(write.finished)]
        for value in write.values:
            arguments += (value.content, value.life_s)
        for mark in write.marks:
            arguments += mark
        arguments += write.finished
        _check(shard, await self.nodes.run("write_shard", keys, arguments))

    async def fill(self, values: Sequence[StoredValue]) -> None:
        """Write states of shards that are not open yet, without a fence: nobody reads them."""
        await self.nodes.pipeline(
            [("SET", value.key, value.content, "EX", value.life_s) for value in values]
        )

    async def record_decisions(
        self, chunks: Sequence[tuple[ShardRef, Sequence[RecordRow]]]
    ) -> list[list[RecordAnswer] | FraudStreamError]:
        """Record decisions of identities that have none, and put them into the outbox.

        Returns the answers to each shard's rows, or why it has none; the others' stand.
        """
        return await self._run_each("record_decisions", chunks, self._record_call, _record_answers)

    def _record_call(self, shard: ShardRef, rows: Sequence[RecordRow]) -> ScriptCall:
        names = self.keys(shard)
        keys = [names.marker, names.outbox]
        arguments: list[Argument] = [*_fence(shard), RECORD_LIFE_S]
        for row in rows:
            keys += (names.record(row.identity), names.claim(row.identity))
            offset = "" if row.offset is None else row.offset
            arguments += (row.identity, row.digest, offset, row.value)
        return keys, arguments

    async def settle_published(self, shard: ShardRef, rows: Sequence[RecordRow]) -> None:
        """Take acknowledged decisions out of the outbox; put records back where they are gone."""
        missing = await self._settle(shard, rows, has_values=False)
        if missing:
            await self._settle(shard, [rows[index] for index in missing], has_values=True)

    async def _settle(
        self, shard: ShardRef, rows: Sequence[RecordRow], *, has_values: bool
    ) -> list[int]:
        """Settle rows, with or without their values; return the indices of those that lack one."""
        names = self.keys(shard)
        arguments: list[Argument] = [RECORD_LIFE_S]
        for row in rows:
            arguments += (row.identity, row.digest + row.value if has_values else b"")
        keys = [names.outbox, *(names.record(row.identity) for row in rows)]
        indices: list[int] = await self.nodes.run("settle_published", keys, arguments)
        return indices

    async def hold_unpublished(self, shard: ShardRef, identities: Sequence[bytes]) -> None:
        """Keep entries of the outbox from being taken: their holder is about to publish them."""
        await self.nodes.run("hold_outbox", [self.keys(shard).outbox], identities)

    async def take_unpublished(
        self, shard: ShardRef, unheld_ms: int, limit: int
    ) -> list[OutboxEntry]:
        """Take entries of the outbox that nobody has held for so long, and hold them.

        An entry counts as held when it is recorded, taken or held, by the store's clock. One whose
        record is gone has nothing left to publish and is dropped.
        """
        names = self.keys(shard)
        identities: list[bytes] = await self.nodes.run(
            "take_outbox", [names.outbox], [unheld_ms, limit]
        )
        if not identities:
            return []
        (values,) = await self.nodes.pipeline([("MGET", *(names.record(i) for i in identities))])
        lost = [i for i, value in zip(identities, values, strict=True) if value is None]
        if lost:
            await self.nodes.pipeline([("ZREM", names.outbox, *lost)])
        return [
            OutboxEntry(identity, value[:DIGEST_BYTES], value[DIGEST_BYTES:])
            for identity, value in zip(identities, values, strict=True)
            if value is not None
        ]

    async def outbox_identities(self, shard: ShardRef, identities: Sequence[bytes]) -> set[bytes]:
        """Return which of these identities are still in the outbox."""
        if not identities:
            return set()
        command: Command = ("ZMSCORE", self.keys(shard).outbox, *identities)
        (scores,) = await self.nodes.pipeline([command])
        return {i for i, score in zip(identities, scores, strict=True) if score is not None}

    async def admit(
        self, chunks: Sequence[tuple[ShardRef, Sequence[DoorRow]]]
    ) -> list[list[DoorAnswer] | FraudStreamError]:
        """Admit transactions that came by gRPC, those of a shard in order.

        Returns the answers to each shard's rows, or why it has none; the others' stand.
        """
        return await self._run_each("admit", chunks, self._admit_call, _door_answers)

    def _admit_call(self, shard: ShardRef, rows: Sequence[DoorRow]) -> ScriptCall:
        names = self.keys(shard)
        keys = [names.marker]
        arguments: list[Argument] = [*_fence(shard), PENDING_LONGEST, PENDING_LIFE_S]
        arguments.append(PENDING_UNDECIDED_MS)
        for row in rows:
            keys += (
                names.record(row.identity),
                names.claim(row.identity),
                names.pending(row.card_token),
                names.state(CARD, row.card_token),
            )
            arguments += (row.identity, row.digest, row.row)
        return keys, arguments

    async def _run_each(
        self,
        name: str,
        chunks: Sequence[tuple[ShardRef, Sequence[R]]],
        call_of: Callable[[ShardRef, Sequence[R]], ScriptCall],
        read: Callable[[list[Any]], list[T]],
    ) -> list[list[T] | FraudStreamError]:
        """Run a script for each shard's rows, in one round trip a node, and read its answers."""
        calls = [call_of(shard, rows) for shard, rows in chunks]
        answers = await self.nodes.run_each(name, calls)
        return [
            _each(shard, answer, read) for (shard, _), answer in zip(chunks, answers, strict=True)
        ]

    async def refuse(self, shard: ShardRef, card_token: str, identity: bytes) -> None:
        """Take a refused transaction out of its card's pending list."""
        await self.nodes.run("refuse", [self.keys(shard).pending(card_token)], [identity])

    async def read_many(
        self, keys: Sequence[str], marks: Sequence[str] = (), markers: Sequence[str] = ()
    ) -> tuple[list[bytes | None], list[dict[bytes, bytes]], list[dict[bytes, bytes]]]:
        """Read values and hashes of any shards in one pipelined round trip, without a fence.

        Args:
            keys: Values to read.
            marks: Hashes to read before them, so that a mark is never newer than the values.
            markers: Hashes to read after them: a marker must be as new as the values.

        Returns:
            The values, the marks, the markers. Keys of one shard are read in this order.
        """
        commands: list[Command] = [("HGETALL", name) for name in marks]
        commands += [("GET", key) for key in keys]
        commands += [("HGETALL", name) for name in markers]
        answer = await self.nodes.pipeline(commands)
        begin, end = len(marks), len(marks) + len(keys)
        return answer[begin:end], answer[:begin], answer[end:]


def _each(
    shard: ShardRef, answer: Any, read: Callable[[list[Any]], list[T]]
) -> list[T] | FraudStreamError:
    """Return what a script answered of one shard, or the error that it stands for."""
    if isinstance(answer, FraudStreamError):
        return answer
    try:
        _check(shard, answer)
        return read(answer)
    except ShardClosed as exc:
        return exc
    except (ValueError, TypeError, struct.error) as exc:
        msg = f"shard {shard.role}{shard.partition} holds what none of our services writes"
        unreadable = OnlineStoreUnavailable(msg)
        unreadable.__cause__ = exc
        return unreadable


def _record_answers(answer: list[Any]) -> list[RecordAnswer]:
    return [
        RecordAnswer(RecordOutcome(answer[index].decode()), answer[index + 1])
        for index in range(1, len(answer), 2)
    ]


def _door_answers(answer: list[Any]) -> list[DoorAnswer]:
    next_offset = int(answer[1])
    return [
        DoorAnswer(
            AdmitOutcome(answer[index].decode()),
            answer[index + 1],
            answer[index + 2],
            tuple(unpack_pending(entry) for entry in answer[index + 3]),
            next_offset,
        )
        for index in range(2, len(answer), 4)
    ]


def _fence(shard: ShardRef) -> list[Argument]:
    return [shard.incarnation, shard.layout, shard.generation]


def _marker_of(answer: Sequence[bytes | None]) -> Marker | None:
    """Read what `read_marker` answers; None also for what nobody of ours wrote there."""
    if None in answer[:5]:
        return None
    try:
        incarnation, layout, generation, primary, stands, serving = (
            None if field is None else field.decode() for field in answer
        )
        topic_id_of(str(incarnation))
        return Marker(
            str(incarnation),
            str(layout),
            str(generation),
            str(primary),
            int(str(stands)),
            str(serving),
        )
    except ValueError:
        return None


def _check(shard: ShardRef, answer: list[Any]) -> None:
    """Turn a script's refusal into its error."""
    if answer[0] == b"closed":
        msg = (
            f"shard {shard.role}{shard.partition} is closed: expected a marker of log"
            f" {shard.incarnation}, layout {shard.layout} and generation {shard.generation} that"
            " was opened by the primary which serves it"
        )
        raise ShardClosed(msg)
    if answer[0] == b"moved":
        stands = int(answer[1])
        msg = f"shard {shard.role}{shard.partition} stands at {stands}, not at the batch's begin"
        raise ShardMoved(msg)
