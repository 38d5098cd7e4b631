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

from fraudstream.archive.columns import AMOUNT_REFERENCE
from fraudstream.errors import InvalidSettings, InvalidTransaction
from fraudstream.features.state import ROW, VALUES, country_number, hash_value, mcc_number
from fraudstream.features.stored_values import SHARED_FIELDS
from fraudstream.names import canonical_address, canonical_name
from fraudstream.v1.transaction_pb2 import TransactionKind
from training.offline.layout import DECIDED, FRAUD, LABEL, MISSING, NONE, PACKED_ROW, UNSAID
from training.offline.names import REMEMBERED, Distinct, Names, mixed, name_bits, text_bits
from training.offline.parts import segment_column
from training.offline.plan import Plan, Request
from training.offline.source.amounts import reference_amounts
from training.offline.source.as_ingest import check_columns, check_rows
from training.offline.source.checks import NOT_KNOWN, Columns
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

    def take(self, index: NDArray[np.int64]) -> PackedRows:
        """Return the rows at some indices, each named once; all of them in order are these."""
        if len(index) == len(self.rows) and (np.diff(index) > 0).all():
            return self
        return PackedRows(self.rows[index], self.ids.take(pa.array(index)))


def _joined(bank: pa.StringArray, ids: pa.StringArray) -> pa.StringArray:
    """Return `bank, separator, id` for each row, empty where there is no id."""
    joined = pc.binary_join_element_wise(bank, ids, _SEPARATOR)
    return pc.if_else(pc.equal(ids, ""), "", joined)


def _entity_ids(columns: Columns, field: str) -> pa.StringArray:
    """Return a column of entity ids in the spelling that both doors give them.

    Raises:
        InvalidSettings: One is an id that no door takes.
    """
    encoded = columns.texts(field).dictionary_encode()
    spelled = [_spelled(field, text) for text in encoded.dictionary.to_pylist()]
    ids = pa.array(spelled, pa.string()).take(encoded.indices)
    expected = "an address" if field == "ip" else "an id of up to 64 printable characters"
    columns.refuse(field, ids.is_null().to_numpy(zero_copy_only=False), expected)
    return pc.fill_null(ids, "")


@lru_cache(REMEMBERED)
def _spelled(field: str, text: str) -> str | None:
    """Return the one spelling of an entity's id, None where it can have none."""
    try:
        return canonical_address(text) if field == "ip" and text else canonical_name(field, text)
    except (ValueError, InvalidTransaction):
        return None


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
    if plan.is_own:
        check_columns(columns)
    bank = columns.texts("bank_id", DEFAULT_BANK)
    tokens, ids = columns.needed_texts("card_token"), columns.needed_texts("transaction_id")
    packed = np.zeros(len(columns), PACKED_ROW)
    packed["row"] = _feature_rows(columns, plan.request)
    for number, field in enumerate(SHARED_FIELDS):
        if not columns.has(field):
            continue
        distinct = Distinct.of(_joined(bank, _entity_ids(columns, field)))
        packed["entities"][:, number] = distinct.numbers(name_bits)
        if field in _VALUE_FIELDS:
            packed["row"]["value"][:, _VALUE_FIELDS[field]] = distinct.numbers(_hash_joined)
    packed["card"] = Distinct.of(tokens).numbers(name_bits)
    packed["transaction"] = text_bits(bank, ids)
    packed["arrival_ms"] = columns.times("arrival_time_ms", packed["row"]["event_ms"])
    if plan.is_log:
        packed["first"], packed["second"] = _log_order(columns, log)
    else:
        packed["first"] = packed["row"]["event_ms"]
        packed["second"] = columns.first + np.arange(len(columns))
    digests_of = _digests if plan.has_decisions else _own_digests
    packed["digest"] = digests_of(columns, bank, packed)
    _add_labels(columns, packed)
    if plan.is_own:
        check_rows(columns, packed)
    segments = plan.request.segments
    names = pa.record_batch(
        [tokens, ids, *map(columns.texts, segments)],
        ["card_token", "transaction_id", *map(segment_column, segments)],
    )
    found = PackedRows(packed, names)
    return found if columns.dropped is None else found.take(np.flatnonzero(~columns.dropped))


