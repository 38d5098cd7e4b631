"""An alert as its page draws it: reasons as bars, the card's past as a timeline. Pure.

Lengths are in units of the drawings' view boxes; the page has no inline style.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Reason
from fraudstream.v1.features_pb2 import SequenceStep
from services.console.alerts.mcc import mcc_words
from services.console.alerts.wording import (
    channel_word,
    format_minor,
    format_span,
    format_time,
    kind_word,
)

# A bar's half: reasons towards fraud grow right from the middle, the others left.
HALF_WIDTH: Final = 100
STEP_WIDTH: Final = 20
CHART_HEIGHT: Final = 90
_LEAST_HEIGHT: Final = 4
_TOP_REASONS: Final = 5


@dataclass(frozen=True, slots=True)
class ReasonBar:
    """One reason: its words, its weight in log-odds, and its bar."""

    text: str
    code: str
    weight: str
    is_towards_fraud: bool
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One transaction of the card: its words, how it moved the score, its column in the chart."""

    time: str
    gap: str
    amount: str
    kind: str
    channel: str
    mcc: str
    mcc_words: str
    moved: str
    is_current: bool
    x: int
    y: int
    height: int


def reason_bars(alert: Alert) -> list[ReasonBar]:
    """Return rules and lists that spoke, then the model's strongest reasons, drawn to one scale."""
    said_by = alert.rescore if alert.HasField("rescore") else alert.decision
    reasons = sorted(said_by.reasons, key=_order_of)
    strongest = reasons[:_TOP_REASONS]
    scale = max((abs(reason.contribution) for reason in strongest), default=0.0)
    bars = []
    for reason in strongest:
        is_sound = math.isfinite(reason.contribution) and 0 < scale < math.inf
        width = round(HALF_WIDTH * abs(reason.contribution) / scale) if is_sound else 0
        is_towards_fraud = reason.contribution >= 0
        bars.append(
            ReasonBar(
                text=reason.text,
                code=reason.code,
                weight="rule" if reason.from_rule else f"{reason.contribution:+.2f}",
                is_towards_fraud=is_towards_fraud,
                x=HALF_WIDTH if is_towards_fraud else HALF_WIDTH - width,
                width=width,
            )
        )
    return bars


def _order_of(reason: Reason) -> tuple[bool, float]:
    return not reason.from_rule, -abs(reason.contribution)


def timeline(alert: Alert, reference_currency: str) -> list[TimelineStep]:
    """Return the card's transactions, oldest first; the last one is the alerted transaction.

    A column's height grows with the square root of its amount, so that small ones stay visible.
    """
    steps = list(alert.sequence)
    moved = _moved_by_step(alert)
    largest = max((abs(step.amount_reference_minor) for step in steps), default=0)
    drawn = []
    for index, step in enumerate(steps):
        share = math.sqrt(abs(step.amount_reference_minor) / largest) if largest else 0.0
        height = max(round(CHART_HEIGHT * share), _LEAST_HEIGHT)
        drawn.append(
            TimelineStep(
                time=format_time(step.event_time_ms),
                gap=_gap(steps[index - 1] if index else None, step),
                amount=format_minor(step.amount_reference_minor, reference_currency),
                kind=kind_word(step.kind),
                channel=channel_word(step.channel),
                mcc=step.mcc,
                mcc_words=mcc_words(step.mcc),
                moved=moved.get(len(steps) - 1 - index, ""),
                is_current=index == len(steps) - 1,
                x=index * STEP_WIDTH,
                y=CHART_HEIGHT - height,
                height=height,
            )
        )
    return drawn


def _moved_by_step(alert: Alert) -> dict[int, str]:
    """Return how far past transactions moved the score, by steps back, in log-odds.

    Those that were measured together say so at the newest of them.
    """
    words = {}
    for past in alert.decision.past:
        number = past.oldest_steps_back - past.newest_steps_back + 1
        together = f" ({number} together)" if number > 1 else ""
        words[past.newest_steps_back] = f"{past.contribution:+.2f}{together}"
    return words


def _gap(previous: SequenceStep | None, step: SequenceStep) -> str:
    """Return the time since the step before, in words."""
    if previous is None:
        return ""
    return format_span((step.event_time_ms - previous.event_time_ms) // 1000)
