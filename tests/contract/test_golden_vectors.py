"""Fixed rows and their vectors: an output that changes needs a new kernel version.

Made anew, after `KERNEL_VERSION` was raised, by `python -m tests.contract.test_golden_vectors`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import FEATURE_HASHES, KERNEL_VERSION, SEQUENCE_HASH
from fraudstream.features.history import History, replay_history

_FOLDER: Final = Path(__file__).parent / "golden"
_ROWS: Final = 400
_BEGIN_MS: Final = 1_700_000_000_000
_MEAN_GAP_MS: Final = 5_400_000
_DAY_MS: Final = 86_400_000


def _numbers(column: int, below: int) -> npt.NDArray[np.int64]:
    """Return the same pseudo-random numbers on every machine and version: splitmix64."""
    with np.errstate(over="ignore"):
        z = np.arange(1, _ROWS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(column) * np.uint64(0xD1342543DE82EF95)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(below)).astype(np.int64)


def golden_history() -> History:
    """Return a quarter of a card's and a terminal's year: disorder, labels, every kind."""
    append_ms = _BEGIN_MS + np.cumsum(
        _numbers(1, 2 * _MEAN_GAP_MS) + (_numbers(2, 40) == 0) * 8 * _DAY_MS
    )
    event_ms = append_ms - (_numbers(3, 3) == 0) * _numbers(4, _DAY_MS)
    terminal = _numbers(5, 6) - 1
    is_fraud = _numbers(6, 5) == 0
    hashes = np.where(terminal < 0, 0, terminal + 1_000).astype(np.uint64)
    return History(
        card=_numbers(7, 5),
        terminal=terminal,
        terminal_hash=hashes,
        event_time_ms=event_ms,
        append_time_ms=append_ms,
        amount_reference_minor=1 + _numbers(8, 200_000),
        kind=np.array([1, 1, 1, 1, 2, 3, 4], np.int8)[_numbers(9, 7)],
        channel=(1 + _numbers(10, 5)).astype(np.int8),
        mcc=_numbers(11, 10_000).astype(np.int16),
        utc_offset_minutes=(60 * _numbers(12, 25) - 720).astype(np.int16),
        label_arrival_ms=np.where(is_fraud, event_ms + _numbers(13, 10 * _DAY_MS), -1),
        is_fraud=is_fraud,
    )


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
    stored = _vectors_of_expected(expected["vectors"], hashes)
    assert np.array_equal(replayed.vectors[:, known], stored, equal_nan=True)
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
