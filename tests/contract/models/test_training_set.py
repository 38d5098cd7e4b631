"""Training sets: the Handbook's file and the simulator through the one kernel, in time slices."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.history import fraud_labels
from training.dataset import content_hash, examples_between
from training.metrics import Fold
from training.simulator.histories import DAY_MS, handbook_history, simulated_history
from training.simulator.simulate import SimulationSettings, simulate
from training.train.slices import handbook_scored, handbook_slices, simulator_slices

MIDNIGHT_MS = 1_532_476_800_000  # 2018-07-25, the first training day of the book's chapter 3


def write_handbook(path: Path, days: int = 28, per_day: int = 40) -> Path:
    """Write a small file with the Handbook's columns, beginning a week before the training week."""
    rng = np.random.default_rng(1)
    count = days * per_day
    times = MIDNIGHT_MS - 7 * DAY_MS + np.sort(rng.integers(0, days * DAY_MS, count))
    table = {
        "TRANSACTION_ID": np.arange(count, dtype=np.int32) + 500,
        "TX_DATETIME": times.astype("datetime64[ms]"),
        "CUSTOMER_ID": rng.integers(0, 60, count).astype(np.int16),
        "TERMINAL_ID": rng.integers(0, 20, count).astype(np.int16),
        "TX_AMOUNT": np.round(rng.lognormal(3, 1, count), 2).astype(np.float32),
        "TX_FRAUD": (rng.random(count) < 0.03).astype(np.int8),
    }
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    """A small file with the Handbook's columns."""
    return write_handbook(tmp_path / "handbook.parquet")


def test_handbook_amounts_become_whole_minor_units(tmp_path: Path) -> None:
    """float32 amounts are rounded after casting up: 57.16 is 5716, never 5715."""
    path = write_handbook(tmp_path / "file.parquet")
    amounts = pq.read_table(path)["TX_AMOUNT"].to_numpy()
    history = handbook_history(path)

    assert np.abs(history.amount_minor / 100 - amounts).max() < 0.005


def test_handbook_labels_arrive_a_week_later(handbook: Path) -> None:
    """The book's delay: a fraud is known seven days after it, and only then."""
    history = handbook_history(handbook)
    fraud = history.is_fraud

    assert (history.label_arrival_ms[fraud] == history.event_time_ms[fraud] + 7 * DAY_MS).all()
    assert (history.label_arrival_ms[~fraud] == -1).all()


def test_file_without_the_columns_is_refused_by_name(tmp_path: Path) -> None:
    """The message says which columns are expected."""
    pq.write_table(pa.table({"amount": [1.0]}), tmp_path / "other.parquet")

    with pytest.raises(InvalidSettings, match="TX_AMOUNT"):
        handbook_history(tmp_path / "other.parquet")


def _rewritten(path: Path, **columns: object) -> Path:
    """Write the Handbook's file again with some columns changed."""
    table = pq.read_table(path)
    pq.write_table(pa.table({name: table[name] for name in table.column_names} | columns), path)
    return path


def test_time_with_a_zone_is_local_there(handbook: Path) -> None:
    """The hour on the wall says whether it was night, whatever UTC said."""
    naive = handbook_history(handbook)
    times = pq.read_table(handbook)["TX_DATETIME"].cast(pa.timestamp("ms", tz="UTC"))
    zoned = times.cast(pa.timestamp("ms", tz="Europe/Brussels"))
    history = handbook_history(_rewritten(handbook, TX_DATETIME=zoned))

    assert (history.event_time_ms == naive.event_time_ms).all()
    assert set(history.history.rows["utc_offset"]) == {120}
    assert set(naive.history.rows["utc_offset"]) == {0}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("CUSTOMER_ID", None, "row 3 .* expected an id, found nothing"),
        ("TERMINAL_ID", None, "row 3 .* expected an id, found nothing"),
        ("TERMINAL_ID", "T-1", "a whole number"),
        ("TX_DATETIME", None, "row 3 .* expected a time"),
        ("TX_DATETIME", 1_530_403, "expected a time between"),
        ("TX_AMOUNT", float("nan"), "row 3 .* expected an amount"),
        ("TX_AMOUNT", -1.0, "row 3 .* expected an amount"),
        ("TX_FRAUD", None, "row 3 .* expected 0 or 1, found nothing"),
        ("TX_FRAUD", 2, "row 3 .* expected 0 or 1, found 2"),
    ],
)
def test_value_that_cannot_be_is_named_by_column_and_row(
    handbook: Path, column: str, value: object, said: str
) -> None:
    """What would become a made-up id, amount or time is told before anything is learned."""
    values: list[object] = pq.read_table(handbook)[column].to_pylist()
    if isinstance(value, (str, int)) and column != "TX_FRAUD":
        values = [value for _ in values]
    values[3] = value

    with pytest.raises(InvalidSettings, match=f"column {column}.*{said}"):
        handbook_history(_rewritten(handbook, **{column: pa.array(values)}))


