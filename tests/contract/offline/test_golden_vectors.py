"""Fixed rows and their vectors: an output that changes needs a new kernel version.

Made again, after `KERNEL_VERSION` was raised, by
`python -m tests.contract.offline.test_golden_vectors`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import (
    CATALOGUE,
    FEATURE_HASHES,
    KERNEL_VERSION,
    SEQUENCE_HASH,
    Aggregation,
    Entity,
)
from fraudstream.features.history import History, Labels, Numbers, replay_history
from fraudstream.features.state import ROW, VALUES, country_number

_FOLDER: Final = Path(__file__).parent / "golden"
_ROWS: Final = 1_000
_BEGIN_MS: Final = 1_700_000_000_000
_MEAN_GAP_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
# Sine and arc sine are not the same to the last bit on every machine.
_ROUNDED: Final = (Aggregation.KM_FROM_PREVIOUS, Aggregation.SPEED_KMH)


def _numbers(column: int, below: int) -> npt.NDArray[np.int64]:
    """Return the same pseudo-random numbers on every machine and version: splitmix64."""
    with np.errstate(over="ignore"):
        z = np.arange(1, _ROWS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(column) * np.uint64(0xD1342543DE82EF95)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(below)).astype(np.int64)


def _entities(column: int, kinds: int) -> npt.NDArray[np.int64]:
    """Return the number of each row's entity, -1 for none."""
    return _numbers(column, kinds + 1) - 1


def _labels(event_ms: npt.NDArray[np.int64], entities: Numbers) -> Labels:
    """Return a label of every third row, in order of arrival; every fourth of them flips later."""
    first_ms = event_ms + _numbers(13, 10 * _DAY_MS)
    is_fraud = _numbers(6, 3) == 0
    is_flipped = is_fraud & (_numbers(14, 4) == 0)
    row = np.concatenate([np.flatnonzero(is_fraud), np.flatnonzero(is_flipped)])
    later_ms = np.where(np.arange(len(row)) < is_fraud.sum(), 0, _numbers(15, 9 * _DAY_MS)[row])
    arrival_ms = first_ms[row] + later_ms
    change = np.where(np.arange(len(row)) < is_fraud.sum(), 1, -1)
    order = np.argsort(arrival_ms, kind="stable")
    row = row[order]
    return Labels(
        arrival_ms[order],
        event_ms[row],
        change[order],
        {entity: numbers[row] for entity, numbers in entities.items()},
    )


def golden_history() -> History:
    """Return months of five cards and their entities: disorder, journeys, labels, every kind."""
    arrival_ms = _BEGIN_MS + np.cumsum(
        _numbers(1, 2 * _MEAN_GAP_MS) + (_numbers(2, 40) == 0) * 8 * _DAY_MS
    )
    event_ms = arrival_ms - (_numbers(3, 3) == 0) * _numbers(4, _DAY_MS)
    card = _numbers(7, 5)
    entities = {
        Entity.CARD: card,
        Entity.CUSTOMER: card // 2,
        **{Entity(name): _entities(20 + place, 5) for place, name in enumerate(VALUES[:4])},
    }
    rows = np.zeros(_ROWS, ROW)
    rows["event_ms"] = event_ms
    rows["amount"] = np.where(_numbers(16, 9) == 0, 20, 1) * (1 + _numbers(8, 20_000))
    for place, name in enumerate(VALUES[:4]):
        rows["value"][:, place] = np.where(
            entities[Entity(name)] < 0, 0, entities[Entity(name)] + 7
        )
    countries = np.array([country_number(name) for name in ("", "GB", "FR", "US")])
    rows["value"][:, VALUES.index("country")] = countries[_numbers(17, 4)]
    rows["value"][:, VALUES.index("mcc")] = np.array([0, 5411, 5812, 6011])[_numbers(11, 4)]
    has_place = _numbers(18, 3) > 0
    rows["latitude"] = np.where(has_place, _numbers(19, 180) - 90, np.nan)
    rows["longitude"] = np.where(has_place, _numbers(30, 360) - 180, np.nan)
    rows["kind"] = np.array([1, 1, 1, 1, 2, 3, 4])[_numbers(9, 7)]
    rows["channel"] = 1 + _numbers(10, 5)
    rows["utc_offset"] = 60 * _numbers(12, 25) - 720
    return History(rows, card, arrival_ms, entities, _labels(event_ms, entities))


def golden_path() -> Path:
    """Return the file of this kernel version."""
    return _FOLDER / f"kernel-{KERNEL_VERSION}.npz"


def _vectors_of_expected(
    stored: npt.NDArray[np.float32], hashes: list[int]
) -> npt.NDArray[np.float32]:
    """Return the stored columns in today's order; a catalogue may grow and be reordered."""
    return stored[:, [hashes.index(number) for number in FEATURE_HASHES if number in hashes]]


def test_output_changes_only_with_the_kernel_version() -> None:
    """Every stored feature and sequence is still computed to the bit, under the same hash."""
    expected = np.load(golden_path())
    hashes = expected["hashes"].tolist()

    replayed = replay_history(golden_history(), np.ones(_ROWS, np.bool_))

    known = [place for place, number in enumerate(FEATURE_HASHES) if number in hashes]
    is_exact = np.array([CATALOGUE[place].aggregation not in _ROUNDED for place in known])
    found, stored = replayed.vectors[:, known], _vectors_of_expected(expected["vectors"], hashes)
    assert np.array_equal(found[:, is_exact], stored[:, is_exact], equal_nan=True)
    np.testing.assert_array_max_ulp(found[:, ~is_exact], stored[:, ~is_exact], maxulp=1)
    assert str(expected["sequence_hash"]) == SEQUENCE_HASH
    assert np.array_equal(replayed.sequences, expected["sequences"])


def test_every_feature_has_its_golden_vectors() -> None:
    """A new feature, or a new meaning of one, comes with its golden column."""
    assert set(FEATURE_HASHES) <= set(np.load(golden_path())["hashes"].tolist())


def test_golden_vectors_say_something_about_every_feature() -> None:
    """Each column holds at least two values, so that a broken feature shows."""
    vectors = np.load(golden_path())["vectors"]

    assert all(len(np.unique(column[~np.isnan(column)])) > 1 for column in vectors.T)


def write_golden() -> None:
    """Write the file of this kernel version; refuses to replace one."""
    replayed = replay_history(golden_history(), np.ones(_ROWS, np.bool_))
    with golden_path().open("xb") as file:
        np.savez_compressed(
            file,
            hashes=np.array(FEATURE_HASHES, np.uint64),
            vectors=replayed.vectors,
            sequence_hash=np.array(SEQUENCE_HASH),
            sequences=replayed.sequences,
        )


if __name__ == "__main__":
    write_golden()
