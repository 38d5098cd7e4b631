"""Calibration: smooth, rising, and true to a known distortion; thresholds that keep a budget."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from fraudstream.models.calibration import Calibration, Thresholds
from training.metrics import Bools, Floats, expected_calibration_error
from training.train.fit_calibration import (
    ThresholdPlan,
    ThresholdRule,
    choose_thresholds,
    fit_calibration,
)


def distorted(rows: int = 60_000) -> tuple[Floats, Bools]:
    """Return raw scores that are twice as sure as they should be, and shifted."""
    rng = np.random.default_rng(1)
    logit = rng.normal(-3.0, 1.5, rows)
    fraud = rng.random(rows) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-(2 * logit + 1))), fraud


def test_fit_undoes_a_known_distortion() -> None:
    """Raw logit = 2 true + 1, so the fit is half of it, less a half."""
    raw, fraud = distorted()
    fitted = fit_calibration(raw, fraud)

    assert fitted.a == pytest.approx(0.5, abs=0.05)
    assert fitted.c == pytest.approx(-0.5, abs=0.15)
    assert expected_calibration_error(fitted.scores(raw), fraud) < 0.004
    assert expected_calibration_error(raw, fraud) > 0.02


def test_calibration_keeps_the_order_of_scores() -> None:
    """Positive slopes: no two raw scores change places."""
    raw = np.linspace(0, 1, 1_001)
    score = fit_calibration(*distorted()).scores(raw)

    assert (np.diff(score) >= 0).all()
    assert ((score >= 0) & (score <= 1)).all()


def test_certain_raw_scores_stay_finite() -> None:
    """A float32 sigmoid saturates at exactly 0 and 1."""
    score = Calibration(kind="beta", a=2.0, b=0.5, c=-1.0).scores(np.array([0.0, 1.0], np.float32))

    assert np.isfinite(score).all()


def test_identity_changes_nothing() -> None:
    """a = b = 1, c = 0 gives back the raw score."""
    raw = np.array([0.001, 0.3, 0.999])

    same = Calibration(kind="platt", a=1.0, b=1.0, c=0.0).scores(raw)
    assert same == pytest.approx(raw)


def test_scores_worse_than_chance_still_rise() -> None:
    """A model that ranks backwards is not turned around behind anybody's back."""
    raw, fraud = distorted(5_000)
    fitted = fit_calibration(raw, ~fraud)

    assert fitted.a > 0
    assert np.ptp(fitted.scores(raw)) < 0.01


def test_few_frauds_change_little() -> None:
    """Three frauds are no reason to bend what the model says; and no slope runs to infinity."""
    raw = np.concatenate([np.full(50, 1e-4), np.full(3, 0.9)])
    fitted = fit_calibration(raw, raw > 0.5)

    assert fitted.a == pytest.approx(1.0, abs=0.3)
    assert fitted.scores(np.array([0.9]))[0] == pytest.approx(0.9, abs=0.06)


@pytest.mark.parametrize("parameters", [{"a": 0.0}, {"b": -1.0}, {"c": float("nan")}])
def test_calibration_that_does_not_rise_is_refused(parameters: dict[str, float]) -> None:
    """A slope of zero or less, or no number, is no calibration."""
    with pytest.raises(ValidationError):
        Calibration.model_validate({"kind": "beta", "a": 1.0, "b": 1.0, "c": 0.0, **parameters})


def test_thresholds_flag_their_budget() -> None:
    """Of 10,000 rows ten are declined and a hundred are challenged or worse."""
    score = np.random.default_rng(2).random(10_000)
    plan = ThresholdPlan()
    chosen = choose_thresholds(score, plan)

    assert (score >= chosen.decline).sum() == round(plan.decline * 10_000)
    assert (score >= chosen.challenge).sum() == round(plan.challenge * 10_000)


def test_thresholds_out_of_order_are_refused() -> None:
    """Declining below review would hide cases from analysts."""
    with pytest.raises(ValidationError):
        Thresholds(challenge=0.5, review=0.4, decline=0.9)


def test_thresholds_by_cost_are_where_flagging_is_worth_it() -> None:
    """A missed fraud costs 1, a genuine one declined 3: from p = 0.75 on declining is cheaper."""
    plan = ThresholdPlan(by=ThresholdRule.COST, challenge=0.01, review=0.25, decline=3.0)

    chosen = choose_thresholds(np.array([0.5]), plan)

    assert (chosen.review, chosen.decline) == (0.2, 0.75)
    assert chosen.challenge == pytest.approx(0.01 / 1.01)


def test_thresholds_may_be_given_as_scores() -> None:
    """No row is looked at."""
    plan = ThresholdPlan(by=ThresholdRule.SCORE, challenge=0.1, review=0.4, decline=0.9)

    chosen = choose_thresholds(np.array([0.5]), plan)

    assert (chosen.challenge, chosen.review, chosen.decline) == (0.1, 0.4, 0.9)


@pytest.mark.parametrize(
    ("by", "numbers", "expected"),
    [
        ("budget", (0.01, 0.02, 0.03), "falling numbers"),
        ("cost", (3.0, 2.0, 1.0), "rising numbers"),
        ("score", (0.1, 0.2, 1.5), "numbers up to 1"),
    ],
)
def test_threshold_plan_out_of_order_is_refused(
    by: str, numbers: tuple[float, float, float], expected: str
) -> None:
    """A decline that is easier to reach than a review is a mistake in the file."""
    challenge, review, decline = numbers

    with pytest.raises(ValueError, match=expected):
        ThresholdPlan(by=ThresholdRule(by), challenge=challenge, review=review, decline=decline)
