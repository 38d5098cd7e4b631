"""Reading dead letters back from their topic.

A letter that was replayed has a mark behind it in its own partition: a record with the letter's
headers and one more, so that whoever reads the topic sees it, for as long as the letter is kept.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from typing import Any, Final

from fraudstream.broker.log_reader import LogReader, LogRecord, partition_count
from fraudstream.broker.wire.record_macs import WRITER, writer_of
from fraudstream.card_data.detector import mask
from fraudstream.errors import InvalidSettings
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, DLQ, ENTITIES
from fraudstream.transaction.event_time import is_epoch_ms

REPLAY_OF: Final = "replay-of"
REPLAYED: Final = "dlq-replayed"
"""Header of a mark: the letter that was replayed."""

# What ours write; what another name holds in a record of others is not shown.
_SHOWN_HEADERS: Final = (
    "reason", "stage", "topic", "partition", "offset", "schema_ver", "first_seen", "attempts",
    REPLAY_OF, REPLAYED,
)  # fmt: skip
_SHOWN_CHARACTERS: Final = 128
_OURS: Final = frozenset(("reason", "topic", "partition", "offset", "first_seen", "attempts"))
_CONTENT: Final = (
    "message", "append_time_ms", "preview", "value_bytes", "unreadable_from", "sealed",
)  # fmt: skip
# A letter may have 300 KB.
_AT_ONCE: Final = 50
OPERATOR: Final = "operator"
_MOST_NAMED: Final = 20

_LOG: Final = logging.getLogger(__name__)

Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of the dead-letter topic: a dead letter, or the mark that one was replayed.

    Attributes:
        position: Partition and offset.
        timestamp_ms: When it was written, epoch milliseconds.
        headers: Reason, stage, source and so on.
        value: Message, preview and the sealed original, JSON.
        key: Its source, `topic/partition/offset`.
        writer: The room that signed it; empty without record keys, or where it came before them.
    """

    position: Position
    timestamp_ms: int
    headers: dict[str, bytes]
    value: bytes
    key: bytes
    writer: str = ""

    @property
    def name(self) -> str:
        """How the commands name it."""
        return f"{self.position[0]}:{self.position[1]}"

    @property
    def source(self) -> str:
        """Topic of the original, in the name that it has on the broker."""
        return (self.headers.get("topic") or b"").decode(errors="replace")

    @property
    def replayed(self) -> str:
        """Name of the letter that this record marks as replayed; empty for a letter.

        Only `dlq` marks: what another room signed is no mark, whatever its headers say.
        """
        if self.writer not in ("", OPERATOR):
            return ""
        return (self.headers.get(REPLAYED) or b"").decode(errors="replace")

    def writer_of_source(self, kafka: KafkaSettings) -> str:
        """Return the room that writes the letters of records of its source."""
        of_features = (kafka.topic(ACCEPTED), kafka.topic(ENTITIES))
        return "features" if self.source in of_features else "ingest"

    def has_its_writer(self, kafka: KafkaSettings) -> bool:
        """Return whether that room signed it, or nobody did."""
        return self.writer in ("", self.writer_of_source(kafka))

    def texts(self) -> dict[str, str]:
        """Return our headers as texts, with `first_seen` as a date and time in UTC.

        A record of others may lack any of them, or hold anything in them.

        >>> Letter((0, 1), 0, {"first_seen": b"1767571200000"}, b"", b"").texts()["first_seen"]
        '2026-01-05T00:00:00.000Z'
        """
        texts: dict[str, str] = {
            name: mask((self.headers[name] or b"").decode(errors="replace"))
            for name in _SHOWN_HEADERS
            if name in self.headers
        }
        texts = {name: text[:_SHOWN_CHARACTERS] for name, text in texts.items()}
        seen_ms = (self.headers.get("first_seen") or b"").decode(errors="replace")
        if seen_ms.isascii() and seen_ms.isdigit() and is_epoch_ms(int(seen_ms[:14])):
            texts |= {"first_seen": _utc(int(seen_ms)), "first_seen_ms": seen_ms}
        return texts

    def content(self) -> dict[str, Any]:
        """Return message, preview and so on.

        Raises:
            InvalidSettings: The record is no dead letter of ours.
        """
        try:
            content = json.loads(self.value)
            if isinstance(content["append_time_ms"], int) and self.headers.keys() >= _OURS:
                return {name: content[name] for name in _CONTENT if name in content}
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise InvalidSettings(f"record {self.name} is no dead letter of ours: no service wrote it")


