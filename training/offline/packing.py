"""Canonical columns to packed records: transactions, labels, and the digests of decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraudstream.canonical import AMOUNT_REFERENCE
from fraudstream.errors import InvalidSettings
from fraudstream.features.codec import SHARED_FIELDS
from fraudstream.features.state import ROW, VALUES, country_number, hash_value, mcc_number
from fraudstream.indicative_rates import REFERENCE_CURRENCY
from fraudstream.v1.transaction_pb2 import TransactionKind
from training.offline.checks import LARGEST_AMOUNT, NOT_KNOWN, Columns
from training.offline.layout import DECIDED, LABEL, MISSING, NONE, PACKED_ROW
from training.offline.names import REMEMBERED, Distinct, Names, mixed, name_bits, text_bits
from training.offline.plan import Plan
from training.offline.work import Records

DEFAULT_BANK: Final = "bank"
_SEPARATOR: Final = "\x1f"
_PURCHASE: Final = int(TransactionKind.TRANSACTION_KIND_PURCHASE)
_MINUTES_OF_DAY: Final = 1440
_LOG_BITS, _OFFSET_BITS = 20, 42
_VALUE_FIELDS: Final = {"terminal_id": 0, "merchant_id": 1, "device_id": 2, "ip": 3}
_DIGESTED: Final = ("amount_minor", "currency", "merchant_id", "terminal_id", "event_time_ms")
_COMPARED: Final = ("merchant_id", "terminal_id")


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Transactions, and the texts that only the training set itself needs.

    Attributes:
        rows: `PACKED_ROW` [N].
        ids: Card tokens and transaction ids, in the same order.
    """

    rows: Records
    ids: pa.RecordBatch

    def take(self, place: NDArray[np.int64]) -> PackedRows:
        """Return the rows at some places, each named once; all of them in order are these."""
        if len(place) == len(self.rows) and (np.diff(place) > 0).all():
            return self
        return PackedRows(self.rows[place], self.ids.take(pa.array(place)))


def _joined(bank: pa.StringArray, ids: pa.StringArray) -> pa.StringArray:
    """Return `bank, separator, id` for each row, empty where there is no id."""
    joined = pc.binary_join_element_wise(bank, ids, _SEPARATOR)
    return pc.if_else(pc.equal(ids, ""), "", joined)


@lru_cache(REMEMBERED)
def _hash_joined(text: str) -> int:
    bank, _, value = text.partition(_SEPARATOR)
    return hash_value(bank, value)


def pack_rows(columns: Columns, plan: Plan, log: int = 0) -> PackedRows:
    """Pack transactions.

    Args:
        columns: Canonical ones, as far as they are there.
        plan: Says whether they have partitions and offsets, and whether decisions.
        log: Number of the log.

    Raises:
        InvalidSettings: A value breaks the contract; the message says where.
    """
    bank = columns.texts("bank_id", DEFAULT_BANK)
    tokens, ids = columns.needed_texts("card_token"), columns.needed_texts("transaction_id")
    packed = np.zeros(len(columns), PACKED_ROW)
    packed["row"] = _feature_rows(columns)
    for number, field in enumerate(SHARED_FIELDS):
        if not columns.has(field):
            continue
        distinct = Distinct.of(_joined(bank, columns.texts(field)))
        packed["entities"][:, number] = distinct.numbers(name_bits)
        if field in _VALUE_FIELDS:
            packed["row"]["value"][:, _VALUE_FIELDS[field]] = distinct.numbers(_hash_joined)
    packed["card"] = Distinct.of(tokens).numbers(name_bits)
    packed["transaction"] = text_bits(bank, ids)
    packed["arrival_ms"] = columns.times("arrival_time_ms", packed["row"]["event_ms"])
    if plan.is_log:
        packed["first"], packed["second"] = _log_order(columns, log)
        digests_of = _digests if plan.has_decisions else _own_digests
        packed["digest"] = digests_of(columns, bank, packed)
    else:
        packed["first"] = packed["row"]["event_ms"]
        packed["second"] = columns.first + np.arange(len(columns))
    _add_labels(columns, packed)
    return PackedRows(packed, pa.record_batch([tokens, ids], ["card_token", "transaction_id"]))


