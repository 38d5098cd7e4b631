"""Backlogs: simulated transactions as records of the raw and of the accepted topic.

Each side of an experiment has an iterator of its own over the same traffic, so all sides meet the
same rows in the same order, and no side meets a row twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fraudstream.broker.clients import OutRecord
from fraudstream.runtime.clock import epoch_ms
from fraudstream.telemetry.trace_context import TRACEPARENT, TraceContext
from fraudstream.topics import partition_of
from fraudstream.transaction.card_token import Tokeniser
from fraudstream.transaction.money import indicative_rate_table
from fraudstream.transaction.validate import canonicalise
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from harness.traffic import Disorder, raw_records
from training.simulator.simulate import SimulationSettings, live_traffic

# As in life, a card pays seldom. With few cards each would pay every few minutes, the model would
# rightly flag a growing share, and explaining them (13 engine rows each) would be what is measured.
CARDS: Final = 200_000
# Enough for six rounds of 20,000 inside an hour and a half of event time.
_RATE_PER_S: Final = 25.0
_BEGIN_BEFORE_MS: Final = 3 * 3_600_000
_SAMPLE_RATIO: Final = 0.01
_US_PER_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class BacklogRow:
    """One record of a backlog, and the transaction in it."""

    bank_id: str
    transaction_id: str
    record: OutRecord


def traffic_settings() -> SimulationSettings:
    """Return traffic that begins some hours ago: recent enough for every service."""
    start_ms = (epoch_ms() - _BEGIN_BEFORE_MS) // 60_000 * 60_000
    return SimulationSettings(seed=23, cards=CARDS, start_ms=start_ms, rate_per_s=_RATE_PER_S)


def raw_rows(settings: SimulationSettings, partitions: int) -> Iterator[BacklogRow]:
    """Yield good records of the raw topic, without end; some banks send JSON, others Protobuf."""
    orderly = Disorder(duplicate=0.0, conflict=0.0, bad=0.0)
    for raw in raw_records(live_traffic(settings), orderly, settings.seed):
        partition, time_ms = partition_of(raw.key, partitions), raw.event_time_ms
        record = OutRecord(raw.key, raw.value, partition, raw.headers, time_ms)
        yield BacklogRow(raw.bank_id, raw.transaction_id, record)


def accepted_rows(
    settings: SimulationSettings, tokeniser: Tokeniser, partitions: int
) -> Iterator[BacklogRow]:
    """Yield rows of the accepted topic as ingest makes them, without end."""
    rates = indicative_rate_table()
    for simulated in live_traffic(settings):
        transaction = simulated.transaction
        canonicalise(transaction, tokeniser, rates)
        event_time_ms = transaction.event_time_ms
        accepted = AcceptedTransaction(
            transaction=transaction,
            raw_append_time_ms=event_time_ms,
            ingest_started_us=event_time_ms * _US_PER_MS,
            ingest_ended_us=event_time_ms * _US_PER_MS,
        )
        key = transaction.card_token.encode()
        trace = TraceContext.start(_SAMPLE_RATIO).traceparent().encode()
        value, headers = accepted.SerializeToString(), [(TRACEPARENT, trace)]
        record = OutRecord(key, value, partition_of(key, partitions), headers, event_time_ms)
        yield BacklogRow(transaction.bank_id, transaction.transaction_id, record)
