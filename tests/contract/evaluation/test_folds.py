"""Folds and trainers: time order, labels as known, cards kept, nothing fitted to tested rows."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fraudstream.engines.members import Formula
from fraudstream.errors import InvalidSettings
from tests.worlds.evaluation_world import (
    BOOSTING,
    PLAN,
    CountingTrainer,
    folds,
    material,
    silent,
    together,
)
from training.evaluation.figures.cost import CostModel
from training.evaluation.folds import PlatformPlan, cut_platform, handbook_folds, platform_starts
from training.evaluation.kept_scores import KeptScores, key_of
from training.evaluation.run import Entry, run_folds
from training.evaluation.trainers import (
    Ensemble,
    FoldTask,
    LogisticTrainer,
    PrevalenceTrainer,
    RawScores,
    Trainer,
    fit_scale,
)
from training.metrics import DAY_MS

COSTS = CostModel()


def test_each_fold_learns_only_from_what_was_labelled_before_its_test() -> None:
    """From the last row learned to the first tested at least the label delay has passed."""
    for fold in folds():
        whole, test = fold.slices.whole, fold.slices.test
        gap_ms = test.event_time_ms.min() - whole.event_time_ms.max()
        assert gap_ms >= PLAN.delay_days * DAY_MS


def test_slices_follow_one_another_and_split_no_moment() -> None:
    """Fit, stop, tune and test are ever later; together the first three are the whole."""
    for fold in folds():
        parts = [getattr(fold.slices, name) for name in ("fit", "stop", "tune", "test")]
        for earlier, later in pairwise(parts):
            assert earlier.event_time_ms.max() < later.event_time_ms.min()
        assert sum(len(part) for part in parts[:3]) == len(fold.slices.whole)


def test_the_first_days_only_fill_the_windows_of_the_features() -> None:
    """Nobody learns from features whose windows reach back before the history began."""
    first_ms = material().examples.event_time_ms.min()

    assert folds()[0].slices.whole.event_time_ms.min() >= first_ms + (PLAN.warm_days - 1) * DAY_MS


def test_a_later_fold_learns_from_more_and_tests_other_weeks() -> None:
    """All history before each fold, and no transaction tested twice."""
    sizes = [len(fold.slices.whole) for fold in folds()]
    tested = np.concatenate([fold.tested for fold in folds()])

    assert sizes == sorted(sizes)
    assert len(np.unique(tested)) == len(tested)


def test_a_label_that_had_not_arrived_counts_as_genuine() -> None:
    """The simulator's slowest labels take weeks: who trains on that day does not know them."""
    fold = folds()[0]
    start_ms = int(fold.slices.test.event_time_ms.min()) // DAY_MS * DAY_MS
    truth = material().examples.is_fraud[fold.trained]
    arrival = material().label_arrival_ms[fold.trained]
    known = fold.slices.whole.is_fraud

    assert known.sum() < truth.sum()
    assert np.array_equal(known, truth & (arrival < start_ms))


def test_tested_rows_keep_their_true_labels_and_known_cards() -> None:
    """The test is judged by what really happened, and no card is left out of it."""
    fold = folds()[-1]
    examples = material().examples

    assert np.array_equal(fold.slices.test.is_fraud, examples.is_fraud[fold.tested])
    assert material().is_card_known[fold.tested].any()


def test_a_history_too_short_for_the_folds_is_refused() -> None:
    """The message says how many labelled days are left and how many it takes."""
    with pytest.raises(InvalidSettings, match="labelled days before the first"):
        platform_starts(material(), PlatformPlan(folds=6), "test")


def test_validation_folds_end_before_the_first_tested_day() -> None:
    """What is chosen on them has seen nothing of the test."""
    assert handbook_folds("validation")[-1].test_until_ms <= handbook_folds("test")[0].test_from_ms
    plan = replace(PLAN, folds=1)
    validation = platform_starts(material(), plan, "validation")[0]
    assert validation + 7 * DAY_MS <= platform_starts(material(), plan, "test")[0]


@pytest.mark.parametrize("trainer", [LogisticTrainer(), BOOSTING, PrevalenceTrainer()])
def test_scores_of_a_row_do_not_depend_on_the_other_tested_rows(trainer: Trainer) -> None:
    """Scaling and fit come from training rows: other tested rows change no score."""
    slices = folds()[0].slices
    half = slices.test.where(np.arange(len(slices.test)) % 2 == 0)
    wild = replace(half, vectors=half.vectors * 1e3)
    mixed = together(half, wild)

    alone = trainer.scores(FoldTask(replace(slices, test=half), silent))
    beside = trainer.scores(FoldTask(replace(slices, test=mixed), silent))

    # The order of a sum may differ with the number of rows, in the last digit.
    assert alone.test == pytest.approx(beside.test[: len(half)], rel=1e-12)
    assert alone.tune == pytest.approx(beside.tune, rel=1e-12)


