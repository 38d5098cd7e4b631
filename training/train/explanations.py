"""Reason groups: which features and sequence channels are explained together, in plain words."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.features.catalogue import (
    CATALOGUE,
    HOURS_OF_DAY,
    SEQUENCE_CHANNELS,
    Aggregation,
    Entity,
    Feature,
)
from fraudstream.models.manifest import CHANNEL_PREFIX, ReasonGroup

_TEXTS: Final = {
    "R01": "Unusual amount",
    "R02": "Amount far from what this card usually spends",
    "R03": "Many or large purchases within an hour",
    "R04": "Many or large purchases within a day",
    "R05": "Unlike the card's last weeks",
    "R06": "Very soon or very long after the previous transaction",
    "R07": "Little known about this card",
    "R08": "First time at this terminal or merchant, or in this country",
    "R09": "Unusual time of day or week",
    "R10": "Unusual traffic at this terminal or merchant",
    "R11": "Known frauds at this terminal or merchant",
    "R12": "Kind of merchant",
    "R13": "How the card was used",
    "R14": "Large purchases of this card in the last days",
    "R15": "Far from the card's previous place",
    "R16": "New or busy device or address",
    "R17": "Unusual traffic of this customer",
    "R18": "Known frauds of this card, customer, device or address",
}
_A: Final = Aggregation
_CODE_OF_WINDOW: Final = {1: "R03", HOURS_OF_DAY: "R04"}
_CODE_OF_AGGREGATION: Final = {
    _A.AMOUNT: "R01",
    _A.RATIO_TO_MEAN: "R02",
    _A.RATIO_TO_CLIPPED_MEAN: "R02",
    _A.SECONDS_SINCE_PREVIOUS: "R06",
    _A.SECONDS_SINCE_FIRST: "R07",
    _A.IS_NEW_TERMINAL: "R08",
    _A.IS_NEW_MERCHANT: "R08",
    _A.IS_NEW_COUNTRY: "R08",
    _A.IS_NEW_DEVICE: "R16",
    _A.IS_NEW_IP: "R16",
    _A.DISTINCT_DEVICES: "R16",
    _A.DISTINCT_IPS: "R16",
    _A.IS_NEW_MCC: "R12",
    _A.IS_NIGHT: "R09",
    _A.IS_WEEKEND: "R09",
    _A.NIGHT_SHARE: "R09",
    _A.WEEKEND_SHARE: "R09",
    _A.CARD_NOT_PRESENT_SHARE: "R13",
    _A.UNUSUAL_COUNT: "R14",
    _A.LARGEST_RATIO: "R14",
    _A.KM_FROM_PREVIOUS: "R15",
    _A.SPEED_KMH: "R15",
}
_CODE_OF_ENTITY: Final = {
    Entity.CUSTOMER: "R17",
    Entity.TERMINAL: "R10",
    Entity.MERCHANT: "R10",
    Entity.DEVICE: "R16",
    Entity.IP: "R16",
}
_PLACES: Final = (Entity.TERMINAL, Entity.MERCHANT)
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
    if feature.reads_labels:
        return "R11" if feature.entity in _PLACES else "R18"
    if feature.entity is not Entity.CARD:
        return _CODE_OF_ENTITY[feature.entity]
    by_kind = _CODE_OF_AGGREGATION.get(feature.aggregation)
    return by_kind or _CODE_OF_WINDOW.get(feature.window_h, "R05")


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
    for index, feature in enumerate(CATALOGUE):
        known = vectors[~np.isnan(vectors[:, index]), index]
        baseline[feature.name] = float(np.median(known)) if len(known) else 0.0
    for index, name in enumerate(SEQUENCE_CHANNELS):
        values, counts = np.unique(sequences[:, -1, index], return_counts=True)
        commonest = float(values[np.argmax(counts)])
        median = float(np.median(sequences[:, -1, index]))
        baseline[CHANNEL_PREFIX + name] = commonest if name in _CODES else median
    return baseline
