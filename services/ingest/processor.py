"""One raw record in, one record out: accepted, late, or a dead letter. Pure but for the clock.

Budget: 40 µs a record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from fraudstream.bus import OutRecord
from fraudstream.dead_letter import LetterWriter, SourceRecord
from fraudstream.errors import InvalidTransaction, LateTransaction
from fraudstream.money import RateTable
from fraudstream.privacy import Tokeniser
from fraudstream.reject_reasons import RejectReason
from fraudstream.telemetry import TRACEPARENT, TraceContext
from fraudstream.topics import partition_of
from fraudstream.transaction import (
    Headers,
    TimeBounds,
    canonicalise,
    decode_transaction,
    validate_transaction,
)
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from fraudstream.v1.transaction_pb2 import Transaction

_LOG: Final = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a raw record; also the label of its metric."""

    ACCEPTED = "accepted"
    LATE = "late"
    DEAD_LETTERED = "dead_lettered"


class RawRecord(Protocol):
    """A record as kafka-python gives it."""

    @property
    def topic(self) -> str:
        """Topic that it was read from."""
        ...

    @property
    def partition(self) -> int:
        """Partition that it was read from."""
        ...

    @property
    def offset(self) -> int:
        """Place in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """Append time, epoch milliseconds."""
        ...

    @property
    def key(self) -> bytes | None:
        """Any key."""
        ...

    @property
    def value(self) -> bytes | None:
        """The encoded transaction."""
        ...

    @property
    def headers(self) -> Headers:
        """Names and contents."""
        ...


@dataclass(frozen=True, slots=True)
class Trace:
    """The span of one record, and what it came from."""

    span: TraceContext
    parent: TraceContext | None


@dataclass(frozen=True, slots=True)
class Processed:
    """What to send for one raw record, and where.

    Attributes:
        outcome: Says which topic.
        record: What goes there.
        trace: The record's span.
        reason: Code of the fault of a dead letter; empty otherwise.
        ended_us: When it was done, epoch microseconds.
    """

    outcome: Outcome
    record: OutRecord
    trace: Trace
    reason: str
    ended_us: int


@dataclass(frozen=True, slots=True)
class Canon:
    """What turns a good record into a canonical one.

    Attributes:
        tokeniser: Replaces the PAN.
        rates: Gives the amount in the reference currency.
        bounds: Of event time against append time.
    """

    tokeniser: Tokeniser
    rates: RateTable
    bounds: TimeBounds


class RecordProcessor:
    """Decodes, validates and tokenises, one record at a time.

    Args:
        canon: What turns a good record into a canonical one.
        letters: Writes dead letters.
        partitions: Partitions of each outgoing topic.
        sample_ratio: Share of new traces that are kept.
        clock_us: Epoch microseconds.
    """

    def __init__(
        self,
        canon: Canon,
        letters: LetterWriter,
        partitions: dict[Outcome, int],
        sample_ratio: float,
        clock_us: Callable[[], int],
    ) -> None:
        self._canon = canon
        self._letters = letters
        self._partitions = partitions
        self._sample_ratio = sample_ratio
        self._clock_us = clock_us

    def process(self, record: RawRecord, started_us: int) -> Processed:
        """Return what to send for one raw record. Never fails: a fault becomes a dead letter.

        Its append time is the record's own timestamp, so that a replay on the record's clock is
        judged as it was.
        """
        trace = self._trace_of(record.headers)
        try:
            transaction = decode_transaction(record.value, record.headers)
            outcome = self._canonical(transaction, record.timestamp)
        except InvalidTransaction as exc:
            return self._dead(record, trace, exc.reason, exc.message)
        except Exception as exc:  # noqa: BLE001  # pure code: a second try of the record fails alike
            # No traceback: it may hold values of the record.
            _LOG.error("%s at %s/%d/%d", type(exc).__name__, *_place_of(record))
            return self._dead(record, trace, RejectReason.INTERNAL, RejectReason.INTERNAL.text)
        return self._alive(record, trace, outcome, (transaction, started_us))

    def _canonical(self, transaction: Transaction, append_time_ms: int) -> Outcome:
        canon = self._canon
        outcome = Outcome.ACCEPTED
        try:
            validate_transaction(transaction, append_time_ms, canon.bounds)
        except LateTransaction:
            outcome = Outcome.LATE
        canonicalise(transaction, canon.tokeniser, canon.rates)
        return outcome

    def _alive(
        self, record: RawRecord, trace: Trace, outcome: Outcome, work: tuple[Transaction, int]
    ) -> Processed:
        transaction, started_us = work
        ended_us = self._clock_us()
        accepted = AcceptedTransaction(
            transaction=transaction,
            raw_append_time_ms=record.timestamp,
            ingest_started_us=started_us,
            ingest_ended_us=ended_us,
        )
        key = transaction.card_token.encode()
        sent = OutRecord(
            key,
            accepted.SerializeToString(),
            partition_of(key, self._partitions[outcome]),
            [(TRACEPARENT, trace.span.traceparent().encode())],
            record.timestamp,
        )
        return Processed(outcome, sent, trace, "", ended_us)

    def _dead(self, record: RawRecord, trace: Trace, reason: str, message: str) -> Processed:
        source = SourceRecord(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            record.headers,
        )
        letter = self._letters.letter_of(source, reason, message)
        headers = [*letter.headers, (TRACEPARENT, trace.span.traceparent().encode())]
        partition = partition_of(letter.key, self._partitions[Outcome.DEAD_LETTERED])
        sent = OutRecord(letter.key, letter.value, partition, headers)
        return Processed(Outcome.DEAD_LETTERED, sent, trace, reason, self._clock_us())

    def _trace_of(self, headers: Headers) -> Trace:
        for name, content in headers:
            if name == TRACEPARENT:
                parent = TraceContext.parse(content)
                if parent is not None:
                    return Trace(parent.child(), parent)
        return Trace(TraceContext.start(self._sample_ratio), None)


def _place_of(record: RawRecord) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset
