"""How late a compromised card is noticed: what is lost before its first alert."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.evaluation.figures.outcomes import Outcomes
from training.metrics import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class DetectionDelay:
    """What passes before the first alert of a card with fraud.

    Attributes:
        cards: Cards with fraud.
        caught_cards: Those with an alert at or after their first fraud.
        at_once_share: Share of all cards whose first fraud is the first alert.
        mean_transactions: Frauds before the first alert, mean over caught cards.
        median_transactions: The same, median.
        mean_lost_minor: Their amount, mean over caught cards, reference minor units.
        lost_minor: Amount lost before the alert, or for good, over all cards.
    """

    cards: int
    caught_cards: int
    at_once_share: float
    mean_transactions: float
    median_transactions: float
    mean_lost_minor: float
    lost_minor: int


def detection_delay(flagged: Bools, outcomes: Outcomes) -> DetectionDelay:
    """Return how many frauds, and how much, pass on each card before its first alert.

    An alert before the first fraud is a false one and catches nothing. Rows in time order.
    """
    is_fraud = outcomes.is_fraud
    cards, index = np.unique(outcomes.card[is_fraud], return_inverse=True)
    alert_at = _first_alert(flagged, outcomes, cards)
    row = np.flatnonzero(is_fraud)
    is_lost = row < alert_at[index]
    lost = np.bincount(index[is_lost], minlength=len(cards))
    lost_minor = np.bincount(index, is_lost * outcomes.amount_minor[row], len(cards))
    is_caught = alert_at < len(outcomes)
    return DetectionDelay(
        cards=len(cards),
        caught_cards=int(is_caught.sum()),
        at_once_share=float(np.mean(lost == 0)) if len(cards) else float("nan"),
        mean_transactions=_mean(lost[is_caught]),
        median_transactions=float(np.median(lost[is_caught])) if is_caught.any() else float("nan"),
        mean_lost_minor=_mean(lost_minor[is_caught]),
        lost_minor=int(lost_minor.sum()),
    )


def _first_alert(flagged: Bools, outcomes: Outcomes, cards: Ints) -> Ints:
    """Return the row of each card's first alert since its first fraud; N where there is none."""
    rows = np.arange(len(outcomes))
    first_fraud = _first_of(rows[outcomes.is_fraud], outcomes, cards)
    candidates = rows[flagged & np.isin(outcomes.card, cards)]
    since = first_fraud[np.searchsorted(cards, outcomes.card[candidates])]
    return _first_of(candidates[candidates >= since], outcomes, cards)


def _first_of(rows: Ints, outcomes: Outcomes, cards: Ints) -> Ints:
    first = np.full(len(cards), len(outcomes), np.int64)
    np.minimum.at(first, np.searchsorted(cards, outcomes.card[rows]), rows)
    return first


def _mean(values: Floats | Ints) -> float:
    return float(values.mean()) if len(values) else float("nan")
