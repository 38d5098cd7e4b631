"""What a shard of the store is: its marker, its keys, and the rows its scripts take and give."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from fraudstream.errors import ShardClosed
from fraudstream.features.state import LAYOUT_HASH, ROW
from fraudstream.transaction.identity import DIGEST_BYTES, IDENTITY_BYTES

# The one generation of a store that was never rebuilt.
FIRST_GENERATION: Final = "g1"

# What names a shard in its marker.
_NAMING: Final = (b"incarnation", b"generation", b"layout")
_OFFSET: Final = struct.Struct("<q")
_PENDING_HEAD: Final = struct.Struct(f"<{IDENTITY_BYTES}s{DIGEST_BYTES}sq")


class Role(StrEnum):
    """Which log a shard follows: the accepted topic by card, or the entities topic."""

    CARD = "p"
    ENTITY = "e"


@dataclass(frozen=True, slots=True)
class ShardRef:
    """One shard, as a worker believes it to be. Every script checks it against the marker.

    Attributes:
        role: Cards or shared entities.
        partition: Partition of the log that the shard follows.
        incarnation: Topic id and partition count of that log.
        generation: Name of the states' generation.
        layout: Hash of the packed layout.
    """

    role: Role
    partition: int
    incarnation: str
    generation: str = FIRST_GENERATION
    layout: str = LAYOUT_HASH


@dataclass(frozen=True, slots=True)
class Marker:
    """What a shard's marker says.

    Attributes:
        incarnation: Topic id and partition count of the log it follows.
        layout: Hash of the packed layout.
        generation: Name of the states' generation.
        primary: Replication id of the store primary that opened it.
        next_offset: First offset that is not applied yet.
        serving: Replication id of the primary that answered: another one may lack writes.
    """

    incarnation: str
    layout: str
    generation: str
    primary: str
    next_offset: int
    serving: str

    def shard(self, role: Role, partition: int) -> ShardRef:
        """Return the shard that it names.

        Raises:
            ShardClosed: It is of another layout.
        """
        return _named(ShardRef(role, partition, self.incarnation, self.generation, self.layout))

    def is_open_for(self, shard: ShardRef) -> bool:
        """Return whether scripts pass the fence of this marker with what a worker believes.

        >>> shard = ShardRef(Role.CARD, 0, "00:1")
        >>> Marker("00:1", LAYOUT_HASH, FIRST_GENERATION, "a", 0, "a").is_open_for(shard)
        True
        """
        named = (self.incarnation, self.layout, self.generation, self.primary)
        return named == (shard.incarnation, shard.layout, shard.generation, self.serving)


def shard_of(role: Role, partition: int, marker: Mapping[bytes, bytes]) -> ShardRef:
    """Return the shard that a marker's fields name, for readers that no script fences.

    Args:
        role: Cards or shared entities.
        partition: The shard's partition.
        marker: Fields as the store has them; empty where there is no marker.

    Raises:
        ShardClosed: There is no marker, or one of another layout.

    >>> fields = {"incarnation": "00:1", "generation": "g2", "layout": LAYOUT_HASH}
    >>> marker = {name.encode(): text.encode() for name, text in fields.items()}
    >>> shard_of(Role.CARD, 0, marker).generation
    'g2'
    """
    try:
        incarnation, generation, layout = (marker[name].decode() for name in _NAMING)
    except (KeyError, UnicodeDecodeError) as exc:  # whoever may write there ends no reader
        raise never_opened(role, partition) from exc
    return _named(ShardRef(role, partition, incarnation, generation, layout))


def never_opened(role: Role, partition: int) -> ShardClosed:
    """Return the error of a shard without a marker."""
    return ShardClosed(f"shard {role}{partition} is closed: no features worker has opened it")


def _named(shard: ShardRef) -> ShardRef:
    if shard.layout != LAYOUT_HASH:
        msg = (
            f"shard {shard.role}{shard.partition} is closed: expected layout {LAYOUT_HASH}, found"
            f" {shard.layout}: all services must be of one release"
        )
        raise ShardClosed(msg)
    return shard


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """Names of a shard's keys; all carry it as hash tag, so that one script may touch them all."""

    prefix: str
    shard: ShardRef
    _of_shard: str = field(init=False)
    _of_generation: str = field(init=False)

    def __post_init__(self) -> None:
        """Make what all names begin with."""
        of_shard = f"{self.prefix}:{{{self.shard.role}{self.shard.partition}}}:"
        object.__setattr__(self, "_of_shard", of_shard)
        object.__setattr__(self, "_of_generation", f"{of_shard}{self.shard.generation}:")

    def _name(self, rest: str) -> str:
        return self._of_shard + rest

    def _generation(self, rest: str) -> str:
        return self._of_generation + rest

    @property
    def marker(self) -> str:
        """The marker, a hash."""
        return self._name("marker")

    @property
    def marks(self) -> str:
        """High marks of an entity shard's sources, a hash."""
        return self._generation("marks")

    @property
    def witness(self) -> str:
        """Key that names the primary while a generation is filled; deleted at the switch."""
        return self._generation("witness")

    @property
    def outbox(self) -> str:
        """Identities recorded and not known to be published, by when a scorer held them last."""
        return self._name("outbox")

    def state(self, kind: str, entity_key: str) -> str:
        """A packed state of this layout."""
        return self._generation(f"{self.shard.layout}:{kind}:{entity_key}")

    def claim(self, identity: bytes) -> str:
        """Digest and offset of the counted row of an identity."""
        return self._generation(f"claim:{identity.hex()}")

    def opening(self, name: str) -> str:
        """Key that names the primary seen when opening began; deleted when the shard is open."""
        return self._name(f"opening:{name}")

    @property
    def loss(self) -> str:
        """What was lost of the shard, and when that was first seen, a hash."""
        return self._name("loss")

    def rebuild(self, name: str) -> str:
        """What a run of the rebuild command has filled of the shard."""
        return self._name(f"rebuild:{name}")

    def record(self, identity: bytes) -> str:
        """Digest and decision of an identity; belongs to no generation."""
        return self._name(f"record:{identity.hex()}")

    def pending(self, card_token: str) -> str:
        """Rows of a card that came by gRPC and are not in its state yet, a list."""
        return self._name(f"pending:{card_token}")


