"""Transactions for load tests: simulated ones with card tokens and ids that were never used."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

import numpy as np

from fraudstream.runtime.clock import epoch_ms
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.transaction_pb2 import Transaction
from training.simulator.simulate import SimulationSettings, live_traffic

_CARDS: Final = 2_000
# A key id that no key file has: these cards exist in load tests only.
_KEY_ID: Final = "loadtest"


def customer_number(transaction: Transaction) -> int:
    """Return the number of a simulated customer.

    >>> customer_number(Transaction(customer_id="customer-000688"))
    688
    """
    return int(transaction.customer_id.rpartition("-")[2])


def card_token(bank_id: str, number: int) -> str:
    """Return a made-up token.

    >>> card_token("bank", 1)
    'bank.loadtest.00000000000000000000000000000001'
    """
    return f"{bank_id}.{_KEY_ID}.{number:032x}"


def raw_traffic(seed: int) -> Iterator[Transaction]:
    """Yield one user's transactions with test PANs: ids that were never used, time is now."""
    run = secrets.token_hex(4)
    for simulated in live_traffic(SimulationSettings(seed=seed, cards=_CARDS)):
        transaction = simulated.transaction
        transaction.transaction_id = f"{run}-{seed}-{transaction.transaction_id}"
        transaction.event_time_ms = epoch_ms()
        yield transaction


def traffic(seed: int) -> Iterator[Transaction]:
    """Yield one user's transactions with card tokens in the place of PANs."""
    for transaction in raw_traffic(seed):
        # Setting one member of the oneof clears the other: the PAN.
        transaction.card_token = card_token(transaction.bank_id, customer_number(transaction))
        yield transaction


class FreshTransactions:
    """Transactions without end, made from some by new ids, other cards and the time of now.

    To simulate one takes ten times as long as to decide it. A customer here has many cards that
    paid alike, and each transaction is by any of them.
    """

    def __init__(self, models: Sequence[Transaction], cards: int, seed: int) -> None:
        self._models = models
        self._cards = cards
        self._random = np.random.default_rng(seed)
        self._run = secrets.token_hex(4)
        self._numbers = count()

    def take(self, wanted: int) -> Iterator[Transaction]:
        """Yield so many, as canonical as what they are made from."""
        now_ms = epoch_ms()
        for card in self._random.integers(0, self._cards, wanted).tolist():
            number = next(self._numbers)
            model = self._models[number % len(self._models)]
            transaction = Transaction()
            transaction.CopyFrom(model)
            of_customer = customer_number(model) * self._cards
            transaction.card_token = card_token(model.bank_id, of_customer + card)
            transaction.transaction_id = f"{self._run}-{number}"
            transaction.event_time_ms = now_ms
            yield transaction

    def requests(self, wanted: int) -> list[bytes]:
        """Return so many serialised `ScoreRequest`s, as a bank would send them."""
        requests = []
        for transaction in self.take(wanted):
            # What only ingest may set.
            transaction.ClearField("amount_reference_minor")
            transaction.ClearField("rate_table_version")
            requests.append(ScoreRequest(transaction=transaction).SerializeToString())
        return requests
