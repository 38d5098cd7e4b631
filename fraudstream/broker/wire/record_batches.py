"""Record batches of the log, of which a bad record costs itself alone. Pure: bytes in, records out.

A batch whose frame is whole yields a record for all that can be read, and an `Unreadable` for what
cannot. Good batches are parsed by aiokafka's compiled parser, for both clients.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c

from fraudstream.broker.wire.codecs import UndecodableBatch, decompress
from fraudstream.broker.wire.records import (
    ABORT_MARKER,
    COMMIT_MARKER,
    HEADER,
    MOST_HEADERS,
    BatchHeader,
    Record,
    SlowParser,
    Unreadable,
    bounded,
)

_FRAME: Final = struct.Struct(">qi")
_ATTRIBUTES_AT: Final = 21
_FORMAT_AT: Final = 16
_FORMAT: Final = 2
_CODEC: Final = 0x07
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
# Above it a batch is walked before it is parsed: a microsecond a record.
_LARGE_BYTES: Final = 2 << 20
# A dead letter each: a batch of a few KiB may hold millions of empty ones. One of a million bytes,
# as producers bound it before they compress, holds 20,000 of the shortest transactions.
MOST_RECORDS: Final = 100_000
# A broker takes no longer value in a batch that is not compressed, unless told otherwise.
MOST_VALUE_BYTES: Final = 1 << 20
# The compiled parser reads a number before it looks how much is left.
_SPARE_BYTES: Final = 32

# Takes note of an unreadable record at an offset that is passed over.
PassOver = Callable[[int, Unreadable], None]
# Lets through what of a batch is to be trusted.
Trusted = Callable[[Iterable[Record]], Iterator[Record]]


class Batch:
    """One batch as both clients' fetchers want it: it never raises.

    Args:
        data: The whole batch.
        limit: Base offset of the batch behind it; None where that is not known.
        pass_over: Told of what cannot be read; None to have it yielded.
        most_bytes: Of a value that is read.
        trusted: Lets through what is to be trusted; None for all.
    """

    magic: Final = _FORMAT

    def __init__(
        self,
        data: memoryview,
        limit: int | None,
        pass_over: PassOver | None,
        most_bytes: int,
        trusted: Trusted | None,
    ) -> None:
        self._data = data
        self._pass_over = pass_over
        self._most_bytes = most_bytes
        self._trusted = trusted
        self._fault = ""
        fault = _fault_of(data)
        try:
            self._header = BatchHeader.parse(data)
        except struct.error:
            base, _ = _FRAME.unpack_from(data)
            self._header = BatchHeader(base, -1, 0, base, (-1, -1), -1, 0)
        self.base_offset = self._header.base_offset
        self.leader_epoch = self._header.leader_epoch
        self.last_offset = self._header.last_offset
        self.producer_id = self._header.producer_id
        self.is_transactional = bool(self._header.attributes & _TRANSACTIONAL)
        self.is_control_batch = bool(self._header.attributes & _CONTROL)
        if not fault and self.last_offset < self.base_offset:
            delta = self.last_offset - self.base_offset
            fault = f"ends at offset delta {delta}, expected 0 or more"
        if fault:
            self._distrust(fault, limit)

    def _distrust(self, fault: str, limit: int | None) -> None:
        """Take of a broken header what can be held against its surroundings.

        The position behind the batch lies behind its first offset, or a reader would go round.
        """
        if limit is not None and limit <= self.base_offset:
            limit = None
        self._fault = fault
        self.is_transactional = self.is_control_batch = False
        self.producer_id = -1
        most = self.base_offset + len(self._data) if limit is None else limit - 1
        if not self.base_offset <= self.last_offset <= most:
            self.last_offset = self.base_offset if limit is None else most

    @property
    def next_offset(self) -> int:
        """Offset behind the batch."""
        return self.last_offset + 1

    def has_producer_id(self) -> bool:
        """Whether an idempotent or transactional producer wrote it."""
        return self.producer_id >= 0

    def validate_crc(self) -> bool:
        """Agree: what does not fit its checksum is yielded as unreadable."""
        return True

    def __next__(self) -> Record:
        """Return the marker of a control batch.

        One that cannot be read aborts: what follows must not be taken for aborted, and is not.
        """
        found = next(self._all(), None)
        is_commit = found is not None and (found.key or b"")[2:4] == COMMIT_MARKER[2:]
        marker = COMMIT_MARKER if is_commit else ABORT_MARKER
        return Record(self.base_offset, -1, 0, marker, None, [])

    def __iter__(self) -> Iterator[Record]:
        """Yield what it holds and is to be trusted, in offset order."""
        found = self._all()
        return found if self._trusted is None else self._trusted(found)

    def _all(self) -> Iterator[Record]:
        try:
            records = self._records()
        except UndecodableBatch as exc:
            yield from self._kept([self._unreadable_batch(str(exc), exc.reason)])
            return
        taken, before = 0, self.base_offset - 1
        is_packed = bool(self._header.attributes & _CODEC)
        slow = SlowParser(self._header, records[HEADER.size :])
        if len(records) > _LARGE_BYTES and slow.has_oversized():
            yield from self._kept(bounded(one, self._most_bytes) for one in slow.read(0, before))
            return
        try:
            for found in DefaultRecordBatch(records):
                offset = found.offset
                if not before < offset <= self.last_offset:
                    break
                made = Record(
                    offset,
                    found.timestamp,
                    found.timestamp_type,
                    found.key,
                    found.value,
                    found.headers,
                )
                # What is not compressed is no larger than what was fetched, but for its headers.
                is_fit = not is_packed and len(made.headers) <= MOST_HEADERS
                fit = made if is_fit else bounded(made, self._most_bytes)
                if fit is made:
                    yield made
                else:
                    yield from self._kept([fit])
                taken, before = taken + 1, offset
            else:
                return
        except Exception:  # noqa: BLE001, S110  # whatever it is, the slow parser says what is wrong
            pass
        rest = slow.read(taken, before)
        yield from self._kept(bounded(record, self._most_bytes) for record in rest)

    def _kept(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield what can be read, and the rest where it is wanted."""
        for record in records:
            if self._pass_over is not None and isinstance(record.value, Unreadable):
                self._pass_over(record.offset, record.value)
            else:
                yield record

    def _records(self) -> memoryview:
        """Return the batch without compression, with spare bytes behind it."""
        if self._fault:
            raise UndecodableBatch(self._fault)
        if self._header.records > MOST_RECORDS:
            cause = f"of {self._header.records} records, at most {MOST_RECORDS} are read"
            raise UndecodableBatch(cause, "TOO_LARGE")
        content = self._data[HEADER.size :]
        codec = self._header.attributes & _CODEC
        if codec:
            content = decompress(codec, content)
        size = HEADER.size + len(content)
        made = bytearray(size + _SPARE_BYTES)
        made[: HEADER.size] = self._data[: HEADER.size]
        made[HEADER.size : size] = content
        made[_ATTRIBUTES_AT + 1] &= ~_CODEC
        return memoryview(made)[:size]

    def _unreadable_batch(self, cause: str, reason: str) -> Record:
        if self.last_offset > self.base_offset and not self._fault:
            cause += f"; it holds offsets {self.base_offset} to {self.last_offset}"
        raw = Unreadable.of(self._data, reason, f"batch {cause}")
        timestamp = self._header.timestamps_ms[1]
        return Record(self.base_offset, timestamp, 0, None, raw, [])


