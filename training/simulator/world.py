"""The simulated world: regions, merchants and cards, each drawn from the seed by its number.

A card or merchant is a pure function of (seed, number), so populations of any size agree on the
cards that they share, and nothing is stored: a history and the live traffic after it meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Region(NamedTuple):
    """Where people live. `rate` is reference currency per unit of the local one."""

    country: str
    currency: str
    utc_offset_minutes: int
    latitude: float
    longitude: float
    weight: float


class MerchantKind(NamedTuple):
    """What is sold: median amount in reference minor units, spread (log), share of visits."""

    mcc: int
    median_minor: int
    spread: float
    weight: float
    is_online: bool


REGIONS: Final = (
    Region("DE", "EUR", 60, 52.5, 13.4, 0.25),
    Region("FR", "EUR", 60, 48.9, 2.4, 0.2),
    Region("NL", "EUR", 60, 52.4, 4.9, 0.1),
    Region("ES", "EUR", 60, 40.4, -3.7, 0.13),
    Region("GB", "GBP", 0, 51.5, -0.1, 0.15),
    Region("SE", "SEK", 60, 59.3, 18.1, 0.05),
    Region("PL", "PLN", 60, 52.2, 21.0, 0.07),
    Region("US", "USD", -300, 40.7, -74.0, 0.03),
    Region("JP", "JPY", 540, 35.7, 139.7, 0.02),
)

ATM_MCC: Final = 6011
KINDS: Final = (
    MerchantKind(5411, 2_800, 0.7, 0.27, False),  # groceries
    MerchantKind(5812, 2_600, 0.6, 0.10, False),  # restaurants
    MerchantKind(5814, 1_000, 0.5, 0.12, False),  # fast food
    MerchantKind(5541, 4_500, 0.4, 0.08, False),  # fuel
    MerchantKind(5912, 1_800, 0.6, 0.05, False),  # pharmacies
    MerchantKind(4111, 380, 0.5, 0.10, False),  # local transport
    MerchantKind(5311, 4_500, 0.8, 0.05, False),  # department stores
    MerchantKind(5651, 5_500, 0.7, 0.05, False),  # clothing
    MerchantKind(5722, 11_000, 0.9, 0.02, False),  # household appliances
    MerchantKind(5944, 16_000, 0.9, 0.01, False),  # jewellery
    MerchantKind(7011, 13_000, 0.6, 0.02, False),  # hotels
    MerchantKind(ATM_MCC, 8_000, 0.5, 0.05, False),  # cash
    MerchantKind(5815, 900, 0.7, 0.30, True),  # digital goods
    MerchantKind(5999, 3_200, 0.9, 0.30, True),  # other retail
    MerchantKind(5732, 13_000, 0.9, 0.08, True),  # electronics
    MerchantKind(5947, 5_000, 0.6, 0.04, True),  # gift cards
    MerchantKind(4511, 21_000, 0.7, 0.03, True),  # airlines
    MerchantKind(7995, 2_800, 1.0, 0.05, True),  # betting
    MerchantKind(5968, 1_200, 0.3, 0.20, True),  # subscriptions
)
ONLINE_REGION: Final = len(REGIONS)
USUAL_PLACES: Final = 6

_MERCHANT, _CARD, _USUAL, _TRAVEL = 1, 2, 3, 4
_BLOCK_DAYS = 30
_ISSUED_LATER = 0.25  # share of cards that a history sees from their first transaction on


def draw(seed: int, stream: int, index: Ints | int, slot: Ints | int = 0) -> Floats:
    """Return uniform numbers in [0, 1) that depend on nothing but the arguments (splitmix64)."""
    with np.errstate(over="ignore"):
        state = np.asarray(index, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = state + np.asarray(slot, np.uint64) * np.uint64(0xD1B54A32D192ED03)
        state = state + np.uint64((seed * 0x2545F491 + stream * 0x632BE5AB) & (2**64 - 1))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state = state ^ (state >> np.uint64(31))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) / float(1 << 53))


def _normal(seed: int, stream: int, index: Ints, slot: int) -> Floats:
    """Standard normal numbers from two uniform ones (Box-Muller)."""
    radius = np.sqrt(-2.0 * np.log1p(-draw(seed, stream, index, slot)))
    return np.asarray(radius * np.cos(2 * np.pi * draw(seed, stream, index, slot + 1)))


def _choose(weights: list[float], uniform: Floats) -> Ints:
    shares = np.cumsum(weights) / np.sum(weights)
    return np.searchsorted(shares, uniform, side="right").astype(np.int64)


@dataclass(frozen=True)
class Cards:
    """Attributes of some cards, one element each.

    Attributes:
        region: Home region.
        level: Natural log of how much the card spends against the merchant's median.
        spread: Factor on the spread of amounts.
        per_day: Transactions a day.
        online_share: Share of them at online merchants.
        rhythm_h: Shift of the day's rhythm, hours.
    """

    region: Ints
    level: Floats
    spread: Floats
    per_day: Floats
    online_share: Floats
    rhythm_h: Floats


@dataclass(frozen=True)
class World:
    """Regions, merchants and cards of one seed."""

    seed: int
    merchants: int

    def cards(self, card: Ints) -> Cards:
        """Return the attributes of cards by number."""
        first = draw(self.seed, _CARD, card, 0)
        owl = draw(self.seed, _CARD, card, 9) < 0.06
        return Cards(
            region=_choose([region.weight for region in REGIONS], first),
            level=0.45 * _normal(self.seed, _CARD, card, 1),
            spread=0.8 + 0.5 * draw(self.seed, _CARD, card, 3),
            per_day=np.clip(1.6 * np.exp(0.7 * _normal(self.seed, _CARD, card, 4)), 0.1, 14),
            online_share=0.45 * draw(self.seed, _CARD, card, 6) ** 1.5,
            rhythm_h=1.2 * _normal(self.seed, _CARD, card, 7) + 6.0 * owl,
        )

    def issued_share(self, card: Ints) -> Floats:
        """Return after which share of a history each card is issued; 0 for most, at most 1."""
        uniform = draw(self.seed, _CARD, card, 11)
        return np.where(uniform < _ISSUED_LATER, uniform / _ISSUED_LATER, 0.0)

    @cached_property
    def kind_of_merchant(self) -> Ints:
        """Index into `KINDS` of every merchant; a third of them are online."""
        number = np.arange(self.merchants, dtype=np.int64)
        is_online = draw(self.seed, _MERCHANT, number, 0) < 0.3
        uniform = draw(self.seed, _MERCHANT, number, 1)
        at_shop = _choose([0.0 if kind.is_online else kind.weight for kind in KINDS], uniform)
        online = _choose([kind.weight if kind.is_online else 0.0 for kind in KINDS], uniform)
        return np.where(is_online, online, at_shop)

    @cached_property
    def region_of_merchant(self) -> Ints:
        """Region of every merchant."""
        number = np.arange(self.merchants, dtype=np.int64)
        uniform = draw(self.seed, _MERCHANT, number, 2)
        return _choose([region.weight for region in REGIONS], uniform)

    @cached_property
    def is_online(self) -> NDArray[np.bool_]:
        """Whether every merchant sells online."""
        return np.array([kind.is_online for kind in KINDS])[self.kind_of_merchant]

    @cached_property
    def terminals_of_merchant(self) -> Ints:
        """How many terminals every merchant has; an online one has one."""
        number = np.arange(self.merchants, dtype=np.int64)
        count = 1 + (3 * draw(self.seed, _MERCHANT, number, 4) ** 2).astype(np.int64)
        return np.where(self.is_online, 1, count)

    @cached_property
    def _market(self) -> tuple[Ints, Floats, Floats]:
        """Merchants by region (online ones last), their cumulative weight, its start by region."""
        region = np.where(self.is_online, ONLINE_REGION, self.region_of_merchant)
        order = np.argsort(region, kind="stable").astype(np.int64)
        share = np.array([kind.weight for kind in KINDS])
        crowd = np.bincount(self.kind_of_merchant, minlength=len(KINDS)).clip(1)
        popularity = 0.05 + draw(self.seed, _MERCHANT, order, 5) ** 6
        weight = popularity * (share / crowd)[self.kind_of_merchant[order]]
        total = np.concatenate([[0.0], np.cumsum(weight)])
        bounds = np.searchsorted(region[order], np.arange(ONLINE_REGION + 2))
        return order, total, total[bounds]

    def visit(self, region: Ints, uniform: Floats) -> Ints:
        """Return merchants of regions (`ONLINE_REGION` for online ones), by popularity."""
        order, total, starts = self._market
        point = starts[region] + uniform * (starts[region + 1] - starts[region])
        found = np.searchsorted(total, point, side="right") - 1
        return order[np.clip(found, 0, len(order) - 1)]

    def usual(self, card: Ints, region: Ints, slot: Ints) -> Ints:
        """Return the card's usual merchant of that slot in a region."""
        return self.visit(region, draw(self.seed, _USUAL, card, slot + 64 * region))

    def travel_region(self, card: Ints, day: Ints, home: Ints) -> Ints:
        """Return where the card is on a day: at home, or in the region that it travels to."""
        block = day // _BLOCK_DAYS
        slot = 8 * block
        leaves = draw(self.seed, _TRAVEL, card, slot) < 0.1
        first = (20 * draw(self.seed, _TRAVEL, card, slot + 1)).astype(np.int64)
        length = 2 + (9 * draw(self.seed, _TRAVEL, card, slot + 2)).astype(np.int64)
        region = (len(REGIONS) * draw(self.seed, _TRAVEL, card, slot + 3)).astype(np.int64)
        since = day % _BLOCK_DAYS - first
        return np.where(leaves & (since >= 0) & (since < length), region, home)
