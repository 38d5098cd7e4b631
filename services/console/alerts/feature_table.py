"""The features of an alert as rows of words. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from fraudstream.features.catalogue import CATALOGUE
from fraudstream.v1.alert_pb2 import Alert

_FEATURES: Final = {feature.name: feature for feature in CATALOGUE}


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One feature; a missing value is a dash."""

    name: str
    value: str
    unit: str
    description: str


def feature_rows(alert: Alert) -> list[FeatureRow]:
    """Return the features in the order of the vector.

    A feature that this catalogue does not know is shown without unit and description.
    """
    rows = []
    for value in alert.features:
        feature = _FEATURES.get(value.name)
        rows.append(
            FeatureRow(
                name=value.name,
                value=_number(value.value),
                unit=feature.unit if feature else "",
                description=feature.description if feature else "",
            )
        )
    return rows


def _number(value: float) -> str:
    """Return a number as people read it: no more digits than matter."""
    if math.isnan(value):
        return "\u2013"
    is_whole = math.isfinite(value) and value == int(value)
    return f"{value:,.{0 if is_whole else 3}f}".replace(",", "\u2009")
