"""What is evaluated on: rows with features and labels, and what segments and protocols ask of them.

K rows in time order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraudstream.features.catalogue import SEQUENCE_CHANNELS, Entity
from fraudstream.features.state import VALUES
from training.dataset import Examples, examples_between
from training.evaluation.metrics import Bools, Ints
from training.histories import (
    DAY_MS,
    LabelledHistory,
    handbook_history,
    simulated_history,
)
from training.offline.build import MANIFEST
from training.offline.load import load_dataset
from training.simulate import SimulationSettings, simulate

LABEL_DELAY_MS = 7 * DAY_MS
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

    def known_by(self, moment_ms: int) -> Bools:
        """Return which rows were known as fraud at a moment, bool [K]."""
        arrived = (self.label_arrival_ms >= 0) & (self.label_arrival_ms < moment_ms)
        return np.asarray(self.examples.is_fraud & arrived)


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
    place = np.arange(len(card))
    is_first = np.append(True, card[order][1:] != card[order][:-1])[: len(card)]
    rank = np.empty(len(card), np.int64)
    rank[order] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return rank


def dataset_material(folder: Path) -> Material:
    """Return the rows of a finished training set, in time order.

    Raises:
        InvalidSettings: It is not finished, was made for other features, or lacks rows.
    """
    examples = load_dataset(folder)
    manifest = (folder / MANIFEST).read_bytes()
    parts = [part["name"] for part in json.loads(manifest)["parts"]]
    arrived = [pq.read_table(folder / part, columns=["label_arrival_ms"]) for part in parts]
    arrival = np.concatenate([column["label_arrival_ms"].to_numpy() for column in arrived])
    arrival = _arrival_of_frauds(examples, arrival)
    is_known = _is_card_known(examples.card, arrival, examples.event_time_ms)
    order = np.argsort(examples.event_time_ms, kind="stable")
    return Material(
        name=folder.name,
        fingerprint=hashlib.sha256(manifest).hexdigest(),
        examples=Examples(
            **{each.name: getattr(examples, each.name)[order] for each in fields(examples)}
        ),
        label_arrival_ms=arrival[order],
        is_card_known=is_known[order],
        past_transactions=((examples.sequences[:, :, _KIND] > 0).sum(axis=1) - 1)[order],
        entities={},
        scheme=None,
        history=None,
    )


def _arrival_of_frauds(examples: Examples, arrival: NDArray[np.float64]) -> Ints:
    """Return when each fraud was known; one without a time as late as any label may be."""
    late = examples.event_time_ms + LABEL_DELAY_MS
    known = np.where(np.isnan(arrival), late, arrival).astype(np.int64)
    return np.where(examples.is_fraud, known, -1)