def _feature_rows(columns: Columns) -> Records:
    """Return what the kernel reads, `ROW` [N], but for the entities' values."""
    rows = np.zeros(len(columns), ROW)
    rows["event_ms"] = columns.times("event_time_ms", None)
    rows["amount"] = _amounts(columns)
    minutes = (-_MINUTES_OF_DAY, _MINUTES_OF_DAY + 1, "minutes east of UTC, -1440 to 1440")
    rows["utc_offset"] = columns.wholes("utc_offset_minutes", minutes, 0)
    rows["kind"], rows["channel"] = columns.enum("kind", _PURCHASE), columns.enum("channel", 0)
    rows["value"][:, VALUES.index("country")] = _codes(
        columns, "country", country_number, "two letters, ISO 3166-1 alpha-2"
    )
    rows["value"][:, VALUES.index("mcc")] = _codes(
        columns, "mcc", mcc_number, "four digits, ISO 18245"
    )
    latitude = columns.numbers("latitude", "degrees, -90 to 90", 90.0)
    longitude = columns.numbers("longitude", "degrees, -180 to 180", 180.0)
    has_place = ~(np.isnan(latitude) | np.isnan(longitude))
    rows["latitude"] = np.where(has_place, latitude, np.nan)
    rows["longitude"] = np.where(has_place, longitude, np.nan)
    return rows


def _codes(
    columns: Columns, name: str, number_of: Callable[[str], int], expected: str
) -> NDArray[np.int64]:
    def checked(text: str) -> int:
        number = number_of(text)
        is_odd = bool(text) and number == 0 and text != "0000"
        return NOT_KNOWN if is_odd else number

    found = columns.mapped(name, checked)
    columns.refuse(name, found == NOT_KNOWN, expected)
    return found


def _amounts(columns: Columns) -> NDArray[np.int64]:
    """Return amounts in reference minor units, int64 [N]."""
    bounds = (0, LARGEST_AMOUNT + 1, f"a whole number of minor units, 0 to {LARGEST_AMOUNT}")
    if columns.has(AMOUNT_REFERENCE):
        return columns.wholes(AMOUNT_REFERENCE, bounds, None)
    is_foreign = pc.not_equal(columns.texts("currency"), REFERENCE_CURRENCY)
    columns.refuse(
        "currency",
        is_foreign.to_numpy(zero_copy_only=False),
        f"{REFERENCE_CURRENCY}, as there is no column {AMOUNT_REFERENCE}",
    )
    return columns.wholes("amount_minor", bounds, None)


