"""The poll loop: follow the group's assignment, take records where files end, finish files.

Each row once: what is in a file is never read again, because the position of a partition is where
its files end, and what is in no file is read again, because nothing else says where to go on. The
offsets that are committed only show the lag. Memory: `pending_bytes` of records, and one poll.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Final

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from fraudstream.broker.group_reading import positions
from fraudstream.broker.messages import StampedRecord
from fraudstream.errors import BrokerUnavailable
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.telemetry.metrics import ARCHIVE_LAG
from services.archive.partition_archive import PartitionArchive
from services.archive.streams import STREAMS

_LOG: Final = logging.getLogger(__name__)
_POLL_MS: Final = 200

Open = Callable[[TopicPartition], PartitionArchive | None]


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Notes that the group dealt partitions out again, and holds them until the loop is ready.

    Args:
        consumer: Whose partitions they are.
        announce: Called once, at the first assignment, even an empty one.
    """

    def __init__(self, consumer: KafkaConsumer, announce: Callable[[], None]) -> None:
        self.is_new = False
        self._consumer = consumer
        self._announce: Callable[[], None] | None = announce

    def on_partitions_revoked(self, _revoked: list[TopicPartition]) -> None:
        """Do nothing: the lock, not the group, says whose a partition is."""

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Pause all: the group's committed offsets are not where files end."""
        self._consumer.pause(*assigned)
        self.is_new = True
        if self._announce is not None:
            self._announce()
            self._announce = None


@dataclass(slots=True)
class _Held:
    """A partition that this worker holds, and what the group was last told of it."""

    archive: PartitionArchive
    committed: int | None = None
    was_sought: bool = False


@dataclass(slots=True)
class ArchiveLoop:
    """Archives the partitions that the group gives to this worker.

    Attributes:
        consumer: Subscribed, with automatic commits off.
        assignment: Its listener.
        open: Takes a partition over; None while another worker holds it.
        pending_bytes: Bytes of records that may wait in memory.
        is_embedded: The broker is the embedded one, which is not exact about the ends of logs.
        idle: Called after a poll that brought nothing.
    """

    consumer: KafkaConsumer
    assignment: Assignment
    open: Open
    pending_bytes: int
    is_embedded: bool
    idle: Callable[[], None]
    _held: dict[TopicPartition, _Held] = field(default_factory=dict)
    _waiting: set[TopicPartition] = field(default_factory=set)

    def run(self, stop: Event) -> None:
        """Work until `stop` is set; then finish every file.

        Raises:
            InvalidSettings: Files overlap, or a log ends before its files do.
            LogReplaced: A topic was made again; a new start takes the new one.
        """
        try:
            while not stop.is_set():
                self._step()
            self._finish(list(self._held))
        finally:
            for held in self._held.values():
                held.archive.release()

    def _step(self) -> None:
        polled = self.consumer.poll(timeout_ms=_POLL_MS)
        if self.assignment.is_new:
            self.assignment.is_new = False
            self._follow()
        self._claim()
        if polled:
            crash_point("archive.after_read")
        else:
            self.idle()
        for tp, records in polled.items():
            self._take(tp, records)
        if sum(held.archive.pending_bytes for held in self._held.values()) > self.pending_bytes:
            for held in self._held.values():
                held.archive.flush()
        self._finish([tp for tp, held in self._held.items() if held.archive.is_due])
        self._commit()
        self._observe_lag()

    def _follow(self) -> None:
        """Give away what another has now, go on with what stayed, and wait for what is new."""
        assigned = set(self.consumer.assignment())
        gone = [tp for tp in self._held if tp not in assigned]
        self._finish(gone)
        for tp in gone:
            self._held.pop(tp).archive.release()
        self._seek(list(self._held))
        self._waiting = assigned - set(self._held)

    def _claim(self) -> None:
        """Take over the partitions that no other worker holds any more."""
        claimed = []
        for tp in sorted(self._waiting):
            archive = self.open(tp)
            if archive is not None:
                self._held[tp] = _Held(archive, archive.position)
                claimed.append(tp)
        self._waiting.difference_update(claimed)
        self._seek(claimed)

    def _seek(self, tps: Sequence[TopicPartition]) -> None:
        """Read on where the files end, as far as the log still has it.

        All at once: a question to the broker waits behind the long poll under way.
        """
        if not tps:
            return
        begins = self.consumer.beginning_offsets(tps)
        ends = self.consumer.end_offsets(tps)
        for tp in tps:
            archive = self._held[tp].archive
            archive.begin_at(begins[tp])
            if not self.is_embedded:
                archive.check_end(ends[tp])
            self.consumer.seek(tp, archive.position)
            self.consumer.resume(tp)

    def _take(self, tp: TopicPartition, records: Sequence[StampedRecord]) -> None:
        held = self._held.get(tp)
        if held is None:
            return
        if records[0].offset != held.archive.position and not held.was_sought:
            held.was_sought = True
            self._seek([tp])
            return
        held.was_sought = False
        try:
            held.archive.take(records)
        except BrokerUnavailable as exc:
            _LOG.warning("%s; reading again", exc)
            self._seek([tp])

    def _finish(self, tps: Sequence[TopicPartition]) -> None:
        """Finish the files of some partitions, later where the broker does not answer now."""
        for tp in tps:
            try:
                self._held[tp].archive.publish()
            except BrokerUnavailable as exc:
                _LOG.warning("%s: the file stays open", exc)
                return

    def _commit(self) -> None:
        """Tell the group where files end: only those who watch its lag want to know."""
        offsets = {}
        read_to = positions(self.consumer)
        for tp, held in self._held.items():
            # Behind the last record may lie markers of transactions and what cannot be read.
            at = read_to.get(tp) if held.archive.is_empty else held.archive.published
            if at is not None and at != held.committed:
                offsets[tp] = OffsetAndMetadata(at, "", -1)
                held.committed = at
        if offsets:
            try:
                self.consumer.commit(offsets)
            except KafkaError as exc:
                _LOG.warning("commit refused, %s: only the lag is wrong", type(exc).__name__)

    def _observe_lag(self) -> None:
        lags: dict[str, int] = defaultdict(int)
        for tp, at in positions(self.consumer).items():
            end = self.consumer.highwater(tp)
            if end is not None and tp in self._held:
                lags[self._held[tp].archive.source.stream.noun] += max(0, end - at)
        for stream in STREAMS:
            ARCHIVE_LAG.labels(stream.noun).set(lags[stream.noun])
