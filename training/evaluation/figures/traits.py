"""The traits that divide tested rows: amount, channel, how well the card is known, time, place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.features.catalogue import FEATURE_NAMES, SEQUENCE_CHANNELS
from training.evaluation.figures.segments import Trait
from training.evaluation.material import Material
from training.metrics import Bools, Ints

# Reference minor units; round sums, chosen before any score was seen.
_AMOUNT_ENDS: Final = (1_000, 5_000, 20_000, 100_000)
_AMOUNTS: Final = ("under 10", "10 to 50", "50 to 200", "200 to 1,000", "1,000 and over")
_PAST_ENDS: Final = (5, 20)
_PASTS: Final = ("under 5 past transactions", "5 to 19", "20 and over")
_CHANNELS: Final = ("unknown", "pos", "ecommerce", "atm", "moto", "recurring")  # by Channel number
_TIMES: Final = ("weekday", "weekend", "night")
_SEEN: Final = ("in the training range", "new")
_MOST_SEGMENTS: Final = 20
_NO_COUNTRY: Final = "none"


def traits_of(material: Material, tested: Ints, trained: Bools) -> list[Trait]:
    """Return the traits of tested rows.

    Args:
        material: All rows.
        tested: int64 [N], indices of the tested rows.
        trained: bool [K], which rows the model learned from.
    """
    rows = material.examples
    traits = [
        Trait("amount, major units", _AMOUNTS, _cut(rows.amount_minor, _AMOUNT_ENDS)),
        Trait("channel", _CHANNELS, _short(_last(material, "channel"))),
        Trait("card age", _PASTS, _cut(material.past_transactions, _PAST_ENDS)),
        Trait("time", _TIMES, _times(material)),
        Trait("card", _SEEN, _is_new(rows.card, trained)),
    ]
    if "terminal" in material.entities:
        traits.append(Trait("terminal", _SEEN, _is_new(material.entities["terminal"], trained)))
    if "country" in material.entities:
        traits.append(_countries(material.entities["country"]))
    traits += [_named(name, texts) for name, texts in material.segments.items()]
    return [trait.where(tested) for trait in traits]


def _named(name: str, texts: NDArray[np.str_]) -> Trait:
    """Return a column of a set as a trait: its most frequent texts, and all others together."""
    distinct, index, counts = np.unique(texts, return_inverse=True, return_counts=True)
    rank = np.empty(len(distinct), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(distinct))
    kept = [str(distinct[each]) for each in np.argsort(rank)[:_MOST_SEGMENTS]]
    labels = (*kept, "others") if len(distinct) > _MOST_SEGMENTS else tuple(kept)
    return Trait(name, labels, _short(np.minimum(rank, _MOST_SEGMENTS)[index]))


def _cut(values: Ints, ends: Sequence[int]) -> NDArray[np.int16]:
    return _short(np.searchsorted(ends, values, side="right"))


def _short(values: NDArray[np.float32] | NDArray[np.intp]) -> NDArray[np.int16]:
    return values.astype(np.int16)


def _last(material: Material, channel: str) -> NDArray[np.float32]:
    """Return a channel of the row itself, which is the last of its sequence."""
    return material.examples.sequences[:, -1, SEQUENCE_CHANNELS.index(channel)]


def _times(material: Material) -> NDArray[np.int16]:
    vectors = material.examples.vectors
    is_night = vectors[:, FEATURE_NAMES.index("is_night")] > 0
    is_weekend = vectors[:, FEATURE_NAMES.index("is_weekend")] > 0
    return np.where(is_night, 2, np.where(is_weekend, 1, 0)).astype(np.int16)


def _is_new(entity: Ints, trained: Bools) -> NDArray[np.int16]:
    return (~np.isin(entity, entity[trained])).astype(np.int16)


def _countries(numbers: Ints) -> Trait:
    """Return the merchant's country; numbers are its two letters."""
    distinct, segment = np.unique(numbers, return_inverse=True)
    labels = [
        int(number).to_bytes(2, "big").decode("ascii", "replace") if number > 0 else _NO_COUNTRY
        for number in distinct
    ]
    return Trait("merchant's country", tuple(labels), segment.astype(np.int16))
