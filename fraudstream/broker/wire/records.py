"""What one record of a batch is, and the slow parser that a bad record costs itself alone.

Pure: bytes in, records out. Where neighbours can be told from a record that cannot be read, they
are read; otherwise what is left of the batch becomes one `Unreadable`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

Header = tuple[str, bytes | None]

# Base offset, length, leader epoch, format, checksum, attributes, last offset delta, first and
# last timestamp, producer id and epoch, base sequence, number of records.
HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_APPEND_TIME: Final = 0x08
_VARINT_BITS: Final = 63
MOST_KEPT_BYTES: Final = 64 << 10
# Longer than any record in a batch that is not compressed, unless a broker is told otherwise. The
# parsers make a pair of each header, two bytes of a record: half a million at most.
_MOST_RECORD_BYTES: Final = 1280 << 10
# What ingest reads of a record, and more than any of ours has.
MOST_HEADERS: Final = 32
_MOST_HEADER_BYTES: Final = 8 << 10
_MOST_KEY_BYTES: Final = 64 << 10
# Version and kind, two bytes each: the keys of the records that end a transaction.
ABORT_MARKER: Final = b"\x00\x00\x00\x00"
COMMIT_MARKER: Final = b"\x00\x00\x00\x01"


class Unreadable(bytes):
    """Raw bytes that stand for a record's value, because the record cannot be read.

    They are the record as it lies in its batch, or the batch; where only the name of a header is
    wrong, they are the record's value. Over 64 KiB they are not kept: a poll holds thousands.

    Attributes:
        reason: Code of the reject reason, `CORRUPT`, `HEADERS` or `TOO_LARGE`.
        cause: What was expected and what was found, without any content.
        size: Number of bytes, kept or not.
    """

    reason: str
    cause: str
    size: int

    @classmethod
    def of(cls, raw: bytes | memoryview, reason: str, cause: str) -> Unreadable:
        """Return the bytes with what is wrong with them."""
        made = cls(raw if len(raw) <= MOST_KEPT_BYTES else b"")
        made.reason, made.cause, made.size = reason, cause, len(raw)
        return made


class Record(NamedTuple):
    """One record, with all that the fetchers of both clients ask it for."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]

    checksum: None = None

    @property
    def size_in_bytes(self) -> int:
        """About how long it is: kafka-python goes to the next partition after a longer one."""
        return len(self.key or b"") + len(self.value or b"") + 1

    @property
    def abort(self) -> bool:
        """Whether this marker of a control batch ends an aborted transaction."""
        return self.key == ABORT_MARKER


def bounded(record: Record, most_bytes: int) -> Record:
    """Return a record that takes no more memory than it may, with the same offset and time.

    Args:
        record: As it was parsed.
        most_bytes: Of its value; a longer one is not kept, nor is what is around it.
    """
    key, value, headers = record[3:6]
    if value is not None and len(value) > most_bytes:
        cause = f"the value has {len(value)} bytes, at most {most_bytes} are read"
        return record._replace(value=Unreadable.of(value, "TOO_LARGE", cause), key=None, headers=[])
    if key is not None and len(key) > _MOST_KEY_BYTES:
        cause = f"the key has {len(key)} bytes, at most {_MOST_KEY_BYTES} are read"
        return record._replace(value=Unreadable.of(key, "TOO_LARGE", cause), key=None, headers=[])
    if headers and (
        len(headers) > MOST_HEADERS
        or sum(len(name) + len(text or b"") for name, text in headers) > _MOST_HEADER_BYTES
    ):
        cause = f"expected at most {MOST_HEADERS} headers and {_MOST_HEADER_BYTES} bytes of them"
        return record._replace(value=Unreadable.of(value or b"", "HEADERS", cause), headers=[])
    return record


