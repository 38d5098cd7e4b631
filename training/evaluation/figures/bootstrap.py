"""Bootstrap by card: how far a figure, or the difference of two models, may be chance.

Transactions of one card are not independent (a compromised card has many frauds), so cards are
drawn with replacement and take all their rows along; a row then counts as often as its card was
drawn. Rows are sorted once, not once a round. Cost: half a millisecond a round for AP of
230,000 rows with 1,600 frauds, a paired comparison twice that. N rows, C cards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics import Bools, Floats, Ints

Places = NDArray[np.intp]
# A figure as a function of how often each card was drawn, int64 [C].
Statistic = Callable[[Ints], float]


@dataclass(frozen=True, slots=True)
class Truth:
    """What became of some rows.

    Attributes:
        is_fraud: bool [N].
        card: int64 [N], numbered from 0; rows of one card are drawn together.
    """

    is_fraud: Bools
    card: Ints


# Makes a statistic of scores, float64 [N], and what became of the rows.
Metric = Callable[[Floats, Truth], Statistic]


@dataclass(frozen=True, slots=True)
class Draws:
    """How often to draw, and from which seed."""

    rounds: int = 1_000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval.

    Attributes:
        estimate: On the rows as they are.
        low: Lower end.
        high: Upper end.
        rounds: Draws in which the figure existed: one without any fraud has no AP.
    """

    estimate: float
    low: float
    high: float
    rounds: int

    @property
    def is_above_zero(self) -> bool:
        """Whether the whole interval is: a difference is then no accident at its level."""
        return self.low > 0


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Rows from the highest score down, in groups: rows of one score, or between two frauds.

    Genuine rows between two scores that frauds have change no figure by their order, so they are
    one group; a few thousand groups stand for all rows.

    Attributes:
        card: intp [N], of each row in this order.
        first: intp [G], index where each group begins.
        fraud_card: intp [M], card of each fraud.
        fraud_group: intp [M], group of each fraud.
    """

    card: Places
    first: Places
    fraud_card: Places
    fraud_group: Places

    def counted(self, drawn: Ints) -> tuple[Floats, Floats]:
        """Return rows and frauds at or above the end of each group, float64 [G] each."""
        rows = np.add.reduceat(drawn[self.card], self.first)
        frauds = np.bincount(self.fraud_group, drawn[self.fraud_card], len(self.first))
        return np.cumsum(rows).astype(np.float64), np.cumsum(frauds).astype(np.float64)


def _rank(score: Floats, truth: Truth) -> _Ranked:
    order = np.argsort(-score, kind="stable")
    ranked, is_fraud = score[order], truth.is_fraud[order]
    card = truth.card[order].astype(np.intp)
    is_new_score = np.append(True, ranked[1:] != ranked[:-1])[: len(order)]
    starts = np.flatnonzero(is_new_score)
    has_fraud = np.logical_or.reduceat(is_fraud, starts) if len(starts) else np.zeros(0, np.bool_)
    first = starts[has_fraud | np.append(True, has_fraud[:-1])[: len(starts)]]
    group = np.searchsorted(first, np.flatnonzero(is_fraud), side="right") - 1
    return _Ranked(card, first, card[is_fraud], group)


def ap_by_card(score: Floats, truth: Truth) -> Statistic:
    """Return average precision as a function of drawn cards.

    >>> truth = Truth(np.array([True, False, True]), np.array([0, 1, 2]))
    >>> round(ap_by_card(np.array([0.9, 0.8, 0.1]), truth)(np.ones(3, np.int64)), 6)
    0.833333
    """
    ranked = _rank(score, truth)

    def measure(drawn: Ints) -> float:
        rows, frauds = ranked.counted(drawn)
        gained = np.diff(frauds, prepend=0.0)
        found = gained > 0
        if not found.any():
            return float("nan")
        return float(np.sum(gained[found] * frauds[found] / rows[found]) / frauds[-1])

    return measure


def auc_by_card(score: Floats, truth: Truth) -> Statistic:
    """Return ROC-AUC as a function of drawn cards; a tie counts half."""
    ranked = _rank(score, truth)

    def measure(drawn: Ints) -> float:
        rows, frauds = ranked.counted(drawn)
        genuine = rows - frauds
        if not len(rows) or frauds[-1] == 0 or genuine[-1] == 0:
            return float("nan")
        above = np.append(0.0, frauds)
        area = np.sum(np.diff(genuine, prepend=0.0) * (above[1:] + above[:-1]) / 2)
        return float(area / (frauds[-1] * genuine[-1]))

    return measure


def recall_by_card(budget: float) -> Metric:
    """Return the metric: recall where the highest `budget` share of the drawn rows is flagged.

    A score that the budget cuts through counts by the part of its rows that fits.
    """

    def make(score: Floats, truth: Truth) -> Statistic:
        ranked = _rank(score, truth)

        def measure(drawn: Ints) -> float:
            rows, frauds = ranked.counted(drawn)
            if not len(rows) or frauds[-1] == 0:
                return float("nan")
            return float(np.interp(budget * rows[-1], rows, frauds, left=0.0) / frauds[-1])

        return measure

    return make


def brier_by_card(score: Floats, truth: Truth) -> Statistic:
    """Return the Brier score as a function of drawn cards; lower is better."""
    cards = int(truth.card.max(initial=-1)) + 1
    squares = np.bincount(truth.card, (score - truth.is_fraud) ** 2, cards)
    rows = np.bincount(truth.card, minlength=cards)

    def measure(drawn: Ints) -> float:
        # Not `@`: BLAS may start threads for it, which takes longer than the sum.
        return float(np.sum(drawn[:cards] * squares)) / max(1, int(np.sum(drawn[:cards] * rows)))

    return measure


def mean_of(statistics: Sequence[Statistic]) -> Statistic:
    """Return the mean of statistics over the same cards: of the folds of a protocol.

    A fold without fraud in a draw is left out of the mean.

    >>> mean_of([lambda drawn: 1.0, lambda drawn: 3.0])(np.ones(1, np.int64))
    2.0
    """

    def measure(drawn: Ints) -> float:
        found = np.array([statistic(drawn) for statistic in statistics])
        return float(np.mean(found[np.isfinite(found)])) if np.isfinite(found).any() else np.nan

    return measure


def bootstrap(statistic: Statistic, cards: int, draws: Draws, level: float = 0.95) -> Interval:
    """Return a figure with its percentile interval (Efron 1979).

    Args:
        statistic: The figure.
        cards: C; cards are numbered 0..C-1.
        draws: How often, from which seed. The same give the same interval.
        level: Share of the draws that lie inside.
    """
    rng = np.random.default_rng((draws.seed, 5))
    found = np.array([statistic(_draw(rng, cards)) for _ in range(draws.rounds)], np.float64)
    found = found[np.isfinite(found)]
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail]) if len(found) else (np.nan, np.nan)
    estimate = statistic(np.ones(cards, np.int64))
    return Interval(estimate, float(low), float(high), len(found))


def paired_bootstrap(
    score_a: Floats,
    score_b: Floats,
    truth: Truth,
    metric: Metric = ap_by_card,
    draws: Draws = Draws(),
) -> Interval:
    """Return the interval of metric(A) - metric(B), both on the same draws of cards.

    Args:
        score_a: float64 [N], of model A.
        score_b: float64 [N], of model B on the same rows.
        truth: What became of the rows; any card numbers.
        metric: `ap_by_card`, `auc_by_card`, `recall_by_card(0.005)` or `brier_by_card`.
        draws: How often, from which seed.

    >>> truth = Truth(np.array([True, False] * 8), np.arange(16))
    >>> good, bad = np.tile([0.9, 0.1], 8), np.tile([0.1, 0.9], 8)
    >>> paired_bootstrap(good, bad, truth).is_above_zero
    True
    """
    names, card = np.unique(truth.card, return_inverse=True)
    numbered = Truth(truth.is_fraud, card.astype(np.int64))
    a, b = metric(score_a, numbered), metric(score_b, numbered)
    return bootstrap(lambda drawn: a(drawn) - b(drawn), len(names), draws)


def _draw(rng: np.random.Generator, cards: int) -> NDArray[np.int64]:
    """Return how often each card is drawn: as many draws as there are cards."""
    return np.bincount(rng.integers(0, cards, cards), minlength=cards).astype(np.int64)
