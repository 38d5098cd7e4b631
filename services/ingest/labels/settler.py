"""Labels of banks in, labels of transactions out: many are looked up together, then sent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from kafka import KafkaProducer

from fraudstream.broker.clients import SignedSender, broker_faults, kafka_python_producer_options
from fraudstream.dead_letters.letter import DeadLetter
from fraudstream.errors import InvalidTransaction
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DLQ, LABELS
from fraudstream.transaction.card_token import Tokeniser
from fraudstream.v1.label_pb2 import Label
from services.ingest.labels.accepted_lookup import AcceptedLookup, Key
from services.ingest.labels.bank_label import BankLabel, settle

Settled = Label | InvalidTransaction
"""A label, or why there is none."""

_ACK_TIMEOUT_S: Final = 60


class LabelSettler:
    """Finds the transactions of banks' labels.

    Args:
        lookup: Where transactions are looked up.
        tokeniser: Makes a card's tokens, under older keys too.
        clock_ms: Epoch milliseconds.
    """

    def __init__(
        self, lookup: AcceptedLookup, tokeniser: Tokeniser, clock_ms: Callable[[], int]
    ) -> None:
        self._lookup = lookup
        self._tokeniser = tokeniser
        self.clock_ms = clock_ms

    def settle(self, labels: Sequence[BankLabel], again: Collection[Key] = ()) -> list[Settled]:
        """Return the outcome of each label, in order; the archive is read once for all.

        Args:
            labels: What banks said.
            again: Keys that were looked for in vain, as `AcceptedLookup.find` means them.
        """
        wanted: dict[Key, int | None] = {}
        for label in labels:
            is_told = wanted.get(label.key, 0) is not None
            wanted[label.key] = label.event_time_ms if is_told else None
        found = self._lookup.find(wanted, again)
        now_ms = self.clock_ms()
        outcomes: list[Settled] = []
        for label in labels:
            try:
                cards = label.cards(self._tokeniser)
                outcomes.append(settle(label, cards, found.get(label.key, {}), now_ms))
            except InvalidTransaction as exc:
                outcomes.append(exc)
        return outcomes


class LabelOutlet:
    """Sends labels to `labels.settled.v1`, keyed by card token, and dead letters."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        with broker_faults(kafka):
            self._producer = KafkaProducer(**kafka_python_producer_options(kafka))
        self._sender = SignedSender(self._producer, kafka, "ingest")

    def send(self, labels: Sequence[Label], letters: Sequence[DeadLetter] = ()) -> None:
        """Return when all are acknowledged.

        Raises:
            BrokerUnavailable: One of them is not; others may be.
        """
        settled, dead = self._kafka.topic(LABELS), self._kafka.topic(DLQ)
        with broker_faults(self._kafka, f"writing {settled}"):
            futures = [
                self._sender.send(settled, one.card_token.encode(), one.SerializeToString())
                for one in labels
            ]
            futures += [
                self._sender.send(dead, one.key, one.value, headers=one.headers) for one in letters
            ]
            for future in futures:
                future.get(timeout=_ACK_TIMEOUT_S)

    def close(self) -> None:
        """Disconnect."""
        self._producer.close(timeout=_ACK_TIMEOUT_S)
