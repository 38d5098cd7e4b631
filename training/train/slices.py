"""Time slices: a model is fitted, stopped, calibrated and tested on ever later days."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import SEQUENCE_LENGTH
from training.dataset import Examples, examples_between
from training.metrics import Fold, Scored, handbook_filter
from training.offline.labelled import RowLabels
from training.offline.load import load_dataset, load_labels
from training.simulator.histories import DAY_MS, handbook_history, simulated_history
from training.simulator.simulate import SimulationSettings, simulate

# Ends of warm-up, fit, stop and tune slices as shares of a simulated history; the rest is the test.
_ENDS: Final = (0.28, 0.70, 0.78, 0.87)
# Of the Handbook's training week the last two days stop and calibrate a first fit.
_HANDBOOK_FIT_DAYS: Final = 5
# Before it, for pre-training.
PAST_DAYS: Final = 21


@dataclass(frozen=True, slots=True)
class Slices:
    """Examples by what they are for, each later than the one before, but as `whole` says.

    Attributes:
        fit: Weights.
        stop: When to stop.
        tune: Calibration and thresholds.
        test: What is reported; seen once.
        whole: What the measured weights are fitted to after stopping: `fit` itself, or all rows
            before the test, or a protocol's whole training range.
        past: Rows before `fit`, for pre-training without labels; may be none.
        served: What the served weights are fitted to once the others are measured; None where the
            measured ones are served.
    """

    fit: Examples
    stop: Examples
    tune: Examples
    test: Examples
    whole: Examples
    past: Examples
    served: Examples | None = None


def check_slices(slices: Slices, source: str) -> None:
    """Refuse slices from which nothing can be learned or measured, before minutes go by.

    Raises:
        InvalidSettings: One has no fraud, or no genuine row.
    """
    for name in ("fit", "stop", "tune", "test"):
        part = getattr(slices, name)
        frauds = int(part.is_fraud.sum())
        if not 0 < frauds < len(part):
            msg = f"{source}: expected frauds and genuine rows to {name}, found {frauds} frauds in"
            hint = "--format, --train-from, --cards and --days say how much there is"
            raise InvalidSettings(f"{msg} {len(part)} rows; {hint}")


def simulator_slices(settings: SimulationSettings) -> Slices:
    """Return slices of a simulated history; its first part only warms the states."""
    history = simulated_history(simulate(settings))
    ends = [settings.start_ms + round(share * settings.days) * DAY_MS for share in _ENDS]
    until_ms = settings.start_ms + settings.days * DAY_MS
    kept = examples_between(history, settings.start_ms, until_ms)
    fit = kept.between(ends[0], ends[1])
    return Slices(
        fit=fit,
        stop=kept.between(ends[1], ends[2]),
        tune=kept.between(ends[2], ends[3]),
        test=kept.between(ends[3], until_ms),
        whole=fit,
        past=kept.between(settings.start_ms, ends[0]),
    )


def dataset_slices(folder: Path, labels: RowLabels | None = None) -> Slices:
    """Return slices of the labelled rows of a training set; what warmed its states is not in it.

    Args:
        folder: Of the set.
        labels: Which rows are labelled; None for what the set says.

    Raises:
        InvalidSettings: It is not finished, was made for other features, keeps fewer steps than
            the network reads, or has no labelled row.
    """
    labels = labels or load_labels(folder)
    kept = load_dataset(folder).where(labels.is_known)
    if not len(kept):
        msg = f"{folder}: expected labelled transactions, found none; {labels.counts().text()}"
        raise InvalidSettings(msg)
    steps = kept.sequences.shape[1]
    if steps != SEQUENCE_LENGTH:
        msg = f"{folder}: the network reads {SEQUENCE_LENGTH} steps, found {steps} (--steps)"
        raise InvalidSettings(msg + "; make the training set again")
    begin_ms, until_ms = int(kept.event_time_ms.min()), int(kept.event_time_ms.max()) + 1
    warm, *shares = _ENDS
    fit_ms, stop_ms, tune_ms = (
        begin_ms + round((share - warm) / (1 - warm) * (until_ms - begin_ms)) for share in shares
    )
    return Slices(
        fit=kept.between(begin_ms, fit_ms),
        stop=kept.between(fit_ms, stop_ms),
        tune=kept.between(stop_ms, tune_ms),
        test=kept.between(tune_ms, until_ms),
        whole=kept.between(begin_ms, tune_ms),
        past=kept.between(0, begin_ms),
        served=kept,
    )


def handbook_slices(path: Path, fold: Fold) -> Slices:
    """Return slices of one fold of the Handbook's protocol, with all history before it replayed.

    Nothing after the training week is used but the test week, which has the book's filter.
    """
    history = handbook_history(path)
    from_ms = fold.train_from_ms - PAST_DAYS * DAY_MS
    return fold_slices(examples_between(history, from_ms, fold.test_until_ms), fold)


def fold_slices(kept: Examples, fold: Fold) -> Slices:
    """Return slices of one fold of the Handbook's protocol.

    Args:
        kept: The fold's rows at least, with all history before them replayed.
        fold: Which fold.
    """
    tested = handbook_filter(kept.event_time_ms, kept.card, kept.is_fraud, fold)
    cut_ms = fold.train_from_ms + _HANDBOOK_FIT_DAYS * DAY_MS
    fit, late = kept.between(fold.train_from_ms, cut_ms), kept.between(cut_ms, fold.train_until_ms)
    # As in the test week: a card that was learned by heart must not look like a catch.
    late = late.where(~np.isin(late.card, fit.card[fit.is_fraud]))
    return Slices(
        fit=fit,
        stop=late,
        tune=late,
        test=kept.where(tested),
        whole=kept.between(fold.train_from_ms, fold.train_until_ms),
        past=kept.between(0, fold.train_from_ms),
    )


def handbook_scored(data: Path, scores: Path, fold: Fold) -> Scored:
    """Return the rows of a fold that the book tests on, with scores from a Parquet file.

    Args:
        data: The Handbook's Parquet file.
        scores: Parquet with TRANSACTION_ID and score, one row for each tested transaction at least.
        fold: Which fold.

    Raises:
        InvalidSettings: A file cannot be read, or a tested transaction has no score.
    """
    history = handbook_history(data)
    tested = np.flatnonzero(
        handbook_filter(history.event_time_ms, history.history.card, history.is_fraud, fold)
    )
    try:
        table = pq.read_table(scores, columns=["TRANSACTION_ID", "score"])
    except (OSError, ValueError) as exc:
        msg = f"{scores}: expected a Parquet file with the columns TRANSACTION_ID and score"
        raise InvalidSettings(msg) from exc
    known = np.full(len(history.is_fraud), np.nan)
    ids = np.sort(pq.read_table(data, columns=["TRANSACTION_ID"])["TRANSACTION_ID"].to_numpy())
    scored_ids = table["TRANSACTION_ID"].to_numpy()
    index = np.searchsorted(ids, scored_ids).clip(max=len(ids) - 1)
    is_known = ids[index] == scored_ids
    known[index[is_known]] = table["score"].to_numpy()[is_known]
    if np.isnan(known[tested]).any():
        missing = int(np.isnan(known[tested]).sum())
        msg = f"{scores}: {missing} of {len(tested)} tested transactions have no score"
        raise InvalidSettings(msg)
    return Scored(
        known[tested],
        history.is_fraud[tested],
        history.event_time_ms[tested],
        history.history.card[tested],
    )
