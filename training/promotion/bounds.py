"""What a challenger must hold to be promoted: every bound in one place, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.evaluation.figures.bootstrap import Draws


@dataclass(frozen=True, slots=True)
class GateBounds:
    """The bounds of the promotion gate.

    Attributes:
        ap_margin: The 95 % interval of AP(challenger) - AP(champion) must lie above minus this.
            Non-inferiority: a challenger may be wanted for its speed, its calibration or its fresh
            data, so it need not win; half a hundredth of AP is a tenth of the spread of the
            Handbook's four test folds (0.05), which nobody sees in a queue.
        draws: Of the bootstrap. 1,000 draws leave the interval's ends off by 0.0005 of AP.
        frauds: Fewer than 100 matured frauds give an interval of AP about 0.1 wide: the test would
            say no to every challenger, and mean nothing.
        latency_ratio: p99 of the challenger's engine / the champion's, processor time, in the worst
            bucket. The same model measured twice on a busy two-core machine gave up to 1.09 in 40
            comparisons; a quarter more is a quarter fewer rows a core.
        latency_budget_us: A p99 that is good enough whatever the champion's, microseconds: an
            ensemble is slower than a network and may still be fast enough. None for none.
        ece: Twice what the project's figures demand over four folds (0.001): one month is noisier.
        in_the_large: Mean score / fraud share may be off 1 by this; more moves every threshold's
            cost, as thresholds are probabilities.
        alert_volume: Share of rows at or over the review threshold, against the champion's. A team
            plans its week; a fifth more alerts is a day of it.
        alert_budget: A share of alerts that is planned for, whatever the champion's. None for none.
        segment_ratio: How much worse than the champion's worst segment a challenger's may be, in
            false-positive rate and in recall: 1.25 is the four-fifths rule, as reports flag it.
    """

    ap_margin: float = 0.005
    draws: Draws = field(default_factory=Draws)
    frauds: int = 100
    latency_ratio: float = 1.25
    latency_budget_us: float | None = None
    ece: float = 0.002
    in_the_large: float = 0.20
    alert_volume: float = 0.20
    alert_budget: float | None = None
    segment_ratio: float = 1.25
