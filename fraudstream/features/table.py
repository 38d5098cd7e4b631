"""The catalogue as a page: `python -m fraudstream.features.table` prints docs/features.md."""

from __future__ import annotations

import sys
from typing import Final

from fraudstream.features.catalogue import (
    CATALOGUE,
    FEATURE_SET_HASH,
    HOURS_OF_DAY,
    KERNEL_VERSION,
    LABEL_DELAY_D,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
    Feature,
)

_HEAD: Final = f"""\
# Features

Made by `python -m fraudstream.features.table > docs/features.md` from
`fraudstream/features/catalogue.py`; a test fails where the two differ. The order is that of the
vector. A missing value is NaN. A hash names what a feature computes, whatever it is called.

Kernel version {KERNEL_VERSION}; feature set `{FEATURE_SET_HASH}`; labels are read {LABEL_DELAY_D}
days after the quarter of a day of their transaction, and by whole days before that.

| # | name | entity | window | unit | what it is | hash |
|---|---|---|---|---|---|---|
"""

_FOOT: Final = f"""
## Sequence

The card's last {SEQUENCE_LENGTH} transactions in order of arrival, the row itself last; hash
`{SEQUENCE_HASH}`. Padding stands in front: all zero, `seconds_before` -1.
Channels: {", ".join(f"`{name}`" for name in SEQUENCE_CHANNELS)}.
"""


def _window(hours: int) -> str:
    if hours == 0:
        return ""
    return f"{hours} h" if hours <= HOURS_OF_DAY else f"{hours // HOURS_OF_DAY} d"


def _line(number: int, feature: Feature) -> str:
    cells = (
        str(number),
        f"`{feature.name}`",
        feature.entity.value,
        _window(feature.window_h),
        feature.unit,
        feature.description,
        f"`{feature.hash:016x}`",
    )
    return f"| {' | '.join(cells)} |\n"


def feature_page() -> str:
    """Return the page.

    >>> feature_page().startswith("# Features")
    True
    """
    lines = (_line(number, feature) for number, feature in enumerate(CATALOGUE))
    return _HEAD + "".join(lines) + _FOOT


if __name__ == "__main__":
    sys.stdout.write(feature_page())
