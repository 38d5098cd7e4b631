"""Histories to learn from: the simulator's, and the Handbook's, as the offline driver reads them.

N rows in arrival order; L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.features.catalogue import Entity
from fraudstream.features.history import History, Ints, Numbers, fraud_labels
from fraudstream.features.state import ROW, VALUES, country_number, hash_value
from fraudstream.features.stored_values import entity_key
from fraudstream.v1 import transaction_pb2 as pb
from training.simulator import devices, messages
from training.simulator.handbook_columns import read_handbook
from training.simulator.messages import BANKS, bank_numbers
from training.simulator.simulate import Simulated
from training.simulator.world import REGIONS

DAY_MS: Final = 86_400_000
HANDBOOK_BANK: Final = "handbook"
HANDBOOK_LABEL_DELAY_MS: Final = 7 * DAY_MS  # the book's delta_delay


@dataclass(frozen=True)
class LabelledHistory:
    """A history, what became of its rows, and the names of its entities.

    Attributes:
        history: As the offline driver reads it.
        is_fraud: bool [N].
        label_arrival_ms: int64 [N]; when a fraud's label arrived, -1 for a row without one.
        entity_keys: Key of each number of each shared entity but the card.
    """

    history: History
    is_fraud: NDArray[np.bool_]
    label_arrival_ms: Ints
    entity_keys: Mapping[Entity, Sequence[str]]

    @property
    def event_time_ms(self) -> Ints:
        """When each row happened, epoch milliseconds."""
        return np.asarray(self.history.rows["event_ms"])

    @property
    def amount_minor(self) -> Ints:
        """Amount of each row, reference minor units."""
        return np.asarray(self.history.rows["amount"])

    def until(self, until_ms: int) -> LabelledHistory:
        """Return the rows before a moment, with the labels that had arrived by the last of them."""
        kept = self.event_time_ms < until_ms
        history = self.history
        entities = {entity: numbers[kept] for entity, numbers in history.entities.items()}
        arrived = self.label_arrival_ms[kept].copy()
        last_ms = int(history.arrival_ms[kept].max(initial=-1))
        arrived[arrived > last_ms] = -1
        return replace(
            self,
            history=History(
                rows=history.rows[kept],
                card=history.card[kept],
                arrival_ms=history.arrival_ms[kept],
                entities=entities,
                labels=fraud_labels(self.event_time_ms[kept], entities, arrived),
            ),
            is_fraud=self.is_fraud[kept],
            label_arrival_ms=arrived,
        )


@dataclass(frozen=True, slots=True)
class _Named:
    """One kind of entity: the number of each row's (-1 for none), and name and hash by number."""

    numbers: Ints
    keys: Sequence[str]
    hashes: NDArray[np.uint32]

    @property
    def values(self) -> NDArray[np.uint32]:
        """Return the hash of each row's entity, 0 for none."""
        if not len(self.hashes):
            return np.zeros(len(self.numbers), np.uint32)
        return np.where(self.numbers < 0, np.uint32(0), self.hashes[self.numbers])


def _name(codes: Ints, names_of: Callable[[int], tuple[str, str]]) -> _Named:
    """Number the distinct codes (-1 for none); `names_of` gives the bank and id of a code."""
    distinct, numbers = np.unique(codes, return_inverse=True)
    if len(distinct) and distinct[0] < 0:
        distinct, numbers = distinct[1:], numbers - 1
    names = [names_of(int(code)) for code in distinct]
    return _Named(
        numbers.astype(np.int64),
        [entity_key(bank, name) for bank, name in names],
        np.array([hash_value(bank, name) for bank, name in names], np.uint32),
    )


