"""What is kept of an entity: one fixed-size packed value each, and the rows that move them on.

Buckets take event time, the ring takes arrival order. All fields are zero in an empty state.
Cost: a card 2,704 bytes, a shared entity 976.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import (
    FEATURE_SET_HASH,
    KERNEL_VERSION,
    LABEL_DELAY_D,
    MONTH_D,
    SEQUENCE_LENGTH,
)
from fraudstream.v1.transaction_pb2 import Location, Transaction

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
# Labels settle a quarter of a day at a time.
QUARTER_MS: Final = DAY_MS // 4

# A card's bucket levels lie one behind the other in one array: 12 of 5 minutes, 24 of an hour,
# 30 of a day. All windows of days share the days.
CARD_WIDTH_MS: Final = (5 * MINUTE_MS, HOUR_MS, DAY_MS)
CARD_BUCKETS: Final = (12, 24, MONTH_D)
CARD_START: Final = (0, 12, 36)
CARD_ALL: Final = 66

# Windows of a shared entity hold closed buckets only, so each level keeps the open one and some
# slack for rows of another source that run ahead. Days span the month and the label delay.
SHARED_MINUTES: Final = 64
SHARED_HOURS: Final = 26
SHARED_DAYS: Final = MONTH_D + LABEL_DELAY_D + 3
SHARED_SPEND_DAYS: Final = MONTH_D + 2
# A quarter is read until its whole day has settled.
SHARED_QUARTERS: Final = 4 * (LABEL_DELAY_D + 1) + 4

# A card silent for longer (in event time) starts afresh; the store's TTL is longer than this.
EXPIRY_D: Final = 90

_RING: Final = (SEQUENCE_LENGTH,)
CARD_STATE: Final = np.dtype(
    [
        ("previous_ms", "<i8"),
        ("first_ms", "<i8"),
        ("rows", "<i8"),
        ("place_ms", "<i8"),  # event time of the last row with a place; 0 for none
        ("latitude", "<f4"),
        ("longitude", "<f4"),
        ("usual", "<f8"),  # what the card usually spends; 0 for not known
        ("purchases", "<i8"),
        ("head", "<i8", (3,)),
        ("count", "<i4", (CARD_ALL,)),
        ("spend", "<i8", (CARD_ALL,)),
        ("largest", "<f4", (CARD_ALL,)),
        ("ring_event_ms", "<i8", _RING),
        ("ring_amount", "<f4", _RING),
        ("ring_ratio", "<f4", _RING),
        ("ring_value", "<u4", (6, SEQUENCE_LENGTH)),  # by `VALUES`
        ("ring_hour", "<f4", _RING),  # of the local day
        ("ring_is_night", "<i1", _RING),
        ("ring_is_weekend", "<i1", _RING),
        ("ring_is_remote", "<i1", _RING),
        ("ring_kind", "<i1", _RING),
        ("ring_channel", "<i1", _RING),
    ]
)

# What distinct counts and firsts look at: its index in `ring_value` and in a row's `value`.
VALUES: Final = ("terminal", "merchant", "device", "ip", "country", "mcc")

SHARED_STATE: Final = np.dtype(
    [
        ("applied", "<i8"),  # offset after the last row of the entities topic that moved it
        ("first_ms", "<i8"),
        ("newest_ms", "<i8"),
        ("minute_count", "<u2", (SHARED_MINUTES,)),
        ("hour_count", "<u4", (SHARED_HOURS,)),
        ("day_count", "<u4", (SHARED_DAYS,)),
        ("day_spend", "<i8", (SHARED_SPEND_DAYS,)),
        ("day_fraud", "<u2", (SHARED_DAYS,)),
        ("day_unusual", "<u2", (SHARED_DAYS,)),
        ("quarter_count", "<u2", (SHARED_QUARTERS,)),
        ("quarter_fraud", "<u1", (SHARED_QUARTERS,)),
        ("quarter_unusual", "<u1", (SHARED_QUARTERS,)),
    ]
)

ROW: Final = np.dtype(
    [
        ("event_ms", "<i8"),
        ("amount", "<i8"),
        ("value", "<u4", (6,)),  # by `VALUES`; 0 for none
        ("latitude", "<f4"),  # degrees; NaN for none
        ("longitude", "<f4"),
        ("utc_offset", "<i2"),
        ("kind", "<i1"),
        ("channel", "<i1"),
    ]
)

# The same as a form of `struct`: a fifth of the cost of numpy's assignment of a nested tuple.
_ROW_FORM: Final = struct.Struct("<qq6Iffhbb")
_LARGEST_ENUM: Final = 127
_MINUTES_OF_DAY: Final = 1440
_POLE: Final = 90.0
_HALF_TURN: Final = 180.0
# The year 9999: a time beyond it would close every window of its card for ever.
_LATEST_MS: Final = 253_402_300_800_000
_NOWHERE: Final = Location(latitude=math.nan, longitude=math.nan)

# A row of a shared entity: a counted transaction (`kind` not 0), or a label (`kind` 0).
SHARED_ROW: Final = np.dtype(
    [
        ("event_ms", "<i8"),
        ("amount", "<i8"),
        ("applied", "<i8"),
        ("kind", "<i1"),
        ("is_unusual", "<i1"),
        ("change", "<i1"),  # of the known frauds, for a label: +1, -1 or 0
    ]
)

_MCC_DIGITS: Final = 4
_COUNTRY_LETTERS: Final = 2

# States of another layout, catalogue order or kernel live under other keys and are never misread.
LAYOUT_HASH: Final = hashlib.sha256(
    "|".join((str(CARD_STATE), str(SHARED_STATE), str(ROW), str(KERNEL_VERSION))).encode()
    + FEATURE_SET_HASH.encode()
).hexdigest()[:8]


def hash_value(bank_id: str, value_id: str) -> int:
    """Return 32 bits that stand for a terminal, merchant, device or address of a bank; 0 for none.

    Two of the 32 values of a ring share their bits once in about ten million rings.

    >>> hash_value("bank", "")
    0
    """
    if not value_id:
        return 0
    digest = hashlib.blake2b(f"{bank_id}\x1f{value_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") or 1


def country_number(country: str) -> int:
    """Return a country's two letters as a number, 0 for none.

    >>> country_number(""), country_number("FR")
    (0, 18002)
    """
    return int.from_bytes(country.encode(), "big") if len(country) == _COUNTRY_LETTERS else 0


def mcc_number(mcc: str) -> int:
    """Return a merchant code as a number, 0 for one that is not four digits.

    >>> mcc_number("5411"), mcc_number("x")
    (5411, 0)
    """
    return int(mcc) if len(mcc) == _MCC_DIGITS and mcc.isdecimal() else 0


def is_packable(transaction: Transaction) -> bool:
    """Return whether a packed row can hold the numbers: one that cannot must not stop its shard.

    >>> is_packable(Transaction()), is_packable(Transaction(utc_offset_minutes=40_000))
    (True, False)
    """
    return (
        0 <= transaction.event_time_ms < _LATEST_MS
        and transaction.amount_reference_minor >= 0
        and 0 <= transaction.kind <= _LARGEST_ENUM
        and 0 <= transaction.channel <= _LARGEST_ENUM
        and abs(transaction.utc_offset_minutes) <= _MINUTES_OF_DAY
        and abs(transaction.location.latitude) <= _POLE
        and abs(transaction.location.longitude) <= _HALF_TURN
    )


def pack_row(transaction: Transaction) -> bytes:
    """Return a transaction as the bytes of one `ROW`. Amounts are reference minor units.

    >>> np.frombuffer(pack_row(Transaction(amount_reference_minor=250)), ROW)["amount"].tolist()
    [250]
    """
    bank = transaction.bank_id
    index = transaction.location if transaction.HasField("location") else _NOWHERE
    return _ROW_FORM.pack(
        transaction.event_time_ms,
        transaction.amount_reference_minor,
        hash_value(bank, transaction.terminal_id),
        hash_value(bank, transaction.merchant_id),
        hash_value(bank, transaction.device_id),
        hash_value(bank, transaction.ip),
        country_number(transaction.country),
        mcc_number(transaction.mcc),
        index.latitude,
        index.longitude,
        transaction.utc_offset_minutes,
        transaction.kind,
        transaction.channel,
    )


def rows_of(transactions: Sequence[Transaction]) -> npt.NDArray[np.void]:
    """Return transactions as packed rows, dtype `ROW` [B].

    >>> rows_of([Transaction(event_time_ms=5, mcc="5411")])["value"][0, 5].item()
    5411
    """
    return packed_rows(map(pack_row, transactions))


def packed_rows(rows: Iterable[bytes]) -> npt.NDArray[np.void]:
    """Return what `pack_row` made as one writable array, `ROW` [B].

    The kernels are compiled for writable arrays; for another kind they would compile again.

    >>> packed_rows([pack_row(Transaction(event_time_ms=5))])["event_ms"].tolist()
    [5]
    """
    return np.frombuffer(bytearray().join(rows), ROW)


def _float_words(dtype: np.dtype[np.void]) -> npt.NDArray[np.intp]:
    """Return which 32-bit words of a record are floats, or the half of one that has its exponent.

    >>> _float_words(np.dtype([("a", "<i8"), ("b", "<f4", (2,)), ("c", "<f8")])).tolist()
    [2, 3, 5]
    """
    words: list[int] = []
    for kind, offset, *_ in (dtype.fields or {}).values():
        size = kind.base.itemsize
        if kind.base.kind == "f":
            words += range((offset + size) // 4 - 1, (offset + kind.itemsize) // 4, size // 4)
    return np.array(words, np.intp)


_CARD_FLOATS: Final = _float_words(CARD_STATE)
_CARD_WORDS: Final = CARD_STATE.itemsize // 4
# What the compiled kernel reckons indices of its arrays from, which it does not check.
_COUNTS: Final = ("rows", "purchases")
_COUNT_END: Final = 1 << 62


def is_sound(states: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Return which stored states of cards hold finite numbers and possible counts; bool [n].

    Args:
        states: `CARD_STATE` [n]. A float64 beyond 10^306 counts as infinite.

    >>> broken = np.zeros(1, CARD_STATE)
    >>> broken["ring_amount"][0, 3] = np.nan
    >>> is_sound(broken).tolist()
    [False]
    >>> broken = np.zeros(1, CARD_STATE)
    >>> broken["rows"] = -2
    >>> is_sound(broken).tolist()
    [False]
    """
    # A float64's upper half is a float32 that is not finite where the float64 is not.
    words = np.ascontiguousarray(states).view(np.float32).reshape(len(states), _CARD_WORDS)
    sound = np.asarray(np.isfinite(words[:, _CARD_FLOATS]).all(axis=1))
    for name in _COUNTS:
        # A negative number is a large one without its sign.
        sound &= states[name].view(np.uint64) < _COUNT_END
    return sound
