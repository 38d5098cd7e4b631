"""Accepted transactions, and records of the accepted topic as a consumer returns them."""

from __future__ import annotations

from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.v1.decision_pb2 import AcceptedTransaction
from fraudstream.v1.transaction_pb2 import Transaction, TransactionKind

EVENT_MS: Final = 1_700_000_000_000
_OWN_KEY: Final = b"own key"


def transaction_of(
    transaction_id: str,
    amount_minor: int = 100,
    card: str = "card-1",
    terminal_id: str = "term-1",
    event_time_ms: int = EVENT_MS,
) -> Transaction:
    """Return a purchase as ingest accepts it."""
    return Transaction(
        bank_id="bank",
        transaction_id=transaction_id,
        card_token=card,
        kind=TransactionKind.TRANSACTION_KIND_PURCHASE,
        merchant_id="merchant-1",
        terminal_id=terminal_id,
        mcc="5411",
        amount_minor=amount_minor,
        currency="EUR",
        amount_reference_minor=amount_minor,
        event_time_ms=event_time_ms,
    )


def accepted_record(
    transaction: Transaction | None,
    offset: int,
    value: bytes = b"",
    key: bytes | None = _OWN_KEY,
) -> ConsumerRecord:
    """Return a record of the accepted topic; `value` stands where there is no transaction."""
    if transaction is not None:
        value = AcceptedTransaction(transaction=transaction).SerializeToString()
        key = transaction.card_token.encode() if key == _OWN_KEY else key
    return ConsumerRecord(
        topic="accepted",
        partition=0,
        offset=offset,
        timestamp=EVENT_MS,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=len(value),
        headers=(),
    )