def _utc(epoch_ms: int) -> str:
    seen = datetime.fromtimestamp(epoch_ms // 1_000, UTC).replace(microsecond=0, tzinfo=None)
    return f"{seen.isoformat()}.{epoch_ms % 1_000:03d}Z"


def read_letters(kafka: KafkaSettings, reason: str | None) -> Iterator[tuple[Letter, bool]]:
    """Yield the dead letters that there are now by time, each with whether it was replayed.

    Reads the topic twice, for the marks lie behind the letters; keeps names of replayed letters and
    a few records of each partition.

    Args:
        kafka: Where Kafka is.
        reason: The one that is wanted; None for any.
    """
    with LogReader(kafka, [DLQ], most_records=_AT_ONCE) as reader:
        replayed = {letter.replayed for letter in map(letter_of, reader.to_end())}
        numbers = [position.partition for position in reader.partitions]
    with ExitStack() as stack:
        readers = [
            stack.enter_context(LogReader(kafka, [DLQ], partition=n, most_records=_AT_ONCE))
            for n in numbers
        ]
        chunks = (map(letter_of, reader.to_end()) for reader in readers)
        records = merge(*chunks, key=lambda letter: (letter.timestamp_ms, letter.position))
        for letter in only_letters(records, kafka):
            if reason in (None, letter.texts().get("reason")):
                yield letter, letter.name in replayed


def only_letters(records: Iterable[Letter], kafka: KafkaSettings) -> Iterator[Letter]:
    """Yield the dead letters that the room signed which writes those of their source.

    A room's key signs for its own sources alone: features tells nothing in ingest's name. Marks are
    no letters; at the end the log has the number of others, and the names of the first.
    """
    count, names = 0, list[str]()
    for letter in records:
        if letter.replayed:
            continue
        if letter.has_its_writer(kafka):
            yield letter
            continue
        count += 1
        if len(names) < _MOST_NAMED:
            names.append(f"{letter.name} of {letter.writer}")
    if count:
        msg = "records passed over that a room signed which writes no letters of their source"
        more = " and others" if count > len(names) else ""
        _LOG.error("%d %s: %s%s", count, msg, ", ".join(names), more)


def letter_of(record: LogRecord) -> Letter:
    """Return a record of the dead-letter topic, as a poll brought it."""
    # Of a record that nobody signed the header is its sender's.
    writer = writer_of(record.headers)
    return Letter(
        (record.partition, record.offset),
        record.timestamp_ms,
        # Who signed it is not the letter's.
        {name: content for name, content in record.headers if name != WRITER},
        record.value,
        record.key,
        writer if writer in DLQ.writers else "",
    )


def find_letter(kafka: KafkaSettings, position: Position) -> Letter:
    """Return one dead letter.

    Raises:
        InvalidSettings: There is none at this position, or a room signed it that writes none of its
            source.
    """
    if position[0] < partition_count(kafka, DLQ):
        with LogReader(kafka, [DLQ], partition=position[0], most_records=_AT_ONCE) as reader:
            reader.seek(position[1])
            letter = next(map(letter_of, reader.to_end()), None)
        if letter is not None and letter.position == position and not letter.replayed:
            if letter.has_its_writer(kafka):
                return letter
            expected = f"expected one that {letter.writer_of_source(kafka)} signed"
            raise InvalidSettings(f"letter {letter.name}: {expected}, found {letter.writer}")
    raise InvalidSettings(f"there is no dead letter {position[0]}:{position[1]}; see `dlq list`")