class _BadRecord(Exception):
    """A record is invalid; the text says how."""


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What stands before the records of a batch.

    Attributes:
        base_offset: Offset of its first record.
        leader_epoch: Of the leader that took it.
        attributes: Codec, kind of timestamp, transaction, control.
        last_offset: Offset of its last record, also where that was compacted away.
        timestamps_ms: First and last.
        producer_id: Of its producer; -1 for none.
        records: How many it says that it holds.
    """

    base_offset: int
    leader_epoch: int
    attributes: int
    last_offset: int
    timestamps_ms: tuple[int, int]
    producer_id: int
    records: int

    @classmethod
    def parse(cls, data: memoryview) -> BatchHeader:
        """Read the header of a whole batch."""
        base, _, epoch, _, _, attributes, delta, first, last, producer, _, _, records = (
            HEADER.unpack_from(data)
        )
        return cls(base, epoch, attributes, base + delta, (first, last), producer, records)

    def timestamp_of(self, delta_ms: int) -> int:
        """Return the timestamp of a record."""
        return self.timestamps_ms[1] if self.is_append_time else self.timestamps_ms[0] + delta_ms

    @property
    def is_append_time(self) -> bool:
        """Whether the broker set the timestamps."""
        return bool(self.attributes & _APPEND_TIME)


@dataclass(frozen=True, slots=True)
class SlowParser:
    """The slow parser: record by record, each for itself.

    Attributes:
        header: Of the batch.
        data: Its records, not compressed.
    """

    header: BatchHeader
    data: memoryview

    def read(self, skip: int, before: int) -> Iterator[Record]:
        """Yield the records behind the first `skip`; `before` is the offset of the last of them."""
        at = 0
        for index, (begin, end) in enumerate(self._spans()):
            at = end
            if index >= skip:
                record = self._record(begin, end, before)
                before = record.offset
                yield record
        if at < len(self.data):
            cause = f"record {len(self.data) - at} bytes before the batch's end has no valid length"
            raw = Unreadable.of(self.data[at:], "CORRUPT", cause)
            yield self._made(self._next(before), 0, raw)

    def has_oversized(self) -> bool:
        """Return whether a record is longer than it may be."""
        return any(end - begin > _MOST_RECORD_BYTES for begin, end in self._spans())

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Yield where each record begins and ends, as long as the lengths are possible."""
        at = 0
        while at < len(self.data):
            try:
                length, begin = _varint(self.data, at)
            except _BadRecord:
                return
            if not 0 <= length <= len(self.data) - begin:
                return
            at = begin + length
            yield begin, at

    def _record(self, begin: int, end: int, before: int) -> Record:
        raw, delta_ms = self.data[begin:end], 0
        if len(raw) > _MOST_RECORD_BYTES:
            cause = f"the record has {len(raw)} bytes, at most {_MOST_RECORD_BYTES} are read"
            return self._made(self._next(before), 0, Unreadable.of(raw, "TOO_LARGE", cause))
        try:
            delta_ms, at = _varint(raw, 1)
            offset, at = self._offset(raw, at, before)
            return self._content(raw, at, (offset, delta_ms))
        except _BadRecord as exc:
            # Its own word about its offset counts for nothing: the next one may be there.
            unreadable = Unreadable.of(raw, "CORRUPT", f"record: {exc}")
            return self._made(self._next(before), delta_ms, unreadable)

    def _offset(self, raw: memoryview, at: int, before: int) -> tuple[int, int]:
        delta, at = _varint(raw, at)
        offset = self.header.base_offset + delta
        if not before < offset <= self.header.last_offset:
            raise _BadRecord(f"offset delta {delta} is not in order")
        return offset, at

    def _content(self, raw: memoryview, at: int, coordinates: tuple[int, int]) -> Record:
        """Read key, value and headers."""
        key, at = _bytes(raw, at)
        value, at = _bytes(raw, at)
        count, at = _varint(raw, at)
        if not 0 <= count <= len(raw):
            raise _BadRecord(f"found {count} headers in {len(raw)} bytes")
        headers: list[Header] = []
        has_foreign_name = False
        for _ in range(count):
            name, at = _bytes(raw, at)
            if name is None:
                raise _BadRecord("the name of a header is null")
            content, at = _bytes(raw, at)
            has_foreign_name = has_foreign_name or not _is_text(name)
            headers.append((name.decode(errors="backslashreplace"), content))
        if at != len(raw):
            raise _BadRecord(f"{len(raw) - at} bytes are left behind its headers")
        if has_foreign_name:
            cause = "the name of a header is not UTF-8"
            value = Unreadable.of(value or b"", "HEADERS", cause)
        return self._made(*coordinates, value)._replace(key=key, headers=headers)

    def _next(self, before: int) -> int:
        """Return the offset of a record that does not tell its own."""
        return min(before + 1, self.header.last_offset)

    def _made(self, offset: int, delta_ms: int, value: bytes | None) -> Record:
        kind = int(self.header.is_append_time)
        return Record(offset, self.header.timestamp_of(delta_ms), kind, None, value, [])


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a zigzag number and where it ends."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > _VARINT_BITS:
            raise _BadRecord("a number has no end")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (number >> 1) ^ -(number & 1), at
        shift += 7


def _bytes(data: memoryview, at: int) -> tuple[bytes | None, int]:
    """Return a field with its length before it, and where it ends; None for a negative length."""
    length, at = _varint(data, at)
    if length < 0:
        return None, at
    if length > len(data) - at:
        raise _BadRecord(f"a field of {length} bytes where {len(data) - at} are left")
    return bytes(data[at : at + length]), at + length
