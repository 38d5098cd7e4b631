"""The values of a condition's variables: of one transaction, and of what the model saw and said."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraudstream.errors import FeatureSpecMismatch
from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_NAMES
from fraudstream.rules.variables import SCORE, Value
from fraudstream.transaction.json_form import ENUM_WORDS
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
    """Reads what some conditions name, and nothing else.

    Args:
        variables: As conditions name them.
        codes: Numbers that stand for texts, from 1.
    """

    def __init__(self, variables: Collection[str], codes: Mapping[str, int]) -> None:
        self._variables = _within("transaction_", variables) + _within("coded_", variables)
        fields = [name.partition("_")[2] for name in self._variables]
        self._get = _getter(fields)
        # What stands for what is read: for words of an enum, and for texts with a code.
        self._meanings = [
            (variable, *_meanings(field, codes if variable.startswith("coded_") else None))
            for variable, field in zip(self._variables, fields, strict=True)
            if variable.startswith("coded_") or field in ENUM_WORDS
        ]
        self._features = _within("features_", variables)
        names = [variable.removeprefix("features_") for variable in self._features]
        self._wanted = [(name, _HASH_OF[name]) for name in names]
        self._has_score = SCORE in variables
        self._columns: dict[tuple[int, ...], npt.NDArray[np.intp]] = {}

    def read(
        self, transaction: Transaction, inputs: ModelInputs | None, into: dict[str, Any]
    ) -> None:
        """Put the variables of one transaction among others.

        A missing feature (NaN) is null. A whole number goes as one: the evaluator takes it five
        times as fast as a float, and three of four features are whole.

        Raises:
            FeatureSpecMismatch: A feature was not sent.
        """
        into.update(zip(self._variables, self._get(transaction), strict=True))
        for variable, meanings, otherwise in self._meanings:
            into[variable] = meanings.get(into[variable], otherwise)
        if inputs is None:
            return
        if self._features:
            numbers = inputs.vector[self._columns_of(inputs.feature_hashes)].tolist()
            values = [
                int(one) if one.is_integer() else one if one == one else None for one in numbers
            ]
            into.update(zip(self._features, values, strict=True))
        if self._has_score:
            into[SCORE] = inputs.score

    def _columns_of(self, feature_hashes: tuple[int, ...]) -> npt.NDArray[np.intp]:
        columns = self._columns.get(feature_hashes)
        if columns is None:
            column_of = {number: column for column, number in enumerate(feature_hashes)}
            missing = [name for name, number in self._wanted if number not in column_of]
            if missing:
                msg = f"the rules need features that the vectors do not have: {', '.join(missing)}"
                raise FeatureSpecMismatch(msg)
            columns = np.array([column_of[number] for _, number in self._wanted], np.intp)
            if len(self._columns) >= _MAX_FEATURE_LISTS:
                self._columns.clear()
            self._columns[feature_hashes] = columns
        return columns


def _within(prefix: str, variables: Collection[str]) -> list[str]:
    return [name for name in sorted(variables) if name.startswith(prefix)]


def _meanings(field: str, codes: Mapping[str, int] | None) -> tuple[Mapping[Any, Value], Value]:
    """Return what stands for the values of a field, and what for any other."""
    words = ENUM_WORDS.get(field)
    if codes is None:
        return words or {}, ""
    if words is None:
        return codes, 0
    unset = {0: ""} | words
    return {number: codes.get(word, 0) for number, word in unset.items()}, 0


def _getter(fields: Sequence[str]) -> Callable[[Transaction], tuple[Any, ...]]:
    """Return what reads some fields at once."""
    if len(fields) > 1:
        return operator.attrgetter(*fields)
    return lambda transaction: tuple(getattr(transaction, field) for field in fields)
