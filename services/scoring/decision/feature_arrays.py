"""The numbers of a batch as two arrays, and what their columns are. Pure.

Axes: `n` rows, `F` features as sent, `T` sequence length, `C` sequence channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from fraudstream.engines.protocol import FloatArray
from fraudstream.features.catalogue import SEQUENCE_CHANNELS, SEQUENCE_LENGTH

FLOAT_BYTES: Final = 4
SEQUENCE_BYTES: Final = SEQUENCE_LENGTH * len(SEQUENCE_CHANNELS) * FLOAT_BYTES


@dataclass(frozen=True, slots=True)
class FeatureArrays:
    """The numbers of a batch, not yet narrowed to a model's features.

    Attributes:
        vectors: float32 [n, F].
        sequences: float32 [n, T, C].
    """

    vectors: FloatArray
    sequences: FloatArray

    @classmethod
    def joined(cls, vectors: Sequence[bytes], sequences: Sequence[bytes]) -> Self:
        """Return the numbers of at least one row, whose bytes have the lengths that they must."""
        shape = (len(sequences), SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS))
        return cls(
            np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1),
            np.frombuffer(b"".join(sequences), "<f4").reshape(shape),
        )

    def select(self, indices: list[int]) -> FeatureArrays:
        """Return some of the rows."""
        if len(indices) == len(self.vectors):
            return self
        return FeatureArrays(self.vectors[indices], self.sequences[indices])


@dataclass(frozen=True, slots=True)
class Layout:
    """What the vectors and sequences of some rows hold.

    Attributes:
        feature_hashes: The features of a vector.
        feature_set_hash: Of them all.
        sequence_hash: The layout of a sequence.
    """

    feature_hashes: tuple[int, ...]
    feature_set_hash: str
    sequence_hash: str

    @classmethod
    def of(cls, feature_hashes: tuple[int, ...], sequence_hash: str) -> Self:
        """Return a layout, with the hash that the catalogue computes of its own features.

        >>> from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_SET_HASH
        >>> Layout.of(FEATURE_HASHES, "").feature_set_hash == FEATURE_SET_HASH
        True
        """
        listing = b"".join(number.to_bytes(8, "little") for number in feature_hashes)
        return cls(feature_hashes, hashlib.sha256(listing).hexdigest()[:16], sequence_hash)
