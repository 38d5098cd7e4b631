"""What is computed: a feature is one line here; vector order, hashes and views follow by code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

# A new output for the same input needs a new version: it is part of every feature's hash.
KERNEL_VERSION: Final = 1

# Labels are read only when their transaction is this old: what is newer is not yet settled.
LABEL_DELAY_D: Final = 7


class Entity(StrEnum):
    """Whose state a feature reads."""

    CARD = "card"
    TERMINAL = "terminal"


class Window(IntEnum):
    """How far back a feature looks. Windows end at the row; see `Aggregation` for which buckets."""

    NONE = -1
    HOUR = 0
    DAY = 1
    WEEK = 2
    MONTH = 3


class Aggregation(IntEnum):
    """What is computed. The number is what the kernel switches on.

    Card windows hold the row itself and all earlier buckets of the window (5 minutes wide for the
    hour, an hour for the day, a day for the rest) and count purchases only. Terminal windows hold
    closed buckets only (a minute, an hour, a day): never the row's own bucket.
    """

    COUNT = 0
    SUM = 1
    MEAN = 2
    MAX = 3
    AMOUNT = 4
    SECONDS_SINCE_PREVIOUS = 5
    SECONDS_SINCE_FIRST = 6
    RATIO_TO_MEAN = 7
    RATIO_TO_MEDIAN = 8
    IS_NEW_TERMINAL = 9
    IS_NIGHT = 10
    IS_WEEKEND = 11
    TERMINAL_COUNT = 12
    TERMINAL_MEAN = 13
    FRAUD_COUNT = 14
    FRAUD_SHARE = 15


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: what it is called, and all that decides its value.

    Attributes:
        name: Name in vectors, views and pages.
        entity: Whose state it reads.
        aggregation: What is computed.
        window: Over which time.
        unit: Unit of the value.
        description: One line for people; not part of the hash.
    """

    name: str
    entity: Entity
    aggregation: Aggregation
    window: Window
    unit: str
    description: str

    @property
    def hash(self) -> int:
        """Return 64 bits over what the feature computes, and nothing else.

        >>> CATALOGUE[0].hash == CATALOGUE[1].hash
        False
        """
        listing = "|".join(
            (
                self.entity.value,
                self.aggregation.name,
                self.window.name,
                self.unit,
                f"kernel {KERNEL_VERSION}",
                f"delay {LABEL_DELAY_D} d",
            )
        )
        return int.from_bytes(hashlib.sha256(listing.encode()).digest()[:8], "little")


_C, _T = Entity.CARD, Entity.TERMINAL
_A, _W = Aggregation, Window
_MINOR, _COUNT, _RATIO, _SECONDS, _FLAG = "reference minor units", "count", "ratio", "s", "0 or 1"

