"""Scores that are kept between runs: one Parquet file for each model and fold.

A file is found again only under the hash of all that decided its scores: settings, code, library
versions, rows, labels and features. A run that was cut off so goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.features.catalogue import FEATURE_SET_HASH, SEQUENCE_HASH
from training.evaluation.trainers import RawScores, Trainer
from training.train.slices import Slices

_KEY: Final = b"key"
_LIBRARIES: Final = ("numpy", "sklearn", "xgboost", "torch")
_SLICES: Final = ("fit", "stop", "tune", "test", "whole", "past")


def key_of(trainer: Trainer, fingerprint: str, slices: Slices) -> str:
    """Return SHA-256 over all that decides a trainer's scores on a fold, hexadecimal.

    Args:
        trainer: What learns.
        fingerprint: Of the material.
        slices: Of the fold.
    """
    names = [module.__name__ for module in trainer.modules] + [type(trainer).__module__]
    code = [Path(str(sys.modules[name].__file__)).read_text() for name in names]
    decided = {
        "name": trainer.name,
        "settings": dict(trainer.settings),
        "code": hashlib.sha256("\0".join(code).encode()).hexdigest(),
        "libraries": _versions(),
        "features": [FEATURE_SET_HASH, SEQUENCE_HASH],
        "material": fingerprint,
        "rows": _hash_of_rows(slices),
    }
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def _versions() -> list[str]:
    """Return the versions of the learning libraries that this process has loaded."""
    loaded = [name for name in _LIBRARIES if name in sys.modules]
    return [f"{name} {sys.modules[name].__version__}" for name in loaded]


def _hash_of_rows(slices: Slices) -> str:
    digest = hashlib.sha256()
    for name in _SLICES:
        part = getattr(slices, name)
        digest.update(np.ascontiguousarray(part.row).tobytes())
        digest.update(np.ascontiguousarray(part.is_fraud).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class KeptScores:
    """A folder of scores.

    Attributes:
        folder: Where they lie; made when the first are kept.
    """

    folder: Path

    def find(self, name: str, fold: str, key: str) -> RawScores | None:
        """Return the scores that were kept under a key, None where there are none."""
        path = self._path(name, fold)
        if not path.is_file():
            return None
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError):  # it is no Parquet file: as if it were not there
            return None
        if (table.schema.metadata or {}).get(_KEY) != key.encode():
            return None
        is_test, raw = table["is_test"].to_numpy(), table["raw_score"].to_numpy()
        return RawScores(tune=raw[~is_test], test=raw[is_test])

    def keep(self, name: str, fold: str, key: str, scores: RawScores) -> None:
        """Keep scores; an older file of the model and fold is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        is_test = np.repeat([False, True], [len(scores.tune), len(scores.test)])
        table = pa.table(
            {"is_test": is_test, "raw_score": np.concatenate([scores.tune, scores.test])}
        )
        # A name of its own: a second run may keep the same scores.
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as unfinished:
            pq.write_table(table.replace_schema_metadata({_KEY: key.encode()}), unfinished)
        Path(unfinished.name).replace(self._path(name, fold))

    def state_of(self, key: str) -> Path:
        """Return the folder in which the fit of a key may keep its state while it runs."""
        return self.folder / "fits" / key[:16]

    def _path(self, name: str, fold: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}-{fold}.parquet"
