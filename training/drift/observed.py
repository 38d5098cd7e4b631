"""What drift is measured on: a training set, or the decisions that the archive keeps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraudstream.archive.files import list_files
from fraudstream.engines.golden import check_golden, rule_of
from fraudstream.engines.protocol import FloatArray, score_rows
from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.models.artefact import Artefact
from fraudstream.models.open_engine import open_engine
from training.evaluation.figures.bootstrap import Truth
from training.metrics import DAY_MS, Bools, Floats
from training.offline.labelled import Unlabelled
from training.offline.load import is_dataset, load_dataset, load_labels

_DECISIONS: Final = "decisions"
_SCORED: Final = ("score", "model_hash", "stand_in")


@dataclass(frozen=True, slots=True)
class Span:
    """Days of an archive that count: [from, to)."""

    from_day: date = date.min
    to_day: date = date.max


@dataclass(frozen=True, slots=True)
class Observed:
    """Rows to compare.

    Attributes:
        name: Of what was read, for people.
        vectors: float32 [N, F] of the catalogue; NaN for a missing value.
        score: float64 [N], calibrated, NaN where the model made no decision; None without scores.
        truth: What became of the N rows; None where labels are not at hand.
        is_matured: bool [N], whether a row is labelled, and a label would have arrived by now.
    """

    name: str
    vectors: FloatArray
    score: Floats | None
    truth: Truth | None
    is_matured: Bools

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.vectors)


def read_set(
    path: Path, span: Span, model: Artefact | None, unlabelled: Unlabelled | None = None
) -> Observed:
    """Return the rows of a training set's folder, or of an archive's root.

    Args:
        path: Which.
        span: Days of an archive; a training set is read whole.
        model: Whose scores: a training set is scored by it, of an archive only its own decisions
            have a score. Without it an archive's decisions keep whatever score they have.
        unlabelled: What rows of a training set that nobody labelled count as; None for what it
            says.

    Raises:
        InvalidSettings: It is neither, or has no rows of this catalogue.
        ModelRefused: The model does not reproduce its golden rows.
    """
    if is_dataset(path):
        return _of_training_set(path, model, unlabelled)
    if (path / _DECISIONS).is_dir():
        return _of_archive(path, span, model)
    msg = f"{path}: expected a training set or an archive with decisions"
    raise InvalidSettings(f"{msg}; fraudstream training dataset makes a training set")


def _of_training_set(path: Path, model: Artefact | None, unlabelled: Unlabelled | None) -> Observed:
    examples = load_dataset(path)
    _check_rows(path, len(examples))
    steps = examples.sequences.shape[1]
    if model is not None and steps != SEQUENCE_LENGTH:
        msg = f"{path}: the model reads {SEQUENCE_LENGTH} steps, found {steps} (--steps)"
        raise InvalidSettings(msg + "; make the training set again")
    last_ms = int(examples.event_time_ms.max())
    labels = load_labels(path, unlabelled)
    is_old = examples.event_time_ms <= last_ms - labels.rule.delay_days * DAY_MS
    return Observed(
        name=path.name,
        vectors=examples.vectors,
        score=None if model is None else _scores(model, examples.vectors, examples.sequences),
        truth=Truth(examples.is_fraud, examples.card),
        is_matured=is_old & labels.is_known,
    )


def _scores(model: Artefact, vectors: FloatArray, sequences: FloatArray) -> Floats:
    engine, manifest = open_engine(model), model.manifest
    check_golden(engine, model.golden, rule_of(manifest.precision, manifest.is_alert))
    index = {number: column for column, number in enumerate(FEATURE_HASHES)}
    columns = [index[number] for number in model.feature_hashes]
    return manifest.calibration.scores(score_rows(engine, vectors[:, columns], sequences))


def _of_archive(path: Path, span: Span, model: Artefact | None) -> Observed:
    files = list_files(path / _DECISIONS, span.from_day, span.to_day)
    columns = [*_SCORED, "feature_set_hash", *FEATURE_NAMES]
    tables = [_of_catalogue(pq.read_table(file.path, columns=columns)) for file in files]
    _check_rows(path, sum(table.num_rows for table in tables))
    table = pa.concat_tables(tables)
    vectors = np.stack([_numbers(table[name]) for name in FEATURE_NAMES], axis=1)
    score = _numbers(table["score"]).astype(np.float64)
    is_model = ~table["stand_in"].to_numpy()
    if model is not None:
        is_model &= np.asarray(table["model_hash"].to_pylist(), object) == model.model_hash
    return Observed(
        name=path.name,
        vectors=vectors,
        score=np.where(is_model, score, np.nan),
        truth=None,
        is_matured=np.zeros(len(score), np.bool_),
    )


def _of_catalogue(table: pa.Table) -> pa.Table:
    """Return the decisions that were made with the features of this catalogue."""
    kept = pc.equal(table["feature_set_hash"].cast(pa.string()), FEATURE_SET_HASH)
    return table.filter(kept).drop_columns("feature_set_hash")


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float32]:
    return np.asarray(column.to_numpy(), np.float32)


def _check_rows(path: Path, rows: int) -> None:
    if not rows:
        msg = f"{path}: expected rows with the features of catalogue {FEATURE_SET_HASH}, found none"
        raise InvalidSettings(msg)
