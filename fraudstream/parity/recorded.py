"""What the logs say: the decisions of one partition, and the rows that counted before each.

A row of `transactions.accepted.v1` counts if it is the first in the log with the digest of its
identity's first decision. A decision by gRPC was made from the rows below its `applied_offset`
and from what was pending then, in order. Memory: about 3 KB for each decision that is proven, 200
bytes for each that the partition holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.broker.log_reader import LogReader, LogRecord
from fraudstream.broker.messages import message_of
from fraudstream.features.state import ROW, pack_row, rows_of
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, DECISIONS
from fraudstream.transaction.identity import digest_of, identity_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.transaction_pb2 import Transaction

NOWHERE: Final = -1


@dataclass(frozen=True, slots=True)
class Span:
    """Event times to prove, epoch milliseconds: [from, until)."""

    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class DoorRead:
    """A decision by gRPC: what it saw of its card.

    Attributes:
        applied_offset: Rows of the partition below it were in the state.
        pending: Rows that were pending before it, in order, `ROW` [n].
        index: Which proven decision it is.
    """

    applied_offset: int
    pending: npt.NDArray[np.void]
    index: int


@dataclass(slots=True)
class CountedRows:
    """Rows of a partition that counted, in order.

    Attributes:
        transactions: The rows.
        offsets: Where each lies.
        indices: Which proven decision each is, -1 for none.
    """

    transactions: list[Transaction] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)

    def packed(self) -> npt.NDArray[np.void]:
        """Return the rows as the kernel reads them, `ROW` [n]."""
        return rows_of(self.transactions)


@dataclass(slots=True)
class PartitionLog:
    """One partition: what is to be proven, and what it is proven from.

    Attributes:
        partition: Its number.
        decisions: First decisions inside the span.
        counted: Rows that counted.
        door_reads: Decisions by gRPC, in the order of what they saw.
        unprovable: Why decisions of the span cannot be compared, with how many.
        unseen: Indices of decisions by gRPC, what they saw being unknown: not to be compared.
        first_offset: Where the accepted topic begins now: what was before it is gone.
    """

    partition: int
    decisions: list[Decision] = field(default_factory=list)
    counted: CountedRows = field(default_factory=CountedRows)
    door_reads: list[DoorRead] = field(default_factory=list)
    unprovable: dict[str, int] = field(default_factory=dict)
    unseen: set[int] = field(default_factory=set)
    first_offset: int = 0


@dataclass(slots=True)
class _Decided:
    """Decisions of a partition, by identity."""

    digests: dict[bytes, bytes] = field(default_factory=dict)
    indices: dict[bytes, int] = field(default_factory=dict)
    door_rows: dict[bytes, bytes] = field(default_factory=dict)


class LogPartitions:
    """Reads partitions of the accepted and decisions topics, one at a time.

    Args:
        settings: Where Kafka is.
        span: Which decisions to prove.
        is_comparable: Says why a decision cannot be compared, empty if it can.
        card_token: The only card that is of interest; empty for all.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        span: Span,
        is_comparable: Callable[[Decision], str],
        card_token: str = "",
    ) -> None:
        self._settings = settings
        self._span = span
        self._fault_of = is_comparable
        self._key = card_token.encode()

    def read(self, partition: int) -> PartitionLog:
        """Read one partition to its end.

        Raises:
            BrokerUnavailable: The broker does not answer, or a topic is missing.
        """
        log = PartitionLog(partition)
        decided = _Decided()
        with LogReader(self._settings, [DECISIONS], partition=partition) as reader:
            self._take_decisions(log, decided, self._of_card(reader))
        with LogReader(self._settings, [ACCEPTED], partition=partition) as reader:
            log.first_offset = reader.first_offset()
            _take_rows(log, decided, self._of_card(reader))
        for index in decided.indices.values():
            if not log.decisions[index].HasField("coordinates"):
                _add_door_read(log, decided, index)
        log.door_reads.sort(key=lambda read: read.applied_offset)
        return log

    def _of_card(self, reader: LogReader) -> Iterator[LogRecord]:
        return (record for record in reader.to_end() if not self._key or record.key == self._key)

    def _take_decisions(
        self, log: PartitionLog, decided: _Decided, records: Iterable[LogRecord]
    ) -> None:
        for record in records:
            decision = message_of(Decision, record)
            if decision is None:
                continue
            identity = identity_of(decision.bank_id, decision.card_token, decision.transaction_id)
            if identity in decided.digests:
                continue  # the first record of an identity is its decision
            decided.digests[identity] = decision.digest
            if not decision.HasField("coordinates"):
                decided.door_rows[identity] = pack_row(decision.transaction)
            if self._span.from_ms <= decision.event_time_ms < self._span.until_ms:
                fault = self._fault_of(decision)
                if fault:
                    log.unprovable[fault] = log.unprovable.get(fault, 0) + 1
                else:
                    decided.indices[identity] = len(log.decisions)
                    log.decisions.append(decision)


def _add_door_read(log: PartitionLog, decided: _Decided, index: int) -> None:
    freshness = log.decisions[index].freshness
    pending = [decided.door_rows.get(other) for other in freshness.pending_identities]
    rows = np.frombuffer(b"".join(row for row in pending if row is not None), ROW)
    if len(rows) < len(pending):
        fault = "a pending transaction that it saw was never decided"
        log.unprovable[fault] = log.unprovable.get(fault, 0) + 1
        log.unseen.add(index)
        return
    log.door_reads.append(DoorRead(freshness.applied_offset, rows, index))


def _take_rows(log: PartitionLog, decided: _Decided, records: Iterable[LogRecord]) -> None:
    counted: set[bytes] = set()
    for record in records:
        accepted = message_of(AcceptedTransaction, record)
        if accepted is None:
            continue
        transaction = accepted.transaction
        identity = identity_of(
            transaction.bank_id, transaction.card_token, transaction.transaction_id
        )
        if identity in counted or decided.digests.get(identity) != digest_of(transaction):
            continue
        counted.add(identity)
        index = decided.indices.get(identity, NOWHERE)
        is_of_stream = index != NOWHERE and log.decisions[index].HasField("coordinates")
        log.counted.transactions.append(transaction)
        log.counted.offsets.append(record.offset)
        log.counted.indices.append(index if is_of_stream else NOWHERE)
