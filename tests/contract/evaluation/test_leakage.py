"""The leakage checklist: it passes what is sound, and finds each leak that is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fraudstream.features.catalogue import FEATURE_NAMES
from tests.worlds.evaluation_world import (
    BOOSTING,
    PLAN,
    MemoryTrainer,
    folds,
    material,
    silent,
    together,
)
from training.dataset import Examples
from training.evaluation.leakage import (
    HANDBOOK_LEAK_AP,
    check_ceiling,
    check_moment,
    check_shuffled_labels,
    check_single_features,
    check_time_order,
    run_checklist,
)
from training.metrics import DAY_MS, Ints
from training.train.slices import Slices

CANARY = FEATURE_NAMES.index("card_count_1h")


def _with_canary(examples: Examples, values: Ints) -> Examples:
    """Return examples whose `card_count_1h` is something else."""
    vectors = examples.vectors.copy()
    vectors[:, CANARY] = values
    return replace(examples, vectors=vectors)


def test_all_checks_hold_where_nothing_leaks() -> None:
    """The project's own features, folds and baseline pass their own checklist."""
    checks = run_checklist(material(), folds()[1].slices, BOOSTING, PLAN.delay_days, silent)

    assert [check.name for check in checks if not check.is_passed] == []
    assert len(checks) == 4


def test_shuffled_labels_give_the_prevalence() -> None:
    """Nothing can be learned from labels that mean nothing: AP is that of chance."""
    assert check_shuffled_labels(BOOSTING, folds()[2].slices, 1, silent).is_passed


def test_tested_rows_among_those_learned_from_are_found_by_shuffled_labels() -> None:
    """What was learned by heart is found again, though it means nothing."""
    slices = folds()[2].slices
    leaky = replace(slices, whole=together(slices.whole, slices.test))

    check = check_shuffled_labels(MemoryTrainer(), leaky, 1, silent)

    assert not check.is_passed


def test_a_random_split_is_found() -> None:
    """Every other row learned, the rest tested: the same weeks on both sides."""
    examples = material().examples
    even = np.arange(len(examples)) % 2 == 0
    fit, test = examples.where(even), examples.where(~even)
    slices = Slices(fit=fit, stop=test, tune=test, test=test, whole=fit, past=fit)

    assert not check_time_order(slices, PLAN.delay_days).is_passed


def test_a_missing_label_delay_is_found() -> None:
    """Learning up to the eve of the test uses labels that nobody has yet."""
    slices = folds()[1].slices
    begin_ms = int(slices.test.event_time_ms.min())
    eve = material().examples.between(0, begin_ms)

    assert not check_time_order(replace(slices, whole=eve), PLAN.delay_days).is_passed


def test_a_planted_feature_that_knows_the_answer_is_found() -> None:
    """The label itself, blurred by one in a hundred, is better than any honest feature."""
    test = folds()[2].slices.test
    rng = np.random.default_rng(0)
    answer = np.where(rng.random(len(test)) < 0.001, ~test.is_fraud, test.is_fraud)

    check = check_single_features(_with_canary(test, answer.astype(np.int64)))

    assert not check.is_passed
    assert "card_count_1h" in check.found


def test_a_constant_feature_is_no_suspect_where_most_rows_are_fraud() -> None:
    """Any constant has an AP of the prevalence: what is implausible counts from there."""
    test = folds()[2].slices.test
    frauds = np.flatnonzero(test.is_fraud)
    mostly = test.where(np.append(frauds, np.flatnonzero(~test.is_fraud)[: len(frauds) // 3]))

    constant = replace(mostly, vectors=np.ones_like(mostly.vectors))

    assert check_single_features(constant).is_passed


def test_a_check_that_was_not_run_is_neither_passed_nor_failed() -> None:
    """A training set has no history to cut: nobody may read that it was compared."""
    check = check_moment(replace(material(), history=None), 0)

    assert check.is_passed is None
    assert not check.is_failed


def test_a_planted_feature_that_fears_the_answer_is_found_too() -> None:
    """A leak may point down: the lower, the more certain."""
    test = folds()[2].slices.test

    check = check_single_features(_with_canary(test, -test.is_fraud.astype(np.int64)))

    assert not check.is_passed


def test_a_planted_feature_that_reads_the_future_is_found() -> None:
    """It counts the card's next transactions: harmless to look at, unknown at the moment."""
    whole = material()
    examples = whole.examples
    next_ones = np.zeros(len(examples), np.int64)
    for card in np.unique(examples.card):
        mine = np.flatnonzero(examples.card == card)
        time = examples.event_time_ms[mine]
        next_ones[mine] = np.searchsorted(time, time + DAY_MS) - np.arange(len(mine))
    moment_ms = int(folds()[2].slices.test.event_time_ms.min()) // DAY_MS * DAY_MS

    planted = replace(whole, examples=_with_canary(examples, next_ones))

    sound, leaky = check_moment(whole, moment_ms), check_moment(planted, moment_ms)
    assert sound.is_passed
    assert not leaky.is_passed
    assert "card_count_1h" in leaky.found
    assert check_single_features(_with_canary(examples, next_ones)).is_passed


def test_a_label_feature_that_knows_labels_too_early_is_found() -> None:
    """It counts frauds of the card that happened, whenever their labels arrived."""
    whole = material()
    examples = whole.examples
    place = FEATURE_NAMES.index("card_fraud_count_30d")
    vectors = examples.vectors.copy()
    frauds = np.zeros(int(examples.card.max()) + 1)
    for row in range(len(examples)):
        vectors[row, place] = frauds[examples.card[row]]
        frauds[examples.card[row]] += examples.is_fraud[row]
    planted = replace(whole, examples=replace(examples, vectors=vectors))
    moment_ms = int(folds()[2].slices.test.event_time_ms.max()) // DAY_MS * DAY_MS

    assert not check_moment(planted, moment_ms).is_passed


def test_a_model_better_than_the_oracle_is_found() -> None:
    """On the Handbook's folds nobody can know more than its generator lets."""
    assert check_ceiling({"boosting": 0.75}).is_passed
    assert not check_ceiling({"boosting": 0.75, "wonder": HANDBOOK_LEAK_AP + 0.01}).is_passed