def test_scaling_leaves_missing_values_at_the_mean() -> None:
    """A missing value says nothing, and a constant column becomes zero, not infinity."""
    train = np.array([[0.0, 5.0], [np.nan, 5.0], [math.e - 1, 5.0]], np.float32)

    scaled = fit_scale(train)(train)

    assert scaled[:, 0] == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)
    assert scaled[:, 1] == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)


def test_ensemble_is_the_weighted_sum_of_logits() -> None:
    """Equal weights: the geometric mean of odds. Odds 1 and 4 make 2, a score of 2/3."""
    members = {
        "a": RawScores(np.array([0.5]), np.array([0.5])),
        "b": RawScores(np.array([0.8]), np.array([0.8])),
    }

    found = Ensemble(("a", "b"), Formula((0.5, 0.5), 0.0)).combine(members)

    assert found.test == pytest.approx([2 / 3])
    assert found.tune == pytest.approx([2 / 3])


def test_kept_scores_are_found_again_and_save_the_learning(tmp_path: Path) -> None:
    """A second run asks no trainer to learn and has the same scores to the bit."""
    trainer = CountingTrainer()
    entry = Entry([trainer], [], COSTS)

    first = run_folds(material(), folds(), entry, KeptScores(tmp_path), silent)
    again = run_folds(material(), folds(), entry, KeptScores(tmp_path), silent)

    assert trainer.learned == len(folds())
    for one, other in zip(first.scores[trainer.name], again.scores[trainer.name], strict=True):
        assert np.array_equal(one.raw, other.raw)
        assert one.calibration == other.calibration


def test_a_run_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    """Two folds were done: only the other two are learned."""
    trainer = CountingTrainer()
    entry = Entry([trainer], [], COSTS)
    run_folds(material(), folds()[:2], entry, KeptScores(tmp_path), silent)
    trainer.learned = 0

    run_folds(material(), folds(), entry, KeptScores(tmp_path), silent)

    assert trainer.learned == 2


def test_file_that_holds_no_scores_is_made_anew(tmp_path: Path) -> None:
    """What a full disk or a stranger left is as if it were not there, and nothing else is left."""
    kept = KeptScores(tmp_path)
    scores = RawScores(np.array([0.5]), np.array([0.25, 0.75]))
    kept.keep("a", "b", "key", scores)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"PAR1" + bytes(40))

    assert kept.find("a", "b", "key") is None
    kept.keep("a", "b", "key", scores)
    found = kept.find("a", "b", "key")

    assert found is not None
    assert found.test.tolist() == [0.25, 0.75]
    assert list(tmp_path.iterdir()) == [path]


def test_kept_scores_of_other_settings_rows_or_labels_are_not_used() -> None:
    """The key holds all that decides a score."""
    slices = folds()[0].slices
    turned = replace(slices, tune=replace(slices.tune, is_fraud=~slices.tune.is_fraud))
    keys = {
        key_of(CountingTrainer(), "a", slices),
        key_of(CountingTrainer(), "b", slices),
        key_of(CountingTrainer(settings={"seed": 2}), "a", slices),
        key_of(CountingTrainer(), "a", turned),
        key_of(CountingTrainer(), "a", folds()[1].slices),
        key_of(BOOSTING, "a", slices),
    }

    assert len(keys) == 6
    assert key_of(CountingTrainer(), "a", slices) in keys


def test_thresholds_and_calibration_do_not_look_at_tested_labels() -> None:
    """With all tested labels turned, calibration and thresholds are the same."""
    entry = Entry([CountingTrainer()], [], COSTS)
    fold = folds()[0]
    test = replace(fold.slices.test, is_fraud=~fold.slices.test.is_fraud)
    turned = replace(fold, slices=replace(fold.slices, test=test))

    (one,) = run_folds(material(), [fold], entry, None, silent).scores["one column"]
    (other,) = run_folds(material(), [turned], entry, None, silent).scores["one column"]

    assert one.calibration == other.calibration
    assert (one.threshold, one.cheapest) == (other.threshold, other.cheapest)


def test_cut_is_the_same_each_time() -> None:
    """A fold is a pure function of material, plan and start."""
    starts = platform_starts(material(), PLAN, "test")

    again = list(cut_platform(material(), PLAN, starts))

    assert [fold.name for fold in again] == [fold.name for fold in folds()]
    assert all(
        np.array_equal(one.tested, other.tested) for one, other in zip(again, folds(), strict=True)
    )
