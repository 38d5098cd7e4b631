"""The poll loop: poll, process, publish, then commit. At least once; nothing is skipped.

Offsets are committed only after every record that the poll led to is acknowledged. If one is not,
all partitions of the poll go back to where it began and it is tried again after a pause: features
tells the second copy from the first by its identity.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Final, Protocol

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from fraudstream.broker.clients import OutRecord
from fraudstream.broker.group_reading import poll_group, positions
from fraudstream.errors import BrokerUnavailable, StreamStalled
from fraudstream.runtime.clock import epoch_us
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.telemetry.metrics import BATCH_ROWS, INGEST_RECORDS, STAGE_SECONDS
from fraudstream.telemetry.spans import SPAN_INGEST, Telemetry
from services.ingest.processor import Outcome, Processed, RawRecord, RecordProcessor

_LOG: Final = logging.getLogger(__name__)
_POLL_MS: Final = 200
# A poll costs three requests to the broker, whatever it holds: at 1,000 records a second the pause
# saves a quarter of ingest's CPU.
_GATHER_S: Final = 0.01
_FEW_RECORDS: Final = 100
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
# A poll of ordinary records has 1 MiB. One of the largest has 128 MiB, and its dead letters twice
# that; at the worst of 64 KiB, a second of CPU each, it would outlast the poll interval (300 s).
_POLL_BYTES: Final = 8 << 20
# A producer that failed this often in a row is not helped by waiting: exit 75, start again.
_FAILURES_AT_MOST: Final = 8

Poll = Mapping[TopicPartition, Sequence[RawRecord]]


class Outlet(Protocol):
    """Where records go."""

    def send(self, chunks: Mapping[Outcome, list[OutRecord]]) -> None:
        """Return when all are acknowledged; raise BrokerUnavailable otherwise."""
        ...


class IngestLoop:
    """Reads the raw topic until it is told to stop.

    Args:
        consumer: Subscribed, with automatic commits off.
        processor: Makes what is to be sent.
        outlet: Sends it.
        telemetry: Takes the spans.
        look: Called after each poll, with whether it brought nothing.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        processor: RecordProcessor,
        outlet: Outlet,
        telemetry: Telemetry,
        look: Callable[[bool], None],
    ) -> None:
        self._consumer = consumer
        self._processor = processor
        self._outlet = outlet
        self._telemetry = telemetry
        self._look = look
        self._failures = 0
        self._committed: dict[TopicPartition, int] = {}

    def run(self, stop: Event) -> None:
        """Work until `stop` is set; the poll under way is finished first.

        Raises:
            StreamStalled: Publishing failed again and again, or the group stands still.
            LogReplaced: The raw topic was made again, or the accepted one was widened.
        """
        while not stop.is_set():
            poll = self._begin_of(self._poll())
            if poll:
                crash_point("ingest.after_read")
                self._work(poll, stop)
            else:
                self._commit()
            self._look(not poll)

    def _poll(self) -> Poll:
        """Return what is there, and where that is little, what comes in the next moment too."""
        poll: Poll = poll_group(self._consumer, _POLL_MS)
        if not 0 < sum(map(len, poll.values())) < _FEW_RECORDS:
            return poll
        time.sleep(_GATHER_S)
        more: Poll = poll_group(self._consumer, 0)
        return {index: [*poll.get(index, ()), *more.get(index, ())] for index in {**poll, **more}}

    def _begin_of(self, poll: Poll) -> Poll:
        """Return as much of a poll as may be worked on together; the rest will be read again."""
        room = _POLL_BYTES
        kept = {}
        for partition, records in poll.items():
            taken = 0
            for record in records:
                if room <= 0:
                    break
                room -= len(record.value or b"")
                taken += 1
            if taken < len(records) and partition in self._consumer.assignment():
                self._consumer.seek(partition, records[taken].offset)
            if taken:
                kept[partition] = records[:taken]
        return kept

    def _work(self, poll: Poll, stop: Event) -> None:
        started = time.perf_counter()
        done = self._process(poll)
        try:
            self._outlet.send(_chunks(done))
        except BrokerUnavailable as exc:
            self._go_back(poll, stop, exc)
            return
        self._failures = 0
        crash_point("ingest.after_publish")
        self._observe(done, time.perf_counter() - started)
        crash_point("ingest.before_commit")
        self._commit()

    def _process(self, poll: Poll) -> list[tuple[int, Processed]]:
        process = self._processor.process
        done = []
        for records in poll.values():
            for record in records:
                started_us = epoch_us()
                done.append((started_us, process(record, started_us)))
        return done

    def _commit(self) -> None:
        """Commit where reading goes on: all that was read before is published."""
        moved = {
            partition: at
            for partition, at in positions(self._consumer).items()
            if self._committed.get(partition) != at
        }
        if not moved:
            return
        try:
            self._consumer.commit({p: OffsetAndMetadata(at, "", -1) for p, at in moved.items()})
            self._committed.update(moved)
        except KafkaError as exc:
            # A rebalance took the partitions: their new owner reads from the last commit, and
            # what was published twice has one identity.
            _LOG.warning("commit refused, %s: the records will be read again", type(exc).__name__)

    def _go_back(self, poll: Poll, stop: Event, cause: BrokerUnavailable) -> None:
        self._failures += 1
        if self._failures > _FAILURES_AT_MOST:
            raise StreamStalled(f"publishing failed {self._failures} times in a row: {cause}")
        pause_s = min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
        _LOG.warning("%s; trying again in %.1f s", cause, pause_s)
        for partition, records in poll.items():
            # A rebalance may have taken the partition meanwhile.
            if partition in self._consumer.assignment():
                self._consumer.seek(partition, records[0].offset)
        stop.wait(pause_s)

    def _observe(self, done: Sequence[tuple[int, Processed]], seconds: float) -> None:
        for outcome, number in Counter(one.outcome for _, one in done).items():
            INGEST_RECORDS.labels(outcome).inc(number)
        BATCH_ROWS.labels(SPAN_INGEST).observe(len(done))
        STAGE_SECONDS.labels(SPAN_INGEST).observe(seconds)
        reasons = Counter(str(one.reason) for _, one in done if one.reason)
        if reasons:
            _LOG.warning("dead-lettered: %s", dict(reasons))
        if self._telemetry.is_enabled:
            self._record_spans(done)

    def _record_spans(self, done: Sequence[tuple[int, Processed]]) -> None:
        for started_us, one in done:
            if one.span.is_sampled:
                attributes = {"fraud.outcome": str(one.outcome), "fraud.reason": one.reason}
                self._telemetry.record_span(
                    SPAN_INGEST,
                    one.span,
                    None,
                    started_us,
                    one.ended_us,
                    attributes,
                )


def _chunks(done: Sequence[tuple[int, Processed]]) -> dict[Outcome, list[OutRecord]]:
    chunks: dict[Outcome, list[OutRecord]] = {}
    for _, one in done:
        chunks.setdefault(one.outcome, []).append(one.record)
    return chunks