def test_handbook_slices_leave_the_week_between_alone(handbook: Path) -> None:
    """Train week, a week of delay that nothing uses, test week without known cards."""
    slices = handbook_slices(handbook, Fold(MIDNIGHT_MS))
    fold = Fold(MIDNIGHT_MS)

    assert slices.whole.event_time_ms.max() < fold.train_until_ms
    assert slices.fit.event_time_ms.max() < slices.stop.event_time_ms.min()
    assert slices.test.event_time_ms.min() >= fold.test_from_ms
    known = np.unique(slices.whole.card[slices.whole.is_fraud])
    assert not np.isin(slices.test.card, known).any()


def test_features_of_a_row_do_not_depend_on_later_rows() -> None:
    """A history cut short gives the same vectors: nothing looks ahead (leakage checklist)."""
    settings = SimulationSettings(seed=4, cards=60, days=12)
    history = simulated_history(simulate(settings))
    cut_ms = settings.start_ms + 6 * DAY_MS
    shorter = history.until(cut_ms)

    assert shorter.event_time_ms.max() < cut_ms
    assert len(shorter.history.labels.change) < len(history.history.labels.change)
    whole = examples_between(history, settings.start_ms, cut_ms)
    cut = examples_between(shorter, settings.start_ms, cut_ms)
    assert whole.vectors.tobytes() == cut.vectors.tobytes()
    assert whole.sequences.tobytes() == cut.sequences.tobytes()


def test_label_does_not_reach_its_own_features() -> None:
    """Turning every label around changes no feature before the label delay is over."""
    settings = SimulationSettings(seed=4, cards=60, days=6)
    history = simulated_history(simulate(settings))
    at_once_ms = np.where(history.is_fraud, -1, history.event_time_ms)
    labels = fraud_labels(history.event_time_ms, history.history.entities, at_once_ms)
    flipped = replace(
        history, is_fraud=~history.is_fraud, history=replace(history.history, labels=labels)
    )
    until_ms = settings.start_ms + settings.days * DAY_MS

    honest = examples_between(history, settings.start_ms, until_ms)
    turned = examples_between(flipped, settings.start_ms, until_ms)
    assert honest.vectors.tobytes() == turned.vectors.tobytes()


def test_simulator_slices_are_ever_later() -> None:
    """Fit, stop, tune and test never overlap; the vector has every feature."""
    slices = simulator_slices(SimulationSettings(seed=4, cards=60, days=40))
    times = [part.event_time_ms for part in (slices.fit, slices.stop, slices.tune, slices.test)]

    assert all(before.max() < after.min() for before, after in pairwise(times))
    assert slices.fit.vectors.shape[1] == len(FEATURE_NAMES)


def test_content_hash_covers_labels() -> None:
    """A manifest's training hash tells one label apart."""
    settings = SimulationSettings(seed=4, cards=40, days=5)
    history = simulated_history(simulate(settings))
    examples = examples_between(history, settings.start_ms, settings.start_ms + 5 * DAY_MS)
    before = content_hash(examples)
    examples.is_fraud[0] ^= True

    assert content_hash(examples) != before


def test_scores_from_a_file_meet_their_transactions(handbook: Path, tmp_path: Path) -> None:
    """Scores in any order find their rows by id; a perfect score gives AP 1."""
    table = pq.read_table(handbook)
    order = np.random.default_rng(3).permutation(table.num_rows)
    scores = pa.table(
        {
            "TRANSACTION_ID": table["TRANSACTION_ID"].to_numpy()[order],
            "score": table["TX_FRAUD"].to_numpy()[order].astype(np.float64),
        }
    )
    pq.write_table(scores, tmp_path / "scores.parquet")
    scored = handbook_scored(handbook, tmp_path / "scores.parquet", Fold(MIDNIGHT_MS))

    assert (scored.score == scored.is_fraud).all()
    assert scored.is_fraud.any()


def test_transactions_without_a_score_are_refused(handbook: Path, tmp_path: Path) -> None:
    """A figure over half of the rows would be no figure."""
    pq.write_table(pa.table({"TRANSACTION_ID": [500], "score": [0.5]}), tmp_path / "scores.parquet")

    with pytest.raises(InvalidSettings, match="have no score"):
        handbook_scored(handbook, tmp_path / "scores.parquet", Fold(MIDNIGHT_MS))