def _log_order(columns: Columns, log: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    partition = columns.wholes("log_partition", (0, 1 << _LOG_BITS, "a partition"), 0)
    offset = columns.wholes("log_offset", (0, 1 << _OFFSET_BITS, "an offset"), None)
    return (log << _LOG_BITS) + partition, offset


def place_in_log(columns: Columns, log: int) -> NDArray[np.int64]:
    """Return one number that orders records of a log, or of a file without one; int64 [N]."""
    if not columns.has("log_offset"):
        return columns.first + np.arange(len(columns), dtype=np.int64)
    partition, offset = _log_order(columns, log)
    return (partition << _OFFSET_BITS) + offset


def _own_digests(columns: Columns, bank: pa.StringArray, packed: Records) -> Names:
    """Return what differs where a digest would, for rows that are compared with each other only."""
    del bank  # it is in the transaction's name
    amount = packed["row"]["amount"]
    if columns.has("amount_minor"):
        amount = columns.batch["amount_minor"].cast(pa.int64()).fill_null(0).to_numpy()
    compared = [amount, packed["row"]["kind"], packed["row"]["event_ms"]]
    compared += [packed["entities"][:, SHARED_FIELDS.index(name)] for name in _COMPARED]
    return mixed(*compared, text_bits(columns.texts("currency")))


def _digests(columns: Columns, bank: pa.StringArray, packed: Records) -> Names:
    """Return the first 64 bits of each transaction's digest (`identity.digest_of`)."""
    amount = AMOUNT_REFERENCE if not columns.has("amount_minor") else "amount_minor"
    texts = {name: columns.texts(name) for name in _DIGESTED}
    texts["amount_minor"] = columns.texts(amount)
    kinds = pa.array(packed["row"]["kind"]).cast(pa.string())
    listing = pc.binary_join_element_wise(
        bank,
        columns.texts("transaction_id"),
        columns.texts("card_token"),
        kinds,
        *(texts[name] for name in _DIGESTED),
        _SEPARATOR,
    )
    digests = [hashlib.sha256(text.encode()).digest()[:8] for text in listing.to_pylist()]
    return np.frombuffer(b"".join(digests), "<u8")


def _add_labels(columns: Columns, packed: Records) -> None:
    """Take the labels that stand in the transactions' own rows."""
    packed["label_arrival_ms"] = NONE
    if not columns.has("is_fraud"):
        return
    if not columns.has("label_arrival_time_ms"):
        msg = (
            f"{columns.name}: column label_arrival_time_ms is missing: is_fraud needs it beside it,"
            " epoch milliseconds at which each label arrived (null for a row without one)"
        )
        raise InvalidSettings(msg)
    verdict = (0, 2, "0 or 1, false or true")
    packed["is_fraud"] = columns.wholes("is_fraud", verdict, 0)
    arrival = columns.times("label_arrival_time_ms", NONE)
    columns.refuse(
        "label_arrival_time_ms",
        (packed["is_fraud"] == 1) & (arrival == NONE),
        "the time at which the fraud became known",
    )
    packed["label_arrival_ms"] = arrival


def pack_labels(columns: Columns, log: int = 0) -> Records:
    """Pack settled labels, `LABEL` [L]; those that settle nothing are left out.

    Raises:
        InvalidSettings: A value breaks the contract; the message says where.
    """
    bank = columns.texts("bank_id", DEFAULT_BANK)
    packed = np.zeros(len(columns), LABEL)
    packed["card"] = Distinct.of(columns.needed_texts("card_token")).numbers(name_bits)
    packed["transaction"] = text_bits(bank, columns.needed_texts("transaction_id"))
    packed["arrival_ms"] = columns.times("arrival_time_ms", None)
    packed["event_ms"] = columns.times("event_time_ms", NONE)
    packed["place"] = place_in_log(columns, log)
    for number, field in enumerate(SHARED_FIELDS):
        if columns.has(field):
            joined = _joined(bank, columns.texts(field))
            packed["entities"][:, number] = Distinct.of(joined).numbers(name_bits)
        else:
            packed["entities"][:, number] = MISSING
    dispositions = columns.texts("disposition")
    columns.enum("disposition", 0)
    packed["is_fraud"] = pc.equal(dispositions, "confirmed_fraud").to_numpy(zero_copy_only=False)
    settles = pc.is_in(dispositions, value_set=pa.array(["confirmed_fraud", "genuine"]))
    settling: Records = packed[settles.to_numpy(zero_copy_only=False)]
    return settling


def pack_decisions(columns: Columns, log: int = 0) -> Records:
    """Pack the digests of decisions, `DECIDED` [D]."""
    bank = columns.texts("bank_id", DEFAULT_BANK)
    packed = np.zeros(len(columns), DECIDED)
    packed["card"] = Distinct.of(columns.needed_texts("card_token")).numbers(name_bits)
    packed["transaction"] = text_bits(bank, columns.needed_texts("transaction_id"))
    packed["place"] = place_in_log(columns, log)
    digests = columns.batch["digest"].to_pylist()
    packed["digest"] = [int.from_bytes((digest or b"")[:8], "little") for digest in digests]
    return packed
