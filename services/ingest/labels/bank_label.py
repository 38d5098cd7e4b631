"""A label as a bank sends it, by its own transaction id; and the label that it becomes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraudstream.card_data.detector import CardData, kind_of
from fraudstream.card_data.numbers import BREAK, has_luhn_check
from fraudstream.card_data.sensitive_names import is_sensitive_name
from fraudstream.errors import InvalidTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction.card_token import CARD_TOKEN, Tokeniser
from fraudstream.transaction.event_time import TimeBounds, fault_of_time
from fraudstream.transaction.limits import BANK, PAN, TIMES_MS, TRANSACTION_ID
from fraudstream.v1.label_pb2 import LABEL_SOURCE_CHARGEBACK, Label
from services.ingest.labels.accepted_lookup import FoundTransaction

_EPOCH_MS: Final = Field(default=None, ge=TIMES_MS.start, le=TIMES_MS.stop)
_PRINTABLE: Final = f"^{TRANSACTION_ID.pattern}$"
_REASONS: Final = {
    "bank_id": RejectReason.BANK_INVALID,
    "transaction_id": RejectReason.ID_INVALID,
    "pan": RejectReason.PAN_INVALID,
    "card_token": RejectReason.CARD_TOKEN,
    "disposition": RejectReason.DISPOSITION,
    "event_time_ms": RejectReason.TIME_INVALID,
    "settled_at_ms": RejectReason.LABEL_TIME,
    "label_id": RejectReason.FIELD_TYPE,
}


class BankLabel(BaseModel):
    """What became of a transaction, in a bank's own terms; other fields are not looked at.

    Attributes:
        bank_id: The bank.
        transaction_id: Its id of the transaction.
        disposition: What the transaction turned out to be.
        pan: Card number, where an id alone does not tell the card.
        card_token: The same by its token.
        event_time_ms: When the transaction happened; spares a search of the whole archive.
        settled_at_ms: When it was found; None for when it arrives.
        label_id: The bank's own id of this act; one is derived where it has none.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        str_strip_whitespace=True,
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
    )

    bank_id: str = Field(pattern=f"^{BANK.pattern}$")
    transaction_id: str = Field(pattern=_PRINTABLE)
    disposition: Literal["confirmed_fraud", "genuine", "undetermined"]
    pan: str | None = Field(default=None, pattern=f"^{PAN.pattern}$", repr=False)
    card_token: str | None = Field(default=None, pattern=f"^{CARD_TOKEN.pattern}$")
    event_time_ms: int | None = _EPOCH_MS
    settled_at_ms: int | None = _EPOCH_MS
    label_id: str | None = Field(default=None, pattern=_PRINTABLE)

    @property
    def key(self) -> tuple[str, str]:
        """Bank and transaction id, by which its transaction is looked for."""
        return self.bank_id, self.transaction_id

    def cards(self, tokeniser: Tokeniser) -> frozenset[str]:
        """Return the tokens that its card may have, one for each key; none where no card is named.

        >>> label = read_bank_label(
        ...     {"bank_id": "b", "transaction_id": "t", "disposition": "genuine"}
        ... )
        >>> from fraudstream.transaction.card_token import TokenKeys
        >>> label.cards(Tokeniser(TokenKeys("k1", {"k1": bytes(32)})))
        frozenset()

        Raises:
            InvalidTransaction: Its token is under a key that nobody named.
        """
        if self.pan:
            return frozenset(tokeniser.tokens_of(self.bank_id, self.pan))
        if self.card_token:
            tokeniser.check(self.card_token)
        return frozenset([self.card_token] if self.card_token else [])


def read_bank_label(fields: Mapping[str, object] | None) -> BankLabel:
    """Return the label in some fields, by the names of `BankLabel`; empty ones are missing.

    Args:
        fields: What was read; None where that is no record at all.

    Raises:
        InvalidTransaction: It breaks the contract; the reason says how.
    """
    if fields is None:
        raise InvalidTransaction(RejectReason.DECODE, "not one record with the needed fields")
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    if any(is_sensitive_name(name, content) for name, content in given.items()):
        raise InvalidTransaction(RejectReason.SAD_PRESENT, RejectReason.SAD_PRESENT.text)
    try:
        label = BankLabel.model_validate(given)
    except ValidationError as exc:
        fault = exc.errors(include_input=False, include_url=False)[0]
        name = str(fault["loc"][0])
        raise InvalidTransaction(_REASONS[name], f"{name}: {fault['msg']}") from None
    if label.pan and label.card_token:
        raise InvalidTransaction(RejectReason.CARD_AMBIGUOUS, RejectReason.CARD_AMBIGUOUS.text)
    if label.pan and not has_luhn_check(label.pan):
        raise InvalidTransaction(RejectReason.PAN_INVALID, RejectReason.PAN_INVALID.text)
    found = kind_of(f"{label.bank_id}{BREAK}{label.transaction_id}{BREAK}{label.label_id or ''}")
    if found is CardData.SAD:
        raise InvalidTransaction(RejectReason.SAD_PRESENT, RejectReason.SAD_PRESENT.text)
    if found is CardData.PAN:
        raise InvalidTransaction(RejectReason.PAN_PRESENT, "an id holds a card number")
    return label


def settle(
    label: BankLabel, cards: frozenset[str], known: Mapping[str, FoundTransaction], now_ms: int
) -> Label:
    """Return the label of a transaction that was found.

    Args:
        label: What the bank said.
        cards: The tokens that its card may have; none where it named no card.
        known: Transactions with its bank and id, by card token.
        now_ms: Epoch milliseconds.

    Raises:
        InvalidTransaction: None fits, several do, or the label is older than the transaction.
    """
    fitting = [found for token, found in known.items() if not cards or token in cards]
    if not fitting:
        raise InvalidTransaction(RejectReason.LABEL_ORPHAN, RejectReason.LABEL_ORPHAN.text)
    if len(fitting) > 1:
        raise InvalidTransaction(RejectReason.LABEL_AMBIGUOUS, RejectReason.LABEL_AMBIGUOUS.text)
    (found,) = fitting
    if label.settled_at_ms and label.settled_at_ms < found.event_time_ms:
        raise InvalidTransaction(RejectReason.LABEL_TIME, RejectReason.LABEL_TIME.text)
    if label.settled_at_ms and fault_of_time(label.settled_at_ms, now_ms, TimeBounds()):
        msg = "settled_at_ms lies in the future"
        raise InvalidTransaction(RejectReason.LABEL_TIME, msg)
    return Label(
        label_id=_label_id(label, found.card_token),
        bank_id=label.bank_id,
        transaction_id=label.transaction_id,
        card_token=found.card_token,
        event_time_ms=found.event_time_ms,
        disposition=f"DISPOSITION_{label.disposition.upper()}",
        source=LABEL_SOURCE_CHARGEBACK,
        customer_id=found.customer_id,
        merchant_id=found.merchant_id,
        terminal_id=found.terminal_id,
        settled_at_ms=label.settled_at_ms or 0,
        device_id=found.device_id,
        ip=found.ip,
    )


def _label_id(label: BankLabel, card_token: str) -> str:
    """Return the id of an act of labelling: the same act always has the same one."""
    act = label.label_id or f"{label.disposition}\x1f{label.settled_at_ms or ''}"
    named = "\x1f".join((label.bank_id, card_token, label.transaction_id, act))
    return hashlib.sha256(named.encode()).hexdigest()[:32]