def pack_claim(digest: bytes, offset: int) -> bytes:
    """Return a claim's value: digest, then the offset of its row.

    >>> pack_claim(b"d", 1)[1:].hex()
    '0100000000000000'
    """
    return digest + _OFFSET.pack(offset)


@dataclass(frozen=True, slots=True)
class PendingEntry:
    """One entry of a card's pending list."""

    identity: bytes
    digest: bytes
    admitted_ms: int
    row: bytes


def unpack_pending(entry: bytes) -> PendingEntry:
    """Read an entry of a pending list, as `admit` packed it.

    >>> unpack_pending(bytes([5] * 56) + b"row").row
    b'row'
    """
    identity, digest, admitted_ms = _PENDING_HEAD.unpack_from(entry)
    return PendingEntry(identity, digest, admitted_ms, entry[_PENDING_HEAD.size :])


ROW_BYTES: Final = ROW.itemsize


class RecordOutcome(StrEnum):
    """What became of a decision that scoring wanted to record."""

    RECORDED = "recorded"
    EXISTS = "exists"
    CONFLICT = "conflict"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One decision to record.

    Attributes:
        identity: 16 bytes.
        digest: 32 bytes.
        value: The serialised `Decision`.
        offset: Offset of the row in the accepted topic; None for what came by gRPC.
    """

    identity: bytes
    digest: bytes
    value: bytes
    offset: int | None


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """Outcome of one `RecordRow`.

    Attributes:
        outcome: What became of it.
        value: The recorded decision where one existed; digest and decision of the record that
            conflicts, empty where a claim alone does.
    """

    outcome: RecordOutcome
    value: bytes


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A recorded decision that nobody is known to have published."""

    identity: bytes
    digest: bytes
    value: bytes


class AdmitOutcome(StrEnum):
    """What became of a transaction at the gRPC door."""

    ADMITTED = "admitted"
    EXISTS = "exists"
    CONFLICT = "conflict"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class DoorRow:
    """One transaction at the gRPC door.

    Attributes:
        identity: 16 bytes.
        digest: 32 bytes.
        card_token: Whose pending list it joins.
        row: One packed `ROW`.
    """

    identity: bytes
    digest: bytes
    card_token: str
    row: bytes


@dataclass(frozen=True, slots=True)
class DoorAnswer:
    """Outcome of one `DoorRow`.

    Attributes:
        outcome: What became of it.
        value: The recorded decision, where it is known already; digest and decision of a record
            that conflicts.
        state: The card's packed value, None for a card without state.
        pending: Entries of the card's pending list before this row.
        next_offset: The shard's `next`.
    """

    outcome: AdmitOutcome
    value: bytes
    state: bytes | None
    pending: tuple[PendingEntry, ...]
    next_offset: int
