"""Names of cards, entities and transactions as 64 bits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

Names = NDArray[np.uint64]

# Texts whose bits are remembered from chunk to chunk of a source, about 20 MB of them.
REMEMBERED: Final = 1 << 16
_BASIS: Final = np.uint64(0xCBF29CE484222325)  # FNV-1a, RFC 9923
_PRIME: Final = np.uint64(0x100000001B3)
_END: Final = np.uint64(0xFF)  # of a text: UTF-8 has no such byte


@lru_cache(REMEMBERED)
def name_bits(text: str) -> int:
    """Return 64 bits of BLAKE2b for a name, 0 for none.

    >>> name_bits(""), name_bits("a") == name_bits("b")
    (0, False)
    """
    if not text:
        return 0
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1


@dataclass(frozen=True, slots=True)
class Distinct:
    """Texts of a column, each once, and which stands in each row."""

    texts: list[str]
    of_row: NDArray[np.int64]

    @classmethod
    def of(cls, texts: pa.StringArray) -> Distinct:
        """Find them."""
        encoded = texts.dictionary_encode()
        return cls(encoded.dictionary.to_pylist(), encoded.indices.to_numpy())

    def numbers(
        self, number_of: Callable[[str], int], dtype: type[np.integer[Any]] = np.uint64
    ) -> NDArray[Any]:
        """Return a number for each row, `dtype` [N]; each text is asked for once."""
        found = np.array([number_of(text) for text in self.texts], dtype)
        return found[self.of_row] if len(found) else np.zeros(0, dtype)


def mixed(*columns: NDArray[Any]) -> Names:
    """Return 64 bits for rows of whole numbers, uint64 [N], by FNV-1a a number at a time.

    >>> first, second = mixed(np.array([1, 2]), np.array([2, 1])).tolist()
    >>> first == second
    False
    """
    bits = np.full(len(columns[0]), _BASIS)
    for column in columns:
        bits ^= column.astype(np.uint64)
        bits *= _PRIME
    return bits


def text_bits(*columns: pa.StringArray) -> Names:
    """Return 64 bits for the texts of each row, uint64 [N], by FNV-1a.

    Unlike `name_bits` it is quick where almost every text is another one, and no match for
    someone who looks for two texts with the same bits.

    >>> first, second = text_bits(pa.array(["a", "ab"]), pa.array(["bc", "c"])).tolist()
    >>> first == second
    False
    """
    bits = np.full(len(columns[0]), _BASIS)
    for column in columns:
        _, offsets, texts = column.buffers()
        bounds = np.frombuffer(offsets, np.int32)[column.offset :]
        _add_texts(bits, bounds, np.frombuffer(texts or b"", np.uint8))
    return bits


@njit(nogil=True, cache=True)
def _add_texts(bits: Names, bounds: NDArray[np.int32], texts: NDArray[np.uint8]) -> None:
    for row in range(bits.shape[0]):
        found = bits[row]
        for index in range(bounds[row], bounds[row + 1]):
            found = (found ^ np.uint64(texts[index])) * _PRIME
        bits[row] = (found ^ _END) * _PRIME
