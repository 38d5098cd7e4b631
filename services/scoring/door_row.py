"""One transaction at the gRPC door: checked, tokenised, with all that is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import InvalidTransaction
from fraudstream.features.codec import EntityKeys, entity_keys
from fraudstream.features.state import pack_row
from fraudstream.identity import Identity, digest_of, identity_of
from fraudstream.money import RateTable
from fraudstream.privacy import Tokeniser, TokenKeys
from fraudstream.shard import DoorRow
from fraudstream.telemetry import TraceContext
from fraudstream.topics import partition_of
from fraudstream.transaction import TimeBounds, canonicalise, validate_transaction
from fraudstream.v1.transaction_pb2 import Transaction

_LOOPBACK: Final = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_TLS: Final = b"ssl"
# Never used: without keys no PAN gets past the check before it.
_NO_TOKENS: Final = Tokeniser(TokenKeys("none", {"none": bytes(32)}))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and in which trace.

    Attributes:
        is_private: Nobody can listen on the way: TLS or loopback.
        parent: The caller's span, None where it named none.
    """

    is_private: bool
    parent: TraceContext | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A transaction that may be decided.

    Attributes:
        transaction: In its canonical form, without a PAN.
        partition: The card's shard.
        row: As the store admits it.
        entities: Keys of its shared entities.
        span: The scoring span.
        parent: The span that it belongs to.
    """

    transaction: Transaction
    partition: int
    row: DoorRow
    entities: EntityKeys
    span: TraceContext
    parent: TraceContext | None

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
    """

    tokeniser: Tokeniser | None
    rates: RateTable
    partitions: int
    sample_ratio: float
    bounds: TimeBounds
    clock_ms: Callable[[], int]

    def receive(self, transaction: Transaction, caller: Caller) -> Arrival:
        """Check a transaction and make it canonical, in place.

        Raises:
            InvalidTransaction: It breaks the contract, or brings a PAN over an open line.
            LateTransaction: It is older than the lateness bound.
        """
        tokeniser = self.tokeniser
        if transaction.pan and (tokeniser is None or not caller.is_private):
            msg = "a PAN is taken over TLS or loopback, where token keys are set; send a card_token"
            raise InvalidTransaction("PAN_REFUSED", msg)
        transaction.DiscardUnknownFields()
        validate_transaction(transaction, self.clock_ms(), self.bounds)
        canonicalise(transaction, tokeniser or _NO_TOKENS, self.rates)
        return self._arrival(transaction, caller.parent)

    def _arrival(self, transaction: Transaction, parent: TraceContext | None) -> Arrival:
        token = transaction.card_token
        identity = identity_of(transaction.bank_id, token, transaction.transaction_id)
        packed = pack_row(transaction)
        return Arrival(
            transaction=transaction,
            partition=partition_of(token.encode(), self.partitions),
            row=DoorRow(identity, digest_of(transaction), token, packed),
            entities=entity_keys(transaction),
            span=parent.child() if parent else TraceContext.start(self.sample_ratio),
            parent=parent,
        )