# fmt: off
CATALOGUE: Final[tuple[Feature, ...]] = (
    Feature("amount", _C, _A.AMOUNT, _W.NONE, _MINOR, "Amount of this transaction"),
    Feature("card_count_1h", _C, _A.COUNT, _W.HOUR, _COUNT, "Purchases of the card in the last hour"),
    Feature("card_count_24h", _C, _A.COUNT, _W.DAY, _COUNT, "Purchases of the card in the last 24 hours"),
    Feature("card_count_7d", _C, _A.COUNT, _W.WEEK, _COUNT, "Purchases of the card in the last 7 days"),
    Feature("card_count_30d", _C, _A.COUNT, _W.MONTH, _COUNT, "Purchases of the card in the last 30 days"),
    Feature("card_sum_1h", _C, _A.SUM, _W.HOUR, _MINOR, "Spend of the card in the last hour"),
    Feature("card_sum_24h", _C, _A.SUM, _W.DAY, _MINOR, "Spend of the card in the last 24 hours"),
    Feature("card_sum_7d", _C, _A.SUM, _W.WEEK, _MINOR, "Spend of the card in the last 7 days"),
    Feature("card_sum_30d", _C, _A.SUM, _W.MONTH, _MINOR, "Spend of the card in the last 30 days"),
    Feature("card_mean_1h", _C, _A.MEAN, _W.HOUR, _MINOR, "Mean purchase of the card in the last hour"),
    Feature("card_mean_24h", _C, _A.MEAN, _W.DAY, _MINOR, "Mean purchase of the card in the last 24 hours"),
    Feature("card_mean_7d", _C, _A.MEAN, _W.WEEK, _MINOR, "Mean purchase of the card in the last 7 days"),
    Feature("card_mean_30d", _C, _A.MEAN, _W.MONTH, _MINOR, "Mean purchase of the card in the last 30 days"),
    Feature("card_max_1h", _C, _A.MAX, _W.HOUR, _MINOR, "Largest purchase of the card in the last hour"),
    Feature("card_max_24h", _C, _A.MAX, _W.DAY, _MINOR, "Largest purchase of the card in the last 24 hours"),
    Feature("card_max_7d", _C, _A.MAX, _W.WEEK, _MINOR, "Largest purchase of the card in the last 7 days"),
    Feature("card_max_30d", _C, _A.MAX, _W.MONTH, _MINOR, "Largest purchase of the card in the last 30 days"),
    Feature("card_seconds_since_previous", _C, _A.SECONDS_SINCE_PREVIOUS, _W.NONE, _SECONDS, "Time since the card's previous transaction"),
    Feature("card_seconds_since_first", _C, _A.SECONDS_SINCE_FIRST, _W.NONE, _SECONDS, "Time since the card's first known transaction, at most 30 days"),
    Feature("card_amount_to_mean_30d", _C, _A.RATIO_TO_MEAN, _W.MONTH, _RATIO, "Amount against the card's mean of the 30 days before it"),
    Feature("card_amount_to_median", _C, _A.RATIO_TO_MEDIAN, _W.NONE, _RATIO, "Amount against the median of the card's last purchases"),
    Feature("card_is_new_terminal", _C, _A.IS_NEW_TERMINAL, _W.NONE, _FLAG, "The terminal is not among the card's last transactions"),
    Feature("is_night", _C, _A.IS_NIGHT, _W.NONE, _FLAG, "Between midnight and 7 in the morning, local time"),
    Feature("is_weekend", _C, _A.IS_WEEKEND, _W.NONE, _FLAG, "Saturday or Sunday, local time"),
    Feature("terminal_count_1h", _T, _A.TERMINAL_COUNT, _W.HOUR, _COUNT, "Purchases at the terminal in the 60 minutes before this one"),
    Feature("terminal_count_24h", _T, _A.TERMINAL_COUNT, _W.DAY, _COUNT, "Purchases at the terminal in the 24 hours before this one"),
    Feature("terminal_count_7d", _T, _A.TERMINAL_COUNT, _W.WEEK, _COUNT, "Purchases at the terminal in the 7 days before today"),
    Feature("terminal_count_30d", _T, _A.TERMINAL_COUNT, _W.MONTH, _COUNT, "Purchases at the terminal in the 30 days before today"),
    Feature("terminal_mean_24h", _T, _A.TERMINAL_MEAN, _W.DAY, _MINOR, "Mean purchase at the terminal in the 24 hours before this one"),
    Feature("terminal_fraud_count_7d", _T, _A.FRAUD_COUNT, _W.WEEK, _COUNT, "Known frauds at the terminal in 7 settled days"),
    Feature("terminal_fraud_count_30d", _T, _A.FRAUD_COUNT, _W.MONTH, _COUNT, "Known frauds at the terminal in 30 settled days"),
    Feature("terminal_fraud_share_24h", _T, _A.FRAUD_SHARE, _W.DAY, _RATIO, "Share of frauds at the terminal on the last settled day"),
    Feature("terminal_fraud_share_7d", _T, _A.FRAUD_SHARE, _W.WEEK, _RATIO, "Share of frauds at the terminal in 7 settled days"),
    Feature("terminal_fraud_share_30d", _T, _A.FRAUD_SHARE, _W.MONTH, _RATIO, "Share of frauds at the terminal in 30 settled days"),
)
# fmt: on

FEATURE_NAMES: Final = tuple(feature.name for feature in CATALOGUE)
FEATURE_HASHES: Final = tuple(feature.hash for feature in CATALOGUE)
FEATURE_SET_HASH: Final = hashlib.sha256(
    b"".join(number.to_bytes(8, "little") for number in FEATURE_HASHES)
).hexdigest()[:16]

# The card's last transactions as the model sees them: float32 [T, C], oldest first.
SEQUENCE_LENGTH: Final = 32
SEQUENCE_CHANNELS: Final = (
    "amount_minor",
    "seconds_before",
    "kind",
    "channel",
    "mcc",
    "local_hour",
)
SEQUENCE_HASH: Final = hashlib.sha256(
    f"{SEQUENCE_LENGTH}|{','.join(SEQUENCE_CHANNELS)}|kernel {KERNEL_VERSION}".encode()
).hexdigest()[:16]


def kernel_plan() -> npt.NDArray[np.int64]:
    """Return the catalogue as the kernel reads it: int64 [F, 2], aggregation and window.

    >>> kernel_plan().shape == (len(CATALOGUE), 2)
    True
    """
    return np.array([(f.aggregation, f.window) for f in CATALOGUE], dtype=np.int64)
