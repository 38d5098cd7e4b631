"""Reason groups: which features and sequence channels are explained together, in plain words."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.features.catalogue import (
    CATALOGUE,
    SEQUENCE_CHANNELS,
    Aggregation,
    Feature,
    Window,
)
from fraudstream.manifest import CHANNEL_PREFIX, ReasonGroup

_TEXTS: Final = {
    "R01": "Unusual amount",
    "R02": "Amount far from what this card usually spends",
    "R03": "Many or large purchases within an hour",
    "R04": "Many or large purchases within a day",
    "R05": "Unlike the card's last weeks",
    "R06": "Very soon or very long after the previous transaction",
    "R07": "Little known about this card",
    "R08": "First time at this terminal",
    "R09": "Unusual time of day or week",
    "R10": "Unusual traffic at this terminal",
    "R11": "Known frauds at this terminal",
    "R12": "Kind of merchant",
    "R13": "How the card was used",
}
_CODE_OF_WINDOW: Final = {Window.HOUR: "R03", Window.DAY: "R04"}
_CODE_OF_AGGREGATION: Final = {
    Aggregation.AMOUNT: "R01",
    Aggregation.RATIO_TO_MEAN: "R02",
    Aggregation.RATIO_TO_MEDIAN: "R02",
    Aggregation.SECONDS_SINCE_PREVIOUS: "R06",
    Aggregation.SECONDS_SINCE_FIRST: "R07",
    Aggregation.IS_NEW_TERMINAL: "R08",
    Aggregation.IS_NIGHT: "R09",
    Aggregation.IS_WEEKEND: "R09",
    Aggregation.TERMINAL_COUNT: "R10",
    Aggregation.TERMINAL_MEAN: "R10",
    Aggregation.FRAUD_COUNT: "R11",
    Aggregation.FRAUD_SHARE: "R11",
}
_CODE_OF_CHANNEL: Final = {
    "amount_minor": "R01",
    "local_hour": "R09",
    "mcc": "R12",
    "kind": "R13",
    "channel": "R13",
}
_CODES: Final = frozenset(("kind", "channel", "mcc"))  # numbers that name, not measure


def code_of(feature: Feature) -> str:
    """Return the code of a feature's group.

    >>> code_of(CATALOGUE[0])
    'R01'
    """
    by_kind = _CODE_OF_AGGREGATION.get(feature.aggregation)
    return by_kind or _CODE_OF_WINDOW.get(feature.window, "R05")


def reason_groups() -> tuple[ReasonGroup, ...]:
    """Return the groups; every feature is in exactly one."""
    return tuple(
        ReasonGroup(
            code=code,
            text=text,
            features=tuple(feature.name for feature in CATALOGUE if code_of(feature) == code),
            channels=tuple(name for name, own in _CODE_OF_CHANNEL.items() if own == code),
        )
        for code, text in _TEXTS.items()
    )


def reason_baseline(
    vectors: NDArray[np.float32], sequences: NDArray[np.float32]
) -> dict[str, float]:
    """Return the usual value of each feature and channel: medians, for codes the commonest.

    Args:
        vectors: float32 [N, F]; a feature that is always missing counts as 0.
        sequences: float32 [N, T, C]; the last step counts, which is what a reason replaces.
    """
    baseline = {}
    for place, feature in enumerate(CATALOGUE):
        known = vectors[~np.isnan(vectors[:, place]), place]
        baseline[feature.name] = float(np.median(known)) if len(known) else 0.0
    for place, name in enumerate(SEQUENCE_CHANNELS):
        values, counts = np.unique(sequences[:, -1, place], return_counts=True)
        commonest = float(values[np.argmax(counts)])
        median = float(np.median(sequences[:, -1, place]))
        baseline[CHANNEL_PREFIX + name] = commonest if name in _CODES else median
    return baseline
