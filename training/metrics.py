"""How good scores are: ranking, alert budgets, calibration, and the Handbook's protocol.

Plain NumPy, so that the demo can use it without the training extra. N rows, any order unless said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAY_MS: Final = 86_400_000
ALERT_BUDGETS: Final = (0.001, 0.0025, 0.005, 0.01)
ECE_BINS: Final = 15

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows with their scores and what became of them.

    Attributes:
        score: float64 [N], higher is more suspicious.
        is_fraud: bool [N].
        event_time_ms: int64 [N].
        card: int64 [N].
    """

    score: Floats
    is_fraud: Bools
    event_time_ms: Ints
    card: Ints

    def where(self, kept: Bools) -> Scored:
        """Return the rows that a mask names."""
        return Scored(
            self.score[kept], self.is_fraud[kept], self.event_time_ms[kept], self.card[kept]
        )


def average_precision(score: Floats, is_fraud: Bools) -> float:
    """Return the area under the precision-recall steps; rows of one score count together.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    caught, flagged = _steps(score, is_fraud)
    if not len(caught) or caught[-1] == 0:
        return float("nan")
    gained = np.diff(caught, prepend=0)
    return float(np.sum(gained * caught / flagged) / caught[-1])


def roc_auc(score: Floats, is_fraud: Bools) -> float:
    """Return the chance that a fraud scores above a genuine row, a tie counting half.

    >>> roc_auc(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
    0.5
    """
    caught, flagged = _steps(score, is_fraud)
    if not len(caught) or caught[-1] in (0, flagged[-1]):
        return float("nan")
    recall = np.concatenate([[0.0], caught / caught[-1]])
    genuine = flagged - caught
    fpr = np.concatenate([[0.0], genuine / genuine[-1]])
    return float(np.sum(np.diff(fpr) * (recall[1:] + recall[:-1]) / 2))


def _steps(score: Floats, is_fraud: Bools) -> tuple[Ints, Ints]:
    """Return frauds and rows at or above each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(order) else order
    return np.cumsum(is_fraud[order]).astype(np.int64)[last], (last + 1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class AtBudget:
    """What an alert budget buys.

    Attributes:
        budget: Share of rows that are flagged.
        threshold: Lowest score flagged.
        precision: Frauds among the flagged.
        recall: Flagged among the frauds.
    """

    budget: float
    threshold: float
    precision: float
    recall: float


def at_budget(score: Floats, is_fraud: Bools, budget: float) -> AtBudget:
    """Return what flagging the highest `budget` share of rows gives; ties keep the row order.

    >>> at_budget(np.array([0.9, 0.8, 0.1, 0.0]), np.array([True, False, True, False]), 0.5).recall
    0.5
    """
    count = max(1, round(budget * len(score)))
    top = np.argsort(-score, kind="stable")[:count]
    caught = int(is_fraud[top].sum())
    frauds = max(1, int(is_fraud.sum()))
    return AtBudget(budget, float(score[top[-1]]), caught / count, caught / frauds)


def brier_skill(score: Floats, is_fraud: Bools) -> float:
    """Return 1 - Brier / Brier of always saying the prevalence; 1 is perfect.

    >>> brier_skill(np.array([1.0, 0.0]), np.array([True, False]))
    1.0
    """
    truth = is_fraud.astype(np.float64)
    constant = float(np.mean((truth - truth.mean()) ** 2))
    return 1.0 - float(np.mean((score - truth) ** 2)) / constant if constant else float("nan")


def expected_calibration_error(score: Floats, is_fraud: Bools, bins: int = ECE_BINS) -> float:
    """Return the mean gap between score and fraud share over bins of equal mass.

    >>> expected_calibration_error(np.array([0.5, 0.5]), np.array([True, False]), bins=1)
    0.0
    """
    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [abs(float(score[part].mean() - is_fraud[part].mean())) * len(part) for part in parts]
    return sum(gaps) / len(order)


def card_precision_at_k(scored: Scored, k: int = 100) -> float:
    """Return the Handbook's Card Precision@k: the mean over days of the share of compromised cards.

    Each day the cards are ranked by their highest score; a card with a fraud that day is a hit, and
    a hit is not looked at again on later days.
    """
    days = _daily_hits(scored, k)
    return float(np.mean([hits / k for hits, _ in days])) if days else float("nan")


def card_recall_at_k(scored: Scored, k: int = 100) -> float:
    """Return which share of the cards compromised on a day, and not caught before, is in its top k.

    Days count by how many such cards they have.
    """
    days = _daily_hits(scored, k)
    compromised = sum(cards for _, cards in days)
    return sum(hits for hits, _ in days) / compromised if compromised else float("nan")


def _daily_hits(scored: Scored, k: int) -> list[tuple[int, int]]:
    """Return for each day the compromised cards among the top k, and all that were left to find."""
    day = scored.event_time_ms // DAY_MS
    caught = np.zeros(int(scored.card.max(initial=0)) + 1, np.bool_)
    found = []
    for each in np.unique(day):
        today = scored.where((day == each) & ~caught[scored.card])
        cards, index = np.unique(today.card, return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, index, today.score)
        hit = np.bincount(index, today.is_fraud, len(cards)) > 0
        top = np.argsort(-highest, kind="stable")[:k]
        caught[cards[top[hit[top]]]] = True
        found.append((int(hit[top].sum()), int(hit.sum())))
    return found


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold of the Handbook's protocol: a week to train, a week of delay, a week to test.

    Attributes:
        train_from_ms: Midnight at which the training week begins, epoch milliseconds.
    """

    train_from_ms: int

    @property
    def train_until_ms(self) -> int:
        """End of the training week, exclusive."""
        return self.train_from_ms + 7 * DAY_MS

    @property
    def test_from_ms(self) -> int:
        """Begin of the test week."""
        return self.train_from_ms + 14 * DAY_MS

    @property
    def test_until_ms(self) -> int:
        """End of the test week, exclusive."""
        return self.train_from_ms + 21 * DAY_MS


def handbook_filter(event_time_ms: Ints, card: Ints, is_fraud: Bools, fold: Fold) -> Bools:
    """Return which rows the book tests on: the test week without cards already known compromised.

    Known are cards with a fraud in the training week and, on test day k (from 0), those with a
    fraud on the days up to the seventh day after training plus k - 1, as the book's code has it.
    Rows must reach from the training week to the test week, or the answer is too generous.
    """
    day = (event_time_ms - fold.train_from_ms) // DAY_MS
    known = np.zeros(int(card.max(initial=0)) + 1, np.bool_)
    known[card[is_fraud & (day >= 0) & (day < 7)]] = True
    kept = np.zeros(len(card), np.bool_)
    for test_day in range(14, 21):
        known[card[is_fraud & (day == test_day - 8)]] = True
        today = day == test_day
        kept[today] = ~known[card[today]]
    return kept


def summarise(scored: Scored) -> dict[str, float]:
    """Return every figure of a set of scores by name, as the manifest and the reports give them."""
    figures = {
        "rows": float(len(scored.score)),
        "frauds": float(scored.is_fraud.sum()),
        "ap": average_precision(scored.score, scored.is_fraud),
        "auc": roc_auc(scored.score, scored.is_fraud),
        "cp100": card_precision_at_k(scored),
        "card_recall100": card_recall_at_k(scored),
        "brier_skill": brier_skill(scored.score, scored.is_fraud),
        "ece": expected_calibration_error(scored.score, scored.is_fraud),
    }
    for budget in ALERT_BUDGETS:
        found = at_budget(scored.score, scored.is_fraud, budget)
        figures[f"recall_at_{budget:.2%}"] = found.recall
        figures[f"precision_at_{budget:.2%}"] = found.precision
    return figures
