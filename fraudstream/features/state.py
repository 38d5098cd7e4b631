"""What is kept of an entity: one fixed-size packed value each, and the row that moves it on.

Buckets take event time, the ring takes arrival order. All fields are zero in an empty state.
Cost: a card 2,328 bytes; a terminal 752 bytes of counts and 168 of labels.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import (
    FEATURE_SET_HASH,
    KERNEL_VERSION,
    LABEL_DELAY_D,
    SEQUENCE_LENGTH,
)
from fraudstream.v1.transaction_pb2 import Transaction

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

# A card's bucket levels lie one behind the other in one array: 12 of 5 minutes, 24 of an hour,
# 30 of a day. The week and the month share the days.
CARD_WIDTH_MS: Final = (5 * MINUTE_MS, HOUR_MS, DAY_MS)
CARD_BUCKETS: Final = (12, 24, 30)
CARD_START: Final = (0, 12, 36)
CARD_ALL: Final = 66

# A terminal's windows hold closed buckets only, so each level keeps the open one and some slack
# for rows of another source that run ahead. Days span the month and the label delay.
TERMINAL_MINUTES: Final = 64
TERMINAL_HOURS: Final = 26
TERMINAL_DAYS: Final = 30 + LABEL_DELAY_D + 3

# A card silent for longer (in event time) starts afresh; the store's TTL is longer than this.
EXPIRY_D: Final = 90

CARD_STATE: Final = np.dtype(
    [
        ("previous_ms", "<i8"),
        ("first_ms", "<i8"),
        ("rows", "<i8"),
        ("head", "<i8", (3,)),
        ("count", "<i4", (CARD_ALL,)),
        ("spend", "<i8", (CARD_ALL,)),
        ("largest", "<i8", (CARD_ALL,)),
        ("ring_event_ms", "<i8", (SEQUENCE_LENGTH,)),
        ("ring_amount", "<i8", (SEQUENCE_LENGTH,)),
        ("ring_terminal", "<u8", (SEQUENCE_LENGTH,)),
        ("ring_utc_offset", "<i2", (SEQUENCE_LENGTH,)),
        ("ring_mcc", "<i2", (SEQUENCE_LENGTH,)),
        ("ring_kind", "<i1", (SEQUENCE_LENGTH,)),
        ("ring_channel", "<i1", (SEQUENCE_LENGTH,)),
    ]
)

TERMINAL_STATE: Final = np.dtype(
    [
        ("head", "<i8", (3,)),
        ("minute_count", "<i4", (TERMINAL_MINUTES,)),
        ("hour_count", "<i4", (TERMINAL_HOURS,)),
        ("hour_spend", "<i8", (TERMINAL_HOURS,)),
        ("day_count", "<i4", (TERMINAL_DAYS,)),
    ]
)

LABEL_STATE: Final = np.dtype([("head", "<i8"), ("day_fraud", "<i4", (TERMINAL_DAYS,))])

ROW: Final = np.dtype(
    [
        ("event_ms", "<i8"),
        ("amount", "<i8"),
        ("terminal", "<u8"),
        ("utc_offset", "<i2"),
        ("mcc", "<i2"),
        ("kind", "<i1"),
        ("channel", "<i1"),
    ]
)

_MCC_DIGITS: Final = 4

# States of another layout, catalogue order or kernel live under other keys and are never misread.
LAYOUT_HASH: Final = hashlib.sha256(
    "|".join((str(CARD_STATE), str(TERMINAL_STATE), str(LABEL_STATE), str(KERNEL_VERSION))).encode()
    + FEATURE_SET_HASH.encode()
).hexdigest()[:8]


def hash_entity(bank_id: str, entity_id: str) -> int:
    """Return 64 bits that stand for an entity of a bank; 0 for an empty id.

    >>> hash_entity("bank", "")
    0
    """
    if not entity_id:
        return 0
    digest = hashlib.blake2b(f"{bank_id}\x1f{entity_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 1


def fill_row(row: npt.NDArray[np.void], position: int, transaction: Transaction) -> None:
    """Write a transaction into `row[position]` (dtype `ROW`).

    Amounts are in reference minor units; an MCC that is not four digits is 0.

    >>> row = np.zeros(1, ROW)
    >>> fill_row(row, 0, Transaction(amount_reference_minor=250))
    >>> row["amount"].tolist()
    [250]
    """
    row[position] = (
        transaction.event_time_ms,
        transaction.amount_reference_minor,
        hash_entity(transaction.bank_id, transaction.terminal_id),
        transaction.utc_offset_minutes,
        _mcc_number(transaction.mcc),
        transaction.kind,
        transaction.channel,
    )


def _mcc_number(mcc: str) -> int:
    return int(mcc) if len(mcc) == _MCC_DIGITS and mcc.isdecimal() else 0


def rows_of(transactions: list[Transaction]) -> npt.NDArray[np.void]:
    """Return transactions as packed rows, dtype `ROW` [B].

    >>> rows_of([Transaction(event_time_ms=5, mcc="5411")])["mcc"].tolist()
    [5411]
    """
    rows = np.zeros(len(transactions), ROW)
    for position, transaction in enumerate(transactions):
        fill_row(rows, position, transaction)
    return rows
