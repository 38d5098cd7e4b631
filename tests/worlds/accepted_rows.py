"""Accepted transactions, and records of the accepted topic as a consumer returns them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.transaction.identity import Identity, alert_id_of, digest_of, identity_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Action, Decision, LogCoordinates
from fraudstream.v1.transaction_pb2 import Channel, Transaction, TransactionKind
from services.features.shards.source_ends import RowAt

EVENT_MS: Final = 1_700_000_000_000
_OWN_KEY: Final = b"own key"


def token_of(card: str, bank: str = "bank") -> str:
    """Return the card token of a card by its short name."""
    return f"{bank}.k1.{hashlib.sha256(card.encode()).hexdigest()[:32]}"


async def all_reached(rows: Sequence[RowAt]) -> list[RowAt]:
    """Leave no row out: the logs are in memory, and only their own rows lie there."""
    return list(rows)


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
        card_token=token_of(card),
        kind=TransactionKind.TRANSACTION_KIND_PURCHASE,
        merchant_id="merchant-1",
        terminal_id=terminal_id,
        mcc="5411",
        amount_minor=amount_minor,
        currency="EUR",
        channel=Channel.CHANNEL_POS,
        amount_reference_minor=amount_minor,
        event_time_ms=event_time_ms,
    )


def decision_about(
    transaction: Transaction, action: Action = Action.ACTION_APPROVE, *, is_of_log: bool = False
) -> Decision:
    """Return a decision about a transaction as scoring makes it, without features."""
    identity = identity_of(transaction.bank_id, transaction.card_token, transaction.transaction_id)
    coordinates = LogCoordinates(topic_id=bytes(16)) if is_of_log else None
    return Decision(
        decision_id=identity.hex(),
        bank_id=transaction.bank_id,
        transaction_id=transaction.transaction_id,
        card_token=transaction.card_token,
        digest=digest_of(transaction),
        action=action,
        score=0.25,
        raw_score=0.5,
        event_time_ms=transaction.event_time_ms,
        coordinates=coordinates,
        transaction=transaction,
    )


def alert_about(decision: Decision) -> Alert:
    """Return the alert of a decision."""
    identity = Identity(bytes.fromhex(decision.decision_id))
    return Alert(
        alert_id=alert_id_of(identity), decision=decision, raised_at_ms=decision.event_time_ms
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
        # The broker took it when it happened.
        timestamp=transaction.event_time_ms if transaction else EVENT_MS,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=len(value),
        headers=(),
    )