def _of_bank(codes: Ints, bank: Ints, id_of: Callable[[int], str]) -> _Named:
    """Number pairs of a code and a bank: each bank sees its own cards' traffic."""
    pairs = np.where(codes < 0, -1, codes * len(BANKS) + bank)
    return _name(pairs, lambda pair: (BANKS[pair % len(BANKS)], id_of(pair // len(BANKS))))


def simulated_history(simulated: Simulated) -> LabelledHistory:
    """Return a simulated history as the offline driver reads it; every row arrives at once."""
    source = simulated.rows
    named = _simulated_entities(source)
    rows = np.zeros(len(source), ROW)
    rows["event_ms"] = source["event_time_ms"]
    rows["amount"] = source["amount_reference_minor"]
    rows["utc_offset"] = source["utc_offset_minutes"]
    rows["kind"], rows["channel"] = source["kind"], source["channel"]
    for index, name in enumerate(VALUES[:4]):
        rows["value"][:, index] = named[Entity(name)].values
    countries = np.array([country_number(region.country) for region in REGIONS], np.uint32)
    rows["value"][:, VALUES.index("country")] = countries[source["region"]]
    rows["value"][:, VALUES.index("mcc")] = source["mcc"]
    rows["latitude"], rows["longitude"] = messages.positions_of(source)
    return _labelled(rows, source["card"].astype(np.int64), named, simulated.label_arrival_ms)


def _simulated_entities(source: NDArray[np.void]) -> dict[Entity, _Named]:
    card, bank = source["card"].astype(np.int64), bank_numbers(source["card"].astype(np.int64))
    return {
        Entity.CUSTOMER: _of_bank(card, bank, messages.customer_of),
        Entity.TERMINAL: _of_bank(source["terminal"].astype(np.int64), bank, messages.terminal_of),
        Entity.MERCHANT: _of_bank(source["merchant"].astype(np.int64), bank, messages.merchant_of),
        Entity.DEVICE: _of_bank(devices.device_numbers(source), bank, devices.device_name),
        Entity.IP: _of_bank(devices.address_numbers(source), bank, devices.address_name),
    }


def _labelled(
    rows: NDArray[np.void], card: Ints, named: Mapping[Entity, _Named], label_arrival_ms: Ints
) -> LabelledHistory:
    entities: Numbers = {
        Entity.CARD: card,
        **{entity: found.numbers for entity, found in named.items()},
    }
    event_ms = np.asarray(rows["event_ms"])
    return LabelledHistory(
        History(rows, card, event_ms, entities, fraud_labels(event_ms, entities, label_arrival_ms)),
        np.asarray(label_arrival_ms >= 0),
        label_arrival_ms,
        {entity: found.keys for entity, found in named.items()},
    )


def handbook_history(path: Path) -> LabelledHistory:
    """Return the Handbook's transactions: one card a customer, one bank.

    A time without a zone is taken as UTC, one with a zone as local there. A fraud's label arrives 7
    days after it. Cards and terminals are numbered in the order of the file's own ids, whatever
    their size.

    Raises:
        InvalidSettings: The file is missing, lacks a column, or holds a value that cannot be.
    """
    read = read_handbook(path)
    named = _name(read.terminal_id, lambda code: (HANDBOOK_BANK, str(code)))
    rows = np.zeros(len(read.event_ms), ROW)
    rows["event_ms"], rows["utc_offset"] = read.event_ms, read.utc_offset
    rows["amount"] = read.amount_minor
    rows["value"][:, VALUES.index("terminal")] = named.values
    rows["latitude"] = rows["longitude"] = np.nan
    # An amount of zero is what a bank sends as a verification, not as a purchase.
    rows["kind"] = np.where(
        rows["amount"] > 0, pb.TRANSACTION_KIND_PURCHASE, pb.TRANSACTION_KIND_VERIFICATION
    )
    rows["channel"] = pb.CHANNEL_POS
    arrival = np.where(read.is_fraud, rows["event_ms"] + HANDBOOK_LABEL_DELAY_MS, -1)
    return _labelled(rows, read.card, {Entity.TERMINAL: named}, arrival)
