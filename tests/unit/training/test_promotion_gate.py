"""The promotion gate: what lets a challenger pass, and what each check stops."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

import numpy as np
import pytest

from training.evaluation.figures.bootstrap import Draws, Truth
from training.evaluation.figures.segments import Trait
from training.promotion.bounds import GateBounds
from training.promotion.gate import Contender, GateReport, Matured, run_gate

ROWS: Final = 20_000
BOUNDS: Final = GateBounds(draws=Draws(200), ece=0.01)
P99_US: Final = {1: 500.0, 64: 5_000.0}


def some_rows() -> tuple[np.ndarray, Matured]:
    """Return scores that are exactly right, and rows that came out as they say."""
    random = np.random.default_rng(3)
    score = random.beta(0.05, 2.0, ROWS)
    truth = Truth(random.random(ROWS) < score, random.integers(0, 4_000, ROWS))
    halves = Trait("half", ("left", "right"), (np.arange(ROWS) % 2).astype(np.int16))
    return score, Matured(truth, [halves])


SCORE, MATURED = some_rows()
CHAMPION: Final = Contender("lstm/1", SCORE, 0.3, P99_US)


def report_of(bounds: GateBounds = BOUNDS, **challenger: object) -> GateReport:
    """Return the gate's report about a challenger that differs from the champion so."""
    changed = replace(CHAMPION, **({"name": "lstm/2"} | challenger))  # type: ignore[arg-type]  # a table
    return run_gate(changed, CHAMPION, MATURED, bounds)


def test_equal_challenger_passes() -> None:
    """Non-inferiority: a challenger need not win."""
    report = report_of()

    assert report.is_passed, report.failed
    assert [check.name for check in report.checks] == [
        "frauds",
        "ece",
        "in_the_large",
        "ap_difference",
        "alert_volume",
        "latency",
        "segment_fpr",
        "segment_recall",
    ]


def test_worse_ranking_is_stopped() -> None:
    """Scores that say less: the interval of the difference of AP reaches below the margin."""
    random = np.random.default_rng(4)
    blurred = 1 / (1 + np.exp(-(np.log(SCORE / (1 - SCORE)) + random.normal(0, 2.0, ROWS))))

    assert "ap_difference" in report_of(score=blurred).failed


@pytest.mark.parametrize(("factor", "expected"), [(1.15, ()), (1.6, ("in_the_large",))])
def test_scores_that_promise_too_much_are_stopped(factor: float, expected: tuple[str, ...]) -> None:
    """Thresholds are probabilities; the order of rows alone is not enough."""
    changed = report_of(replace(BOUNDS, ece=1.0, alert_volume=1.0), score=SCORE * factor)

    assert changed.failed == expected


def test_uncalibrated_scores_are_stopped() -> None:
    """The mean may be right where single scores are not."""
    flat = np.where(np.quantile(SCORE, 0.9) < SCORE, SCORE * 0.5, SCORE)

    assert "ece" in report_of(score=flat).failed


@pytest.mark.parametrize(
    ("review", "budget", "is_passed"),
    [(0.29, None, True), (0.05, None, False), (0.9, None, False), (0.05, 0.5, True)],
)
def test_alerts_stay_what_the_team_can_read(
    review: float, budget: float | None, is_passed: bool
) -> None:
    """A fifth more or less than the champion's, or a budget that is stated."""
    report = report_of(replace(BOUNDS, alert_budget=budget), review=review)

    assert ("alert_volume" not in report.failed) is is_passed


@pytest.mark.parametrize(
    ("p99_us", "budget_us", "is_passed"),
    [
        ({1: 600.0, 64: 6_000.0}, None, True),
        ({1: 800.0, 64: 5_000.0}, None, False),  # the smallest bucket is what callers wait for
        ({1: 800.0, 64: 9_000.0}, 10_000.0, True),
        ({1: 800.0, 64: 11_000.0}, 10_000.0, False),
    ],
)
def test_slow_engine_is_stopped(
    p99_us: dict[int, float], budget_us: float | None, is_passed: bool
) -> None:
    """The worst bucket counts, or a budget that is stated."""
    report = report_of(replace(BOUNDS, latency_budget_us=budget_us), p99_us=p99_us)

    assert ("latency" not in report.failed) is is_passed


def test_challenger_that_forgets_a_segment_is_stopped() -> None:
    """No catch at all in one half: infinitely worse than all rows, and not skipped as no number."""
    left_only = np.where(MATURED.traits[0].segment == 0, SCORE, SCORE * 0.01)

    report = report_of(replace(BOUNDS, alert_volume=1.0), score=left_only)

    assert "segment_recall" in report.failed
    (check,) = [check for check in report.checks if check.name == "segment_recall"]
    assert "half: right" in check.bound


def test_challenger_that_annoys_a_segment_is_stopped() -> None:
    """The genuine rows of one half are flagged far more often than those of the other."""
    loud = np.where(MATURED.traits[0].segment == 0, SCORE, np.minimum(SCORE * 4, 0.99))

    assert "segment_fpr" in report_of(replace(BOUNDS, alert_volume=9.0), score=loud).failed


def test_few_frauds_prove_nothing() -> None:
    """A gate that could not have said no is not passed."""
    assert report_of(replace(BOUNDS, frauds=10**6)).failed == ("frauds",)


def test_first_model_has_no_champion_to_meet() -> None:
    """What it promises about probabilities is tested all the same."""
    report = run_gate(CHAMPION, None, MATURED, BOUNDS)

    assert report.is_passed
    assert [check.name for check in report.checks] == ["frauds", "ece", "in_the_large"]


def test_report_is_json_with_numbers_only() -> None:
    """What is infinite has no JSON."""
    left_only = np.where(MATURED.traits[0].segment == 0, SCORE, SCORE * 0.01)

    document = report_of(score=left_only).document()

    assert json.loads(json.dumps(document, allow_nan=False))["is_passed"] is False