def _feature_rows(columns: Columns, request: Request) -> Records:
    """Return what the kernel reads, `ROW` [N], but for the entities' values."""
    rows = np.zeros(len(columns), ROW)
    rows["event_ms"] = columns.times("event_time_ms", None)
    rows["amount"] = reference_amounts(columns, request, rows["event_ms"])
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


def _log_order(columns: Columns, log: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    partition = columns.wholes("log_partition", (0, 1 << _LOG_BITS, "a partition"), 0)
    offset = columns.wholes("log_offset", (0, 1 << _OFFSET_BITS, "an offset"), None)
    return (log << _LOG_BITS) + partition, offset


def order_in_log(columns: Columns, log: int) -> NDArray[np.int64]:
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
    packed["label_arrival_ms"], packed["is_fraud"] = NONE, UNSAID
    if not columns.has("is_fraud"):
        return
    if not columns.has("label_arrival_time_ms"):
        msg = (
            f"{columns.name}: column label_arrival_time_ms is missing: is_fraud needs it beside it,"
            " epoch milliseconds at which each label arrived (null for a row without one)"
        )
        raise InvalidSettings(msg)
    flag = (0, 2, "0 or 1, false or true")
    packed["is_fraud"] = columns.wholes("is_fraud", flag, UNSAID)
    arrival = columns.times("label_arrival_time_ms", NONE)
    columns.refuse(
        "label_arrival_time_ms",
        (packed["is_fraud"] == FRAUD) & (arrival == NONE),
        "the time at which the fraud became known",
    )
    columns.refuse(
        "is_fraud",
        (packed["is_fraud"] == UNSAID) & (arrival != NONE),
        "0 or 1, as label_arrival_time_ms says that a label arrived (null in both where none did)",
    )
    packed["label_arrival_ms"] = arrival


def pack_labels(columns: Columns, log: int = 0) -> Records:
    """Pack labels, `LABEL` [L]; rows without a disposition are left out.

    Raises:
        InvalidSettings: A value breaks the contract; the message says where.
    """
    bank = columns.texts("bank_id", DEFAULT_BANK)
    packed = np.zeros(len(columns), LABEL)
    packed["card"] = Distinct.of(columns.needed_texts("card_token")).numbers(name_bits)
    packed["transaction"] = text_bits(bank, columns.needed_texts("transaction_id"))
    packed["arrival_ms"] = columns.times("arrival_time_ms", None)
    packed["event_ms"] = columns.times("event_time_ms", NONE)
    packed["place"] = order_in_log(columns, log)
    for number, field in enumerate(SHARED_FIELDS):
        if columns.has(field):
            joined = _joined(bank, _entity_ids(columns, field))
            packed["entities"][:, number] = Distinct.of(joined).numbers(name_bits)
        else:
            packed["entities"][:, number] = MISSING
    dispositions = columns.texts("disposition")
    columns.enum("disposition", 0)
    for says, name in ((FRAUD, "confirmed_fraud"), (UNSAID, "undetermined")):
        packed["is_fraud"][pc.equal(dispositions, name).to_numpy(zero_copy_only=False)] = says
    labelling: Records = packed[pc.not_equal(dispositions, "").to_numpy(zero_copy_only=False)]
    return labelling


def pack_decisions(columns: Columns, log: int = 0) -> Records:
    """Pack the digests of decisions, `DECIDED` [D]."""
    bank = columns.texts("bank_id", DEFAULT_BANK)
    packed = np.zeros(len(columns), DECIDED)
    packed["card"] = Distinct.of(columns.needed_texts("card_token")).numbers(name_bits)
    packed["transaction"] = text_bits(bank, columns.needed_texts("transaction_id"))
    packed["place"] = order_in_log(columns, log)
    digests = columns.batch["digest"].to_pylist()
    packed["digest"] = [int.from_bytes((digest or b"")[:8], "little") for digest in digests]
    return packed
