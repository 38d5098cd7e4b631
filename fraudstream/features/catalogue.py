"""What is computed: a feature is one line here; layout, vector order, hashes and views follow by code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

# A new output for the same input needs a new version: it is part of every feature's hash.
KERNEL_VERSION: Final = 3

# Labels are read only when the quarter of a day of their transaction is this old: what is newer is
# not settled yet.
LABEL_DELAY_D: Final = 7

HOURS_OF_DAY: Final = 24
MONTH_D: Final = 30


class Entity(StrEnum):
    """Whose state a feature reads. All but the card are shared: other cards move them on too."""

    CARD = "card"
    CUSTOMER = "customer"
    TERMINAL = "terminal"
    MERCHANT = "merchant"
    DEVICE = "device"
    IP = "ip"


class Aggregation(IntEnum):
    """What is computed. The number is what the kernel switches on.

    Windows of a card hold the row itself and all earlier buckets of the window (5 minutes wide for
    the hour, an hour up to a day, a day beyond) and count purchases only. Windows of a shared
    entity hold closed buckets only (a minute, an hour, a day): never the row's own bucket. *Recent*
    features look at those of the card's last 32 transactions that lie in the window. The *usual*
    amount of a card is a clipped mean of its last 200 or so purchases: each moves it on by what it
    differs, over the purchases so far, and counts as 3 times the usual amount at most. A purchase
    is *unusual* beyond 3 times of it.
    """

    # Of a card's windows, or of a shared entity's.
    COUNT = 0
    SUM = 1
    MEAN = 2
    MAX = 3
    RATIO_TO_MEAN = 4
    SECONDS_SINCE_FIRST = 5
    # Of the row, and of the card's last transactions.
    AMOUNT = 10
    IS_NIGHT = 11
    IS_WEEKEND = 12
    SECONDS_SINCE_PREVIOUS = 13
    RATIO_TO_CLIPPED_MEAN = 14
    STD = 16
    UNUSUAL_COUNT = 17
    LARGEST_RATIO = 18
    NIGHT_SHARE = 19
    WEEKEND_SHARE = 20
    CARD_NOT_PRESENT_SHARE = 21
    KM_FROM_PREVIOUS = 22
    SPEED_KMH = 23
    DISTINCT_TERMINALS = 30
    DISTINCT_MERCHANTS = 31
    DISTINCT_DEVICES = 32
    DISTINCT_IPS = 33
    DISTINCT_COUNTRIES = 34
    DISTINCT_MCCS = 35
    IS_NEW_TERMINAL = 40
    IS_NEW_MERCHANT = 41
    IS_NEW_DEVICE = 42
    IS_NEW_IP = 43
    IS_NEW_COUNTRY = 44
    IS_NEW_MCC = 45
    # Of labels, older than the delay and no younger than they arrived.
    FRAUD_COUNT = 50
    FRAUD_SHARE = 51
    UNEXPLAINED_FRAUD_COUNT = 52
    DAYS_SINCE_GENUINE = 53
    FRAUD_RUN = 54
    FRAUD_RUN_DAYS = 55


_A: Final = Aggregation
_OF_LABELS: Final = frozenset(
    (
        _A.FRAUD_COUNT,
        _A.FRAUD_SHARE,
        _A.UNEXPLAINED_FRAUD_COUNT,
        _A.DAYS_SINCE_GENUINE,
        _A.FRAUD_RUN,
        _A.FRAUD_RUN_DAYS,
    )
)
_OF_SHARED: Final = _OF_LABELS | {
    _A.COUNT,
    _A.SUM,
    _A.MEAN,
    _A.RATIO_TO_MEAN,
    _A.SECONDS_SINCE_FIRST,
}
_WINDOWED: Final = frozenset(
    (
        _A.COUNT,
        _A.SUM,
        _A.MEAN,
        _A.MAX,
        _A.RATIO_TO_MEAN,
        _A.STD,
        _A.UNUSUAL_COUNT,
        _A.LARGEST_RATIO,
        _A.FRAUD_COUNT,
        _A.FRAUD_SHARE,
        _A.UNEXPLAINED_FRAUD_COUNT,
        _A.DISTINCT_TERMINALS,
        _A.DISTINCT_MERCHANTS,
        _A.DISTINCT_DEVICES,
        _A.DISTINCT_IPS,
        _A.DISTINCT_COUNTRIES,
        _A.DISTINCT_MCCS,
    )
)


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: what it is called, and all that decides its value.

    Attributes:
        name: Name in vectors, views and pages.
        entity: Whose state it reads.
        aggregation: What is computed.
        window_h: Over how many hours: 1 to 24, or whole days up to 30; 0 for no window.
        unit: Unit of the value.
        description: One line for people; not part of the hash.

    Raises:
        ValueError: No kernel computes this; the message says what is possible.
    """

    name: str
    entity: Entity
    aggregation: Aggregation
    window_h: int
    unit: str
    description: str

    def __post_init__(self) -> None:
        """Refuse what the kernel does not compute."""
        fault = _fault_of(self)
        if fault:
            raise ValueError(f"feature {self.name}: {fault}")

    @property
    def reads_labels(self) -> bool:
        """Whether it reads what became of earlier transactions."""
        return self.aggregation in _OF_LABELS

    @property
    def is_of_card(self) -> bool:
        """Whether the card's own state is enough to compute it."""
        return self.entity is Entity.CARD and not self.reads_labels

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
                f"{self.window_h} h",
                self.unit,
                f"kernel {KERNEL_VERSION}",
                f"delay {LABEL_DELAY_D} d",
            )
        )
        return int.from_bytes(hashlib.sha256(listing.encode()).digest()[:8], "little")


