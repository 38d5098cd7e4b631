"""One transaction at the gRPC door: checked, tokenised, with all that is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import InvalidTransaction, PermissionDenied
from fraudstream.features.state import pack_row
from fraudstream.features.stored_values import EntityKeys, entity_keys
from fraudstream.store.shard import DoorRow
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.topics import partition_of
from fraudstream.transaction.card_token import CARD_TOKEN, NO_TOKENS, Tokeniser
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.identity import Identity, digest_of, identity_of
from fraudstream.transaction.money import RateTable
from fraudstream.transaction.validate import canonicalise, validate_transaction
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.authorise.pan_quota import PanQuota
from services.scoring.rpc.grants import Grant

_LOOPBACK: Final = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_TLS: Final = b"ssl"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and in which trace.

    Attributes:
        is_private: Nobody can listen on the way: TLS or loopback.
        parent: The caller's span, None where it named none; its ids are not kept.
        grant: Its entry of the callers file; None where there is no such file.
        peer: Its address, as gRPC names it.
        method: What it calls, `/package.Service/Method`.
    """

    is_private: bool
    parent: TraceContext | None
    grant: Grant | None = None
    peer: str = ""
    method: str = ""

    @property
    def name(self) -> str:
        """Name of its grant; empty where everyone may call."""
        return self.grant.name if self.grant else ""

    def check_bank(self, transaction: Transaction) -> None:
        """Refuse another bank's transaction before anything is asked about it.

        Raises:
            PermissionDenied: Its `bank_id` or card token is of a bank that the grant is not for.
        """
        grant, token = self.grant, transaction.card_token
        if grant is None:
            return
        # What has no bank, or another token than its bank's, is not well formed: checked later.
        form = CARD_TOKEN.fullmatch(token) if token else None
        named = (transaction.bank_id, form.group(1) if form else "")
        if not all(grant.is_for(bank) for bank in named if bank):
            banks = ", ".join(grant.banks or ())
            msg = f"{grant.name} may bring transactions of {banks}, found another bank's"
            raise PermissionDenied(f"{msg} bank_id or card_token")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A transaction that may be decided.

    Attributes:
        transaction: In its canonical form, without a PAN.
        partition: The card's shard.
        row: As the store admits it.
        entities: Keys of its shared entities.
        span: The scoring span, which begins its trace.
        asked_by: Name of the caller's grant; empty where everyone may call.
    """

    transaction: Transaction
    partition: int
    row: DoorRow
    entities: EntityKeys
    span: TraceContext
    asked_by: str = ""

    @property
    def identity(self) -> Identity:
        """Return the identity, 16 bytes."""
        return Identity(self.row.identity)


def is_private(peer: str, auth_context: Callable[[], Mapping[str, Iterable[bytes]]]) -> bool:
    """Return whether nobody can listen between a gRPC peer and this process.

    Args:
        peer: As gRPC names it.
        auth_context: Tells what gRPC knows of the connection; asked only where it matters.

    >>> is_private("ipv4:127.0.0.1:5000", dict), is_private("ipv4:10.0.0.7:5000", dict)
    (True, False)
    >>> is_private("ipv4:10.0.0.7:5000", lambda: {"transport_security_type": [b"ssl"]})
    True
    """
    return peer.startswith(_LOOPBACK) or _TLS in auth_context().get("transport_security_type", ())


@dataclass(frozen=True, slots=True)
class Reception:
    """What turns a caller's transaction into an arrival.

    Attributes:
        tokeniser: Puts tokens in the place of PANs; None takes card tokens only.
        rates: Gives amounts in the reference currency.
        partitions: Number of card shards.
        sample_ratio: Share of new traces that are kept.
        bounds: How far event time may be from now.
        clock_ms: Epoch milliseconds.
        quota: Bounds how many PANs each grant may have turned into tokens; None for no bound.
    """

    tokeniser: Tokeniser | None
    rates: RateTable
    partitions: int
    sample_ratio: float
    bounds: TimeBounds
    clock_ms: Callable[[], int]
    quota: PanQuota | None = None

    def receive(self, transaction: Transaction, caller: Caller) -> Arrival:
        """Check a transaction and make it canonical, in place.

        Raises:
            PermissionDenied: It is of a bank that the caller may not ask for.
            InvalidTransaction: It breaks the contract, or brings a PAN over an open line.
            LateTransaction: It is older than the lateness bound.
            QuotaExceeded: It brings a PAN more than the caller may in this time.
        """
        caller.check_bank(transaction)
        tokeniser = self.tokeniser
        if transaction.pan and (tokeniser is None or not caller.is_private):
            msg = "a PAN is taken over TLS or loopback, where token keys are set; send a card_token"
            raise InvalidTransaction("PAN_REFUSED", msg)
        transaction.DiscardUnknownFields()
        validate_transaction(transaction, self.clock_ms(), self.bounds)
        if transaction.pan and caller.grant and self.quota:
            self.quota.take(caller.name)
        canonicalise(transaction, tokeniser or NO_TOKENS, self.rates)
        return self._arrival(transaction, caller)

    def _arrival(self, transaction: Transaction, caller: Caller) -> Arrival:
        token, parent = transaction.card_token, caller.parent
        identity = identity_of(transaction.bank_id, token, transaction.transaction_id)
        packed = pack_row(transaction)
        return Arrival(
            transaction=transaction,
            partition=partition_of(token.encode(), self.partitions),
            row=DoorRow(identity, digest_of(transaction), token, packed),
            entities=entity_keys(transaction),
            span=TraceContext.instead_of(parent, self.sample_ratio),
            asked_by=caller.name,
        )
