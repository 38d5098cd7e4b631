"""What is evaluated on: rows with features and labels, and what segments and protocols ask of them.

K rows in time order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import SEQUENCE_CHANNELS, Entity
from fraudstream.features.state import VALUES
from training.dataset import Examples, examples_between
from training.metrics import Bools, Ints
from training.offline.build import manifest_path
from training.offline.labelled import LabelCounts, RowLabels, Unlabelled
from training.offline.load import load_dataset, load_labels, load_segments
from training.simulator.histories import (
    DAY_MS,
    LabelledHistory,
    handbook_history,
    simulated_history,
)
from training.simulator.simulate import SimulationSettings, simulate

_KIND = SEQUENCE_CHANNELS.index("kind")


@dataclass(frozen=True)
class Material:
    """Rows to evaluate on.

    Attributes:
        name: What was read, for people.
        fingerprint: SHA-256 of what was read, hexadecimal.
        examples: The rows.
        label_arrival_ms: int64 [K]; when a fraud's label arrived, -1 for a genuine row.
        is_card_known: bool [K], of a card with a fraud that was known when the row came.
        past_transactions: int64 [K], of the row's card before it; a training set knows of as many
            as its sequences keep.
        entities: Number of each row's terminal, country and so on, int64 [K], where they are known;
            -1 for none.
        scheme: Fraud scheme of each row, int64 [K] of `FraudKind`; None where nobody knows.
        history: All rows, the ones before these too; None for a training set.
        known_since_ms: int64 [K], when each row was labelled, either way, in a set that is labelled
            in part; None where a row without a label is genuine.
        labels: How many rows are labelled how; None where all are.
        segments: Text of each row, [K], in each column that a set keeps to evaluate by.
    """

    name: str
    fingerprint: str
    examples: Examples
    label_arrival_ms: Ints
    is_card_known: Bools
    past_transactions: Ints
    entities: Mapping[str, Ints]
    scheme: Ints | None
    history: LabelledHistory | None
    known_since_ms: Ints | None = None
    labels: LabelCounts | None = None
    segments: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def known_by(self, moment_ms: int) -> Bools:
        """Return which rows were known as fraud at a moment, bool [K]."""
        arrived = (self.label_arrival_ms >= 0) & (self.label_arrival_ms < moment_ms)
        return np.asarray(self.examples.is_fraud & arrived)

    def learned_at(self, moment_ms: int) -> Examples:
        """Return the rows with their labels as they were known at a moment."""
        known = replace(self.examples, is_fraud=self.known_by(moment_ms))
        if self.known_since_ms is None:
            return known
        return known.where(self.known_since_ms < moment_ms)


def handbook_material(path: Path, from_ms: int, until_ms: int, steps: int) -> Material:
    """Return the Handbook's rows with event time in [from, until), all before them replayed.

    Raises:
        InvalidSettings: The file is missing or lacks a column.
    """
    labelled = handbook_history(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    return _of_history(path.name, found, labelled, (from_ms, until_ms, steps))


def simulator_material(settings: SimulationSettings, steps: int) -> Material:
    """Return a whole simulated history, with the scheme of each fraud."""
    simulated = simulate(settings)
    made = hashlib.sha256(simulated.rows.tobytes() + simulated.label_arrival_ms.tobytes())
    wanted = ("seed", "cards", "days")
    name = "simulator, " + ", ".join(f"{key} {asdict(settings)[key]}" for key in wanted)
    until_ms = settings.start_ms + settings.days * DAY_MS
    labelled = simulated_history(simulated)
    span = (settings.start_ms, until_ms, steps)
    scheme = simulated.rows["fraud_kind"].astype(np.int64)
    return _of_history(name, made.hexdigest(), labelled, span, scheme)


def _of_history(
    name: str,
    fingerprint: str,
    labelled: LabelledHistory,
    span: tuple[int, int, int],
    scheme: Ints | None = None,
) -> Material:
    examples = examples_between(labelled, *span)
    entities = {"country": labelled.history.rows["value"][:, VALUES.index("country")]}
    if Entity.TERMINAL in labelled.history.entities:
        entities["terminal"] = labelled.history.entities[Entity.TERMINAL]
    return Material(
        name=name,
        fingerprint=fingerprint,
        examples=examples,
        label_arrival_ms=labelled.label_arrival_ms[examples.row],
        is_card_known=_is_card_known(
            labelled.history.card, labelled.label_arrival_ms, labelled.event_time_ms
        )[examples.row],
        past_transactions=_rank_in_card(labelled.history.card)[examples.row],
        entities={key: found[examples.row].astype(np.int64) for key, found in entities.items()},
        scheme=None if scheme is None else scheme[examples.row],
        history=labelled,
    )


def _is_card_known(card: Ints, label_arrival_ms: Ints, event_time_ms: Ints) -> Bools:
    """Return which rows are of a card with a fraud that was known when the row came."""
    first = np.full(int(card.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    frauds = label_arrival_ms >= 0
    np.minimum.at(first, card[frauds], label_arrival_ms[frauds])
    return np.asarray(first[card] < event_time_ms)


def _rank_in_card(card: Ints) -> Ints:
    """Return how many rows of the same card stand before each, int64 [K]."""
    order = np.argsort(card, kind="stable")
    index = np.arange(len(card))
    is_first = np.append(True, card[order][1:] != card[order][:-1])[: len(card)]
    rank = np.empty(len(card), np.int64)
    rank[order] = index - np.maximum.accumulate(np.where(is_first, index, 0))
    return rank


def dataset_material(folder: Path, labels: RowLabels | None = None) -> Material:
    """Return the labelled rows of a finished training set, in time order.

    Args:
        folder: Of the set.
        labels: Which rows are labelled; None for what the set says.

    Raises:
        InvalidSettings: It is not finished, was made for other features, or has no labelled row.
    """
    labels = labels or load_labels(folder)
    examples, known_ms = load_dataset(folder), labels.known_since_ms()
    arrival = np.where(examples.is_fraud, known_ms, -1)
    is_card_known = _is_card_known(examples.card, arrival, examples.event_time_ms)
    order = np.argsort(examples.event_time_ms, kind="stable")
    order = order[labels.is_known[order]]
    if not len(order):
        msg = f"{folder}: expected labelled transactions, found none; {labels.counts().text()}"
        raise InvalidSettings(msg)
    is_partial = labels.rule.unlabelled is Unlabelled.LEAVE_OUT
    fingerprint = hashlib.sha256(manifest_path(folder).read_bytes()).hexdigest()
    return Material(
        name=folder.name,
        fingerprint=fingerprint,
        examples=examples.where(order),
        label_arrival_ms=arrival[order],
        is_card_known=is_card_known[order],
        past_transactions=((examples.sequences[:, :, _KIND] > 0).sum(axis=1) - 1)[order],
        entities={},
        scheme=None,
        history=None,
        known_since_ms=known_ms[order] if is_partial else None,
        labels=labels.counts(),
        segments={name: np.array(texts)[order] for name, texts in load_segments(folder).items()},
    )