def _fault_of(feature: Feature) -> str:
    """Return why the kernel cannot compute a feature, empty where it can."""
    aggregation, hours = feature.aggregation, feature.window_h
    if (aggregation in _WINDOWED) != (hours != 0):
        needs = "a window" if aggregation in _WINDOWED else "no window (0)"
        return f"{aggregation.name} takes {needs}, found {hours} h"
    is_days = hours % HOURS_OF_DAY == 0 and hours <= MONTH_D * HOURS_OF_DAY
    if not (1 <= hours <= HOURS_OF_DAY or is_days):
        return f"a window has 1 to 24 hours or whole days up to {MONTH_D}, found {hours} h"
    if feature.is_of_card:
        return ""
    if aggregation not in _OF_SHARED:
        return f"a shared entity has no {aggregation.name}"
    if aggregation is not _A.COUNT and hours % HOURS_OF_DAY:
        return f"{aggregation.name} of a shared entity takes whole days, found {hours} h"
    return ""


_C, _U, _T, _M, _D, _I = Entity
_MINOR, _COUNT, _RATIO, _SECONDS, _FLAG = "reference minor units", "count", "ratio", "s", "0 or 1"
_DAYS = "d"

# fmt: off
CATALOGUE: Final[tuple[Feature, ...]] = (
    Feature("amount", _C, _A.AMOUNT, 0, _MINOR, "Amount of this transaction"),
    Feature("is_night", _C, _A.IS_NIGHT, 0, _FLAG, "Between midnight and 7 in the morning, local time"),
    Feature("is_weekend", _C, _A.IS_WEEKEND, 0, _FLAG, "Saturday or Sunday, local time"),
    Feature("card_count_1h", _C, _A.COUNT, 1, _COUNT, "Purchases of the card in the last hour"),
    Feature("card_count_24h", _C, _A.COUNT, 24, _COUNT, "Purchases of the card in the last 24 hours"),
    Feature("card_count_7d", _C, _A.COUNT, 168, _COUNT, "Purchases of the card in the last 7 days"),
    Feature("card_count_30d", _C, _A.COUNT, 720, _COUNT, "Purchases of the card in the last 30 days"),
    Feature("card_sum_1h", _C, _A.SUM, 1, _MINOR, "Spend of the card in the last hour"),
    Feature("card_sum_24h", _C, _A.SUM, 24, _MINOR, "Spend of the card in the last 24 hours"),
    Feature("card_sum_7d", _C, _A.SUM, 168, _MINOR, "Spend of the card in the last 7 days"),
    Feature("card_sum_30d", _C, _A.SUM, 720, _MINOR, "Spend of the card in the last 30 days"),
    Feature("card_mean_24h", _C, _A.MEAN, 24, _MINOR, "Mean purchase of the card in the last 24 hours"),
    Feature("card_mean_7d", _C, _A.MEAN, 168, _MINOR, "Mean purchase of the card in the last 7 days"),
    Feature("card_mean_30d", _C, _A.MEAN, 720, _MINOR, "Mean purchase of the card in the last 30 days"),
    Feature("card_max_24h", _C, _A.MAX, 24, _MINOR, "Largest purchase of the card in the last 24 hours"),
    Feature("card_max_7d", _C, _A.MAX, 168, _MINOR, "Largest purchase of the card in the last 7 days"),
    Feature("card_max_30d", _C, _A.MAX, 720, _MINOR, "Largest purchase of the card in the last 30 days"),
    Feature("card_std_30d", _C, _A.STD, 720, _MINOR, "Spread of the card's last purchases, of 30 days at most"),
    Feature("card_seconds_since_previous", _C, _A.SECONDS_SINCE_PREVIOUS, 0, _SECONDS, "Time since the card's previous transaction"),
    Feature("card_seconds_since_first", _C, _A.SECONDS_SINCE_FIRST, 0, _SECONDS, "Time since the card's first known transaction, at most 30 days"),
    Feature("card_amount_to_mean_30d", _C, _A.RATIO_TO_MEAN, 720, _RATIO, "Amount against the card's mean of the 30 days before it"),
    Feature("card_amount_to_usual", _C, _A.RATIO_TO_CLIPPED_MEAN, 0, _RATIO, "Amount against the card's usual amount"),
    Feature("card_unusual_24h", _C, _A.UNUSUAL_COUNT, 24, _COUNT, "Earlier purchases of 24 hours over 3 times the usual amount"),
    Feature("card_unusual_7d", _C, _A.UNUSUAL_COUNT, 168, _COUNT, "Earlier purchases of 7 days over 3 times the usual amount"),
    Feature("card_unusual_14d", _C, _A.UNUSUAL_COUNT, 336, _COUNT, "Earlier purchases of 14 days over 3 times the usual amount"),
    Feature("card_largest_ratio_3d", _C, _A.LARGEST_RATIO, 72, _RATIO, "Largest purchase of 3 days against the usual amount of its time"),
    Feature("card_largest_ratio_14d", _C, _A.LARGEST_RATIO, 336, _RATIO, "Largest purchase of 14 days against the usual amount of its time"),
    Feature("card_is_new_terminal", _C, _A.IS_NEW_TERMINAL, 0, _FLAG, "The terminal is not among the card's last transactions"),
    Feature("card_is_new_merchant", _C, _A.IS_NEW_MERCHANT, 0, _FLAG, "The merchant is not among the card's last transactions"),
    Feature("card_is_new_device", _C, _A.IS_NEW_DEVICE, 0, _FLAG, "The device is not among the card's last transactions"),
    Feature("card_is_new_ip", _C, _A.IS_NEW_IP, 0, _FLAG, "The address is not among the card's last transactions"),
    Feature("card_is_new_country", _C, _A.IS_NEW_COUNTRY, 0, _FLAG, "The country is not among the card's last transactions"),
    Feature("card_is_new_mcc", _C, _A.IS_NEW_MCC, 0, _FLAG, "The merchant code is not among the card's last transactions"),
    Feature("card_terminals_24h", _C, _A.DISTINCT_TERMINALS, 24, _COUNT, "Terminals among the card's last transactions of 24 hours"),
    Feature("card_merchants_24h", _C, _A.DISTINCT_MERCHANTS, 24, _COUNT, "Merchants among the card's last transactions of 24 hours"),
    Feature("card_merchants_7d", _C, _A.DISTINCT_MERCHANTS, 168, _COUNT, "Merchants among the card's last transactions of 7 days"),
    Feature("card_devices_7d", _C, _A.DISTINCT_DEVICES, 168, _COUNT, "Devices among the card's last transactions of 7 days"),
    Feature("card_ips_24h", _C, _A.DISTINCT_IPS, 24, _COUNT, "Addresses among the card's last transactions of 24 hours"),
    Feature("card_countries_24h", _C, _A.DISTINCT_COUNTRIES, 24, _COUNT, "Countries among the card's last transactions of 24 hours"),
    Feature("card_countries_30d", _C, _A.DISTINCT_COUNTRIES, 720, _COUNT, "Countries among the card's last transactions of 30 days"),
    Feature("card_mccs_24h", _C, _A.DISTINCT_MCCS, 24, _COUNT, "Merchant codes among the card's last transactions of 24 hours"),
    Feature("card_night_share", _C, _A.NIGHT_SHARE, 0, _RATIO, "Share of the card's last transactions that were at night"),
    Feature("card_weekend_share", _C, _A.WEEKEND_SHARE, 0, _RATIO, "Share of the card's last transactions that were on a weekend"),
    Feature("card_not_present_share", _C, _A.CARD_NOT_PRESENT_SHARE, 0, _RATIO, "Share of the card's last transactions without the card present"),
    Feature("card_km_from_previous", _C, _A.KM_FROM_PREVIOUS, 0, "km", "Distance from the card's previous known place"),
    Feature("card_speed_kmh", _C, _A.SPEED_KMH, 0, "km/h", "Speed from the card's previous known place to this one"),
    Feature("card_fraud_count_7d", _C, _A.FRAUD_COUNT, 168, _COUNT, "Known frauds of the card in 7 settled days"),
    Feature("card_fraud_count_30d", _C, _A.FRAUD_COUNT, 720, _COUNT, "Known frauds of the card in 30 settled days"),
    Feature("customer_count_1h", _U, _A.COUNT, 1, _COUNT, "Purchases of the customer's cards in the 60 minutes before this one"),
    Feature("customer_count_24h", _U, _A.COUNT, 24, _COUNT, "Purchases of the customer's cards in the 24 hours before this one"),
    Feature("customer_amount_to_mean_30d", _U, _A.RATIO_TO_MEAN, 720, _RATIO, "Amount against the mean of the customer's cards in the 30 days before today"),
    Feature("customer_fraud_count_30d", _U, _A.FRAUD_COUNT, 720, _COUNT, "Known frauds of the customer's cards in 30 settled days"),
    Feature("terminal_count_1h", _T, _A.COUNT, 1, _COUNT, "Purchases at the terminal in the 60 minutes before this one"),
    Feature("terminal_count_24h", _T, _A.COUNT, 24, _COUNT, "Purchases at the terminal in the 24 hours before this one"),
    Feature("terminal_count_7d", _T, _A.COUNT, 168, _COUNT, "Purchases at the terminal in the 7 days before today"),
    Feature("terminal_count_30d", _T, _A.COUNT, 720, _COUNT, "Purchases at the terminal in the 30 days before today"),
    Feature("terminal_mean_30d", _T, _A.MEAN, 720, _MINOR, "Mean purchase at the terminal in the 30 days before today"),
    Feature("terminal_amount_to_mean_30d", _T, _A.RATIO_TO_MEAN, 720, _RATIO, "Amount against the terminal's mean of the 30 days before today"),
    Feature("terminal_seconds_since_first", _T, _A.SECONDS_SINCE_FIRST, 0, _SECONDS, "Time since the terminal was first seen, at most 30 days"),
    Feature("terminal_fraud_count_3d", _T, _A.FRAUD_COUNT, 72, _COUNT, "Known frauds at the terminal in 3 settled days"),
    Feature("terminal_fraud_count_7d", _T, _A.FRAUD_COUNT, 168, _COUNT, "Known frauds at the terminal in 7 settled days"),
    Feature("terminal_fraud_count_30d", _T, _A.FRAUD_COUNT, 720, _COUNT, "Known frauds at the terminal in 30 settled days"),
    Feature("terminal_fraud_share_24h", _T, _A.FRAUD_SHARE, 24, _RATIO, "Share of frauds at the terminal on the last settled day"),
    Feature("terminal_fraud_share_7d", _T, _A.FRAUD_SHARE, 168, _RATIO, "Share of frauds at the terminal in 7 settled days"),
    Feature("terminal_fraud_share_30d", _T, _A.FRAUD_SHARE, 720, _RATIO, "Share of frauds at the terminal in 30 settled days"),
    Feature("terminal_unexplained_3d", _T, _A.UNEXPLAINED_FRAUD_COUNT, 72, _COUNT, "Known frauds of 3 settled days that no unusual amount explains"),
    Feature("terminal_unexplained_14d", _T, _A.UNEXPLAINED_FRAUD_COUNT, 336, _COUNT, "Known frauds of 14 settled days that no unusual amount explains"),
    Feature("terminal_unexplained_30d", _T, _A.UNEXPLAINED_FRAUD_COUNT, 720, _COUNT, "Known frauds of 30 settled days that no unusual amount explains"),
    Feature("terminal_days_since_genuine", _T, _A.DAYS_SINCE_GENUINE, 0, _DAYS, "Settled days since the terminal's last genuine purchase"),
    Feature("terminal_fraud_run", _T, _A.FRAUD_RUN, 0, _COUNT, "Unexplained frauds at the terminal since its last genuine purchase"),
    Feature("terminal_fraud_run_days", _T, _A.FRAUD_RUN_DAYS, 0, _DAYS, "Days since the first of these frauds, up to the last settled day"),
    Feature("merchant_count_1h", _M, _A.COUNT, 1, _COUNT, "Purchases at the merchant in the 60 minutes before this one"),
    Feature("merchant_count_24h", _M, _A.COUNT, 24, _COUNT, "Purchases at the merchant in the 24 hours before this one"),
    Feature("merchant_amount_to_mean_30d", _M, _A.RATIO_TO_MEAN, 720, _RATIO, "Amount against the merchant's mean of the 30 days before today"),
    Feature("merchant_seconds_since_first", _M, _A.SECONDS_SINCE_FIRST, 0, _SECONDS, "Time since the merchant was first seen, at most 30 days"),
    Feature("merchant_fraud_count_7d", _M, _A.FRAUD_COUNT, 168, _COUNT, "Known frauds at the merchant in 7 settled days"),
    Feature("merchant_fraud_share_30d", _M, _A.FRAUD_SHARE, 720, _RATIO, "Share of frauds at the merchant in 30 settled days"),
    Feature("device_count_1h", _D, _A.COUNT, 1, _COUNT, "Purchases from the device in the 60 minutes before this one"),
    Feature("device_count_24h", _D, _A.COUNT, 24, _COUNT, "Purchases from the device in the 24 hours before this one"),
    Feature("device_seconds_since_first", _D, _A.SECONDS_SINCE_FIRST, 0, _SECONDS, "Time since the device was first seen, at most 30 days"),
    Feature("device_fraud_count_30d", _D, _A.FRAUD_COUNT, 720, _COUNT, "Known frauds from the device in 30 settled days"),
    Feature("ip_count_1h", _I, _A.COUNT, 1, _COUNT, "Purchases from the address in the 60 minutes before this one"),
    Feature("ip_count_24h", _I, _A.COUNT, 24, _COUNT, "Purchases from the address in the 24 hours before this one"),
    Feature("ip_fraud_count_30d", _I, _A.FRAUD_COUNT, 720, _COUNT, "Known frauds from the address in 30 settled days"),
)
# fmt: on

FEATURE_NAMES: Final = tuple(feature.name for feature in CATALOGUE)
FEATURE_HASHES: Final = tuple(feature.hash for feature in CATALOGUE)
FEATURE_SET_HASH: Final = hashlib.sha256(
    b"".join(number.to_bytes(8, "little") for number in FEATURE_HASHES)
).hexdigest()[:16]


def _shared_entities() -> Iterator[Entity]:
    for entity in Entity:
        if any(f.entity is entity and not f.is_of_card for f in CATALOGUE):
            yield entity


# Entities whose values lie in shards of their own, in this order wherever they are listed. The
# card is one of them for its labels: they have another writer than its state.
SHARED_ENTITIES: Final = tuple(_shared_entities())

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
