"""The values of a condition's variables: of one transaction, and of what the model saw and said."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from fraudstream.errors import FeatureSpecMismatch
from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_NAMES
from fraudstream.rules.conditions import flat_name
from fraudstream.rules.variables import SCORE, Value
from fraudstream.transaction_json import ENUM_WORDS
from fraudstream.v1.transaction_pb2 import Transaction

# Features workers of two releases send two lists; more than a few is a mistake, not a cache.
_MAX_FEATURE_LISTS: Final = 16
_HASH_OF: Final = dict(zip(FEATURE_NAMES, FEATURE_HASHES, strict=True))


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """What rules may read of the model's side.

    Attributes:
        score: Calibrated.
        vector: float32 [F], features as they were sent.
        feature_hashes: What it holds, in order.
    """

    score: float
    vector: npt.NDArray[np.float32]
    feature_hashes: tuple[int, ...]


class VariableReader:
    """Reads what some conditions name, and nothing else. Use it from one thread at a time."""

    def __init__(self, fields: Sequence[str], features: Sequence[str], *, has_score: bool) -> None:
        self._variables = [flat_name(f"transaction.{field}") for field in fields]
        self._get = _getter(fields)
        self._words = [
            (flat_name(f"transaction.{field}"), ENUM_WORDS[field])
            for field in fields
            if field in ENUM_WORDS
        ]
        self._features = [flat_name(f"features.{name}") for name in features]
        self._wanted = [(name, _HASH_OF[name]) for name in features]
        self._has_score = has_score
        self._columns: dict[tuple[int, ...], npt.NDArray[np.intp]] = {}

    @classmethod
    def of(cls, names: frozenset[str]) -> Self:
        """Return the reader of some names."""

        def within(space: str) -> list[str]:
            found = (name.split(".") for name in sorted(names) if name.startswith(f"{space}."))
            return [field for _, field in found]

        return cls(within("transaction"), within("features"), has_score=SCORE in names)

    def values(self, transaction: Transaction, inputs: ModelInputs | None) -> dict[str, Value]:
        """Return the variables of one transaction."""
        values: dict[str, Any] = dict(zip(self._variables, self._get(transaction), strict=True))
        for variable, words in self._words:
            values[variable] = words.get(values[variable], "")
        if inputs is not None:
            if self._features:
                columns = self._columns_of(inputs.feature_hashes)
                values |= zip(self._features, inputs.vector[columns].tolist(), strict=True)
            if self._has_score:
                values[SCORE] = inputs.score
        return values

    def _columns_of(self, feature_hashes: tuple[int, ...]) -> npt.NDArray[np.intp]:
        columns = self._columns.get(feature_hashes)
        if columns is None:
            places = {number: place for place, number in enumerate(feature_hashes)}
            missing = [name for name, number in self._wanted if number not in places]
            if missing:
                msg = f"the rules need features that the vectors do not have: {', '.join(missing)}"
                raise FeatureSpecMismatch(msg)
            columns = np.array([places[number] for _, number in self._wanted], np.intp)
            if len(self._columns) >= _MAX_FEATURE_LISTS:
                self._columns.clear()
            self._columns[feature_hashes] = columns
        return columns


def _getter(fields: Sequence[str]) -> Callable[[Transaction], tuple[Any, ...]]:
    """Return what reads some fields at once."""
    if len(fields) > 1:
        return operator.attrgetter(*fields)
    return lambda transaction: tuple(getattr(transaction, field) for field in fields)