def _fault_of(data: memoryview) -> str:
    """Return what is wrong with a batch as a whole; empty if nothing."""
    if len(data) > _FORMAT_AT and data[_FORMAT_AT] != _FORMAT:
        return f"of format {data[_FORMAT_AT]}, expected {_FORMAT}"
    if len(data) < HEADER.size:
        return f"of {len(data)} bytes, expected at least {HEADER.size}"
    (checksum,) = struct.unpack_from(">I", data, _FORMAT_AT + 1)
    if calc_crc32c(data[_ATTRIBUTES_AT:]) != checksum:  # pyright: ignore[reportArgumentType]  # takes any buffer
        return "does not fit its checksum"
    return ""


class RecordBatches:
    """The batches of one fetch, in place of both clients' own reader of them.

    The last one may be cut off by the size of the fetch: it is left for the next.

    Attributes:
        pass_over: Told of what cannot be read; None to have it yielded.
        most_bytes: Of a value that is read.
        trusted: Lets through what is to be trusted of a batch; None for all of it.
    """

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.pass_over: PassOver | None = None
        self.most_bytes = MOST_VALUE_BYTES
        self.trusted: Trusted | None = None
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        """Return how much was fetched."""
        return len(self._data)

    def has_next(self) -> bool:
        """Return whether a whole batch is left."""
        return self._end_of(self._at) is not None

    def next_batch(self) -> Batch | None:
        """Return the next whole batch."""
        end = self._end_of(self._at)
        if end is None:
            return None
        data, self._at = self._data[self._at : end], end
        limit = None
        if len(self._data) - end >= _FRAME.size:
            limit = _FRAME.unpack_from(self._data, end)[0]
        return Batch(data, limit, self.pass_over, self.most_bytes, self.trusted)

    def _end_of(self, begin: int) -> int | None:
        if len(self._data) - begin < _FRAME.size:
            return None
        (_, length) = _FRAME.unpack_from(self._data, begin)
        end = begin + _FRAME.size + length
        return int(end) if length > 0 and end <= len(self._data) else None
