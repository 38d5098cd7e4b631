"""The promotion gate: one stated test of a challenger against the champion. Pure.

Both score the same matured rows; a challenger passes if it passes every check. Axes: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from training.evaluation.figures.bootstrap import Truth, paired_bootstrap
from training.evaluation.figures.reliability import reliability
from training.evaluation.figures.segments import FPR, RECALL, Trait, measure_segments, worst_of
from training.metrics import Floats
from training.promotion.bounds import GateBounds


@dataclass(frozen=True, slots=True)
class Matured:
    """Rows whose labels have had their time.

    Attributes:
        truth: What became of them.
        traits: What divides them into segments.
    """

    truth: Truth
    traits: Sequence[Trait]


@dataclass(frozen=True, slots=True)
class Contender:
    """A model as the gate sees it.

    Attributes:
        name: NAME/VERSION.
        score: float64 [N], calibrated.
        review: Scores from here on need a person.
        p99_us: Of its engine, by bucket.
    """

    name: str
    score: Floats
    review: float
    p99_us: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the gate.

    Attributes:
        name: Stable, for machines.
        is_passed: Whether it was.
        measured: What was found.
        bound: What was demanded, in words.
        champion: The same of the champion, None where the check knows none.
    """

    name: str
    is_passed: bool
    measured: float
    bound: str
    champion: float | None = None


@dataclass(frozen=True, slots=True)
class GateReport:
    """What the gate said, as it is kept as evidence.

    Attributes:
        challenger: NAME/VERSION.
        champion: NAME/VERSION; None for the first model, which has nothing to be compared with.
        rows: Matured rows that both scored.
        frauds: How many of them are fraud.
        checks: All, passed or not.
    """

    challenger: str
    champion: str | None
    rows: int
    frauds: int
    checks: tuple[Check, ...]

    @property
    def is_passed(self) -> bool:
        """Whether every check was passed."""
        return all(check.is_passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that were not."""
        return tuple(check.name for check in self.checks if not check.is_passed)

    def document(self) -> dict[str, object]:
        """Return it as JSON values; what is not finite becomes null."""
        checks = [
            {key: _finite(value) for key, value in asdict(check).items()} for check in self.checks
        ]
        return asdict(self) | {"checks": checks, "is_passed": self.is_passed}


def run_gate(
    challenger: Contender, champion: Contender | None, matured: Matured, bounds: GateBounds
) -> GateReport:
    """Return what the gate says of a challenger; without a champion only its calibration counts."""
    checks = [_enough(matured, bounds), *_calibration(challenger, champion, matured, bounds)]
    if champion is not None:
        checks += [
            _ranking(challenger, champion, matured, bounds),
            _volume(challenger, champion, bounds),
            _latency(challenger, champion, bounds),
            *_segments(challenger, champion, matured, bounds),
        ]
    return GateReport(
        challenger=challenger.name,
        champion=champion.name if champion else None,
        rows=len(matured.truth.is_fraud),
        frauds=int(matured.truth.is_fraud.sum()),
        checks=tuple(checks),
    )


def _enough(matured: Matured, bounds: GateBounds) -> Check:
    frauds = int(matured.truth.is_fraud.sum())
    return Check("frauds", frauds >= bounds.frauds, frauds, f"at least {bounds.frauds}")


def _ranking(
    challenger: Contender, champion: Contender, matured: Matured, bounds: GateBounds
) -> Check:
    gained = paired_bootstrap(challenger.score, champion.score, matured.truth, draws=bounds.draws)
    bound = (
        f"95 % interval of the difference of AP above {-bounds.ap_margin}; it is"
        f" {gained.estimate:+.4f} [{gained.low:+.4f}, {gained.high:+.4f}]"
    )
    return Check("ap_difference", gained.low > -bounds.ap_margin, gained.low, bound)


def _calibration(
    challenger: Contender, champion: Contender | None, matured: Matured, bounds: GateBounds
) -> Iterator[Check]:
    found = reliability(challenger.score, matured.truth.is_fraud)
    before = reliability(champion.score, matured.truth.is_fraud) if champion else None
    yield Check(
        "ece",
        found.ece <= bounds.ece,
        found.ece,
        f"at most {bounds.ece}",
        before.ece if before else None,
    )
    yield Check(
        "in_the_large",
        abs(found.in_the_large - 1) <= bounds.in_the_large,
        found.in_the_large,
        f"mean score / fraud share within 1 +- {bounds.in_the_large}",
        before.in_the_large if before else None,
    )


def _volume(challenger: Contender, champion: Contender, bounds: GateBounds) -> Check:
    share, before = _alert_share(challenger), _alert_share(champion)
    if bounds.alert_budget is not None:
        bound = f"at most the planned {bounds.alert_budget:.3%} of rows"
        return Check("alert_volume", share <= bounds.alert_budget, share, bound, before)
    is_near = abs(share - before) <= bounds.alert_volume * before
    bound = f"within {bounds.alert_volume:.0%} of the champion's share of rows"
    return Check("alert_volume", is_near, share, bound, before)


def _alert_share(contender: Contender) -> float:
    return float((contender.score >= contender.review).mean())


def _latency(challenger: Contender, champion: Contender, bounds: GateBounds) -> Check:
    """Compare the engines in the bucket in which the challenger does worst."""
    ratios = {
        bucket: challenger.p99_us[bucket] / champion.p99_us[bucket] for bucket in champion.p99_us
    }
    bucket = max(ratios, key=lambda each: ratios[each])
    if bounds.latency_budget_us is not None:
        bucket = max(challenger.p99_us)
        is_passed = challenger.p99_us[bucket] <= bounds.latency_budget_us
        bound = f"p99 of {bucket} rows at most the planned {bounds.latency_budget_us:.0f} us"
    else:
        is_passed = ratios[bucket] <= bounds.latency_ratio
        bound = f"p99 of {bucket} rows at most {bounds.latency_ratio} of the champion's, us"
    return Check("latency", is_passed, challenger.p99_us[bucket], bound, champion.p99_us[bucket])


def _segments(
    challenger: Contender, champion: Contender, matured: Matured, bounds: GateBounds
) -> Iterator[Check]:
    found, before = _worst(challenger, matured), _worst(champion, matured)
    for measure, (where, ratio) in found.items():
        _, usual = before[measure]
        bound = f"worst segment / all at most {bounds.segment_ratio} of the champion's ({where})"
        is_passed = ratio <= bounds.segment_ratio * usual
        yield Check(f"segment_{measure.lower()}", is_passed, ratio, bound, usual)


def _worst(contender: Contender, matured: Matured) -> dict[str, tuple[str, float]]:
    """Return the worst segment of all traits by measure: its name, and its ratio, at least 1.

    One without any catch is infinitely bad.
    """
    flagged = contender.score >= contender.review
    segments = measure_segments(contender.score, flagged, matured.truth.is_fraud, matured.traits)
    nothing = ("no segment has enough rows", 1.0)
    found: dict[str, tuple[str, float]] = {FPR: nothing, RECALL: nothing}
    for worst in worst_of(segments):
        if worst.measure in found and worst.ratio > found[worst.measure][1]:
            found[worst.measure] = (f"{worst.trait}: {worst.label}", worst.ratio)
    return found


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
