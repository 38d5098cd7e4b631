"""What a transaction behind the doors can hold: what ingest lets through, with its token.

Budget: 5 µs.
"""

from __future__ import annotations

from fraudstream.bounds.fields import (
    first_fault,
    is_address,
    is_bank,
    is_event_ms,
    is_name,
    is_number,
    is_token_of,
    is_word,
)
from fraudstream.transaction.iso_codes import COUNTRIES, CURRENCY_EXPONENTS
from fraudstream.transaction.limits import (
    CHANNELS,
    ENTRY_MODES,
    KINDS,
    LATITUDE,
    LONGITUDE,
    MCC,
    UTC_OFFSETS_MINUTES,
    VERIFICATION,
)
from fraudstream.transaction.money import MAX_AMOUNT_MINOR, MAX_REFERENCE_MINOR
from fraudstream.v1.transaction_pb2 import Transaction


def fault_of_transaction(transaction: Transaction, appended_ms: int) -> str:
    """Return the first field that no door would have let through, empty for none.

    Args:
        transaction: As it lies behind the doors, with its card token.
        appended_ms: When the broker took its record, epoch milliseconds.
    """
    return (
        _fault_of_ids(transaction)
        or _fault_of_amount(transaction)
        or _fault_of_codes(transaction)
        or ("" if is_event_ms(transaction.event_time_ms, appended_ms) else "event_time_ms")
    )


def _fault_of_ids(transaction: Transaction) -> str:
    bank = transaction.bank_id
    return first_fault(
        (
            (is_bank(bank), "bank_id"),
            (is_number(transaction.transaction_id), "transaction_id"),
            # A card number has no token: the two are one choice.
            (is_token_of(transaction.card_token, bank), "card_token"),
            (is_name(transaction.customer_id), "customer_id"),
            (is_name(transaction.merchant_id), "merchant_id"),
            (is_name(transaction.terminal_id), "terminal_id"),
            (bool(transaction.merchant_id or transaction.terminal_id), "merchant_id"),
            (is_name(transaction.device_id), "device_id"),
            (is_address(transaction.ip), "ip"),
        )
    )


def _fault_of_amount(transaction: Transaction) -> str:
    amount, exponent = transaction.amount_minor, CURRENCY_EXPONENTS.get(transaction.currency)
    is_free = transaction.kind == VERIFICATION
    has_exponent = transaction.HasField("currency_exponent")
    return first_fault(
        (
            (transaction.kind in KINDS, "kind"),
            ((0 if is_free else 1) <= amount <= MAX_AMOUNT_MINOR, "amount_minor"),
            (exponent is not None, "currency"),
            (not has_exponent or transaction.currency_exponent == exponent, "currency_exponent"),
            (
                0 <= transaction.amount_reference_minor <= MAX_REFERENCE_MINOR,
                "amount_reference_minor",
            ),
            (is_word(transaction.rate_table_version), "rate_table_version"),
        )
    )


def _fault_of_codes(transaction: Transaction) -> str:
    mcc, country, location = transaction.mcc, transaction.country, transaction.location
    return first_fault(
        (
            (transaction.channel in CHANNELS, "channel"),
            (transaction.entry_mode in ENTRY_MODES, "entry_mode"),
            (not mcc or MCC.fullmatch(mcc) is not None, "mcc"),
            (not country or country in COUNTRIES, "country"),
            (transaction.utc_offset_minutes in UTC_OFFSETS_MINUTES, "utc_offset_minutes"),
            # NaN is in no interval. Without a location both are 0.
            (abs(location.latitude) <= LATITUDE, "location"),
            (abs(location.longitude) <= LONGITUDE, "location"),
        )
    )
