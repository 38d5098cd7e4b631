"""Raw records as banks send them: simulated transactions, some sent twice, some wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from fraudstream.transaction.formats import CONTENT_TYPE, JSON, PROTOBUF
from fraudstream.transaction.json_form import encode_json
from fraudstream.v1.transaction_pb2 import Transaction
from training.simulator.simulate import SimulatedTransaction

# How far back a repeated record reaches, in transactions.
_MEMORY: Final = 200


class Sent(StrEnum):
    """What a raw record is, and so what must become of it."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record for the raw topic.

    Attributes:
        sent: What it is.
        key: The bank's customer id: copies of a transaction stay in order; never a PAN.
        value: The encoded transaction.
        content_type: How it is encoded.
        bank_id: Of its transaction.
        transaction_id: Of its transaction.
        event_time_ms: When it is due.
        is_fraud: What the detector is not told.
    """

    sent: Sent
    key: bytes
    value: bytes
    content_type: bytes
    bank_id: str
    transaction_id: str
    event_time_ms: int
    is_fraud: bool

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Kafka headers that it travels with."""
        return [(CONTENT_TYPE, self.content_type)]


@dataclass(frozen=True, slots=True)
class Disorder:
    """Shares of records that are not a fresh good transaction, each of all records.

    Attributes:
        duplicate: Sent before, in either encoding.
        conflict: Sent before, now with another amount.
        bad: Breaks the contract in one of several ways.
    """

    duplicate: float = 0.01
    conflict: float = 0.003
    bad: float = 0.005


def raw_records(
    traffic: Iterator[SimulatedTransaction], disorder: Disorder, seed: int
) -> Iterator[RawRecord]:
    """Yield each transaction once as a fresh record, and others among them by `disorder`."""
    rng = np.random.default_rng((seed, 3))
    recent: deque[SimulatedTransaction] = deque(maxlen=_MEMORY)
    shares = np.cumsum([disorder.duplicate, disorder.conflict, disorder.bad])
    for simulated in traffic:
        yield _record(Sent.FRESH, simulated.transaction, simulated.is_fraud)
        recent.append(simulated)
        index = int(np.searchsorted(shares, rng.random(), side="right"))
        if index >= len(shares):
            continue
        earlier = recent[int(rng.integers(len(recent)))]
        due_ms = simulated.transaction.event_time_ms
        kind = (Sent.DUPLICATE, Sent.CONFLICT, Sent.BAD)[index]
        yield _disorderly(kind, earlier, due_ms, int(rng.integers(1 << 30)))


def _disorderly(kind: Sent, earlier: SimulatedTransaction, due_ms: int, draw: int) -> RawRecord:
    changed = Transaction()
    changed.CopyFrom(earlier.transaction)
    if kind is Sent.CONFLICT:
        changed.amount_minor += 1 + draw % 500
    if kind is Sent.BAD:
        return _bad(changed, due_ms, draw)
    return _record(kind, changed, earlier.is_fraud, as_json=bool(draw % 2), due_ms=due_ms)


def _bad(changed: Transaction, due_ms: int, draw: int) -> RawRecord:
    """Return a record with an id of its own that breaks the contract in one of six ways."""
    changed.transaction_id = f"bad-{draw:x}"
    way = draw % 6
    if way == 0:
        changed.amount_minor = -changed.amount_minor - 1
    elif way == 1:
        changed.currency = "XQX"
    elif way == 2:
        changed.pan = changed.pan[:-1] + str((int(changed.pan[-1]) + 1) % 10)
    elif way == 3:
        changed.event_time_ms += 365 * 86_400_000
    elif way == 4:
        changed.merchant_id = f"shop\x07{draw}"
    record = _record(Sent.BAD, changed, is_fraud=False, as_json=True, due_ms=due_ms)
    if way != 5:
        return record
    cut = record.value[: len(record.value) // 2]
    return RawRecord(
        Sent.BAD, record.key, cut, JSON, record.bank_id, record.transaction_id, due_ms, False
    )


def _record(
    sent: Sent,
    transaction: Transaction,
    is_fraud: bool,
    *,
    as_json: bool | None = None,
    due_ms: int | None = None,
) -> RawRecord:
    """Encode a transaction; where the caller does not say how, one bank sends JSON."""
    if as_json is None:
        as_json = transaction.bank_id == "bank-south"
    value = encode_json(transaction) if as_json else transaction.SerializeToString()
    return RawRecord(
        sent,
        transaction.customer_id.encode(),
        value,
        JSON if as_json else PROTOBUF,
        transaction.bank_id,
        transaction.transaction_id,
        transaction.event_time_ms if due_ms is None else due_ms,
        is_fraud,
    )
