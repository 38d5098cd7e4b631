"""Measure contenders: what each says of matured rows, and how fast its engine is on this machine.

N rows, F the model's features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from fraudstream.engines.protocol import BUCKETS, Engine, score_rows
from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import FEATURE_HASHES, SEQUENCE_LENGTH
from fraudstream.models.artefact import Artefact
from fraudstream.models.open_engine import open_engine
from training.dataset import Examples
from training.evaluation.figures.bootstrap import Truth
from training.evaluation.figures.traits import traits_of
from training.evaluation.material import dataset_material
from training.offline.load import load_labels
from training.promotion.gate import Contender, Matured
from training.simulator.histories import DAY_MS

# In turns, so that all meet the same noise; the least of three p99s, as what else runs on the
# machine only adds to it. In processor time of the one thread that an engine has: on a busy machine
# the clock on the wall measures the scheduler (a lone row of 0.3 ms then has a p99 of 4 ms).
_CHUNKS: Final = 3
_TIMED_BATCHES: Final = 100 * _CHUNKS
_WARM_UP_BATCHES: Final = 5


@dataclass(frozen=True, slots=True)
class MaturedRows:
    """Rows with their features, whose labels have had their time.

    Attributes:
        examples: The rows.
        matured: What the gate needs of them.
    """

    examples: Examples
    matured: Matured


def matured_rows(folder: Path, from_ms: int, maturity_d: int) -> MaturedRows:
    """Return the rows of a training set that are old enough for their labels to be known.

    Args:
        folder: Of the training set.
        from_ms: First event time that counts: what neither model learned from, epoch milliseconds.
        maturity_d: How much older than the newest row a row must be, days.

    Raises:
        InvalidSettings: There are none, or the set is not as expected.
    """
    labels = load_labels(folder, delay_days=maturity_d)
    material = dataset_material(folder, labels)
    event_time_ms = material.examples.event_time_ms
    until_ms = int(labels.event_time_ms.max(initial=0)) - maturity_d * DAY_MS
    is_tested = (event_time_ms >= from_ms) & (event_time_ms <= until_ms)
    if not is_tested.any() or material.examples.sequences.shape[1] != SEQUENCE_LENGTH:
        msg = f"{folder}: expected rows with {SEQUENCE_LENGTH} steps, {maturity_d} days before its"
        raise InvalidSettings(f"{msg} newest, found none")
    examples = material.examples.where(is_tested)
    # Which rows each model learned from is not known here: no segment of new cards is told apart.
    nobody = np.zeros(len(event_time_ms), np.bool_)
    traits = traits_of(material, np.flatnonzero(is_tested), nobody)
    return MaturedRows(examples, Matured(Truth(examples.is_fraud, examples.card), traits))


def measure_contenders(
    artefacts: Mapping[str, Artefact], examples: Examples
) -> dict[str, Contender]:
    """Return what each artefact is worth, by NAME/VERSION.

    Raises:
        InvalidSettings: One has learned from these rows, as its manifest says.
        ModelRefused: An engine does not load a model.
        ModelNotLoaded: An engine failed.
    """
    _check_unseen(artefacts, examples)
    engines = {name: open_engine(artefact) for name, artefact in artefacts.items()}
    p99_us = time_engines(list(engines.values()), list(artefacts.values()))
    return {
        name: _contender(name, artefact, engines[name], examples, p99)
        for (name, artefact), p99 in zip(artefacts.items(), p99_us, strict=True)
    }


def _check_unseen(artefacts: Mapping[str, Artefact], examples: Examples) -> None:
    first_ms = int(examples.event_time_ms.min())
    for name, artefact in artefacts.items():
        made = artefact.manifest.provenance
        if made is not None and made.fitted.last_ms >= first_ms:
            until = datetime.fromtimestamp(made.fitted.last_ms / 1_000, UTC).date().isoformat()
            msg = f"--from: expected a day after the last that a model has learned from: {name} has"
            raise InvalidSettings(f"{msg} learned from rows up to {until}")


def _contender(
    name: str, artefact: Artefact, engine: Engine, examples: Examples, p99_us: dict[int, float]
) -> Contender:
    places = {number: place for place, number in enumerate(FEATURE_HASHES)}
    columns = [places[number] for number in artefact.feature_hashes]
    raw = score_rows(engine, examples.vectors[:, columns], examples.sequences)
    manifest = artefact.manifest
    score = manifest.calibration.scores(raw.astype(np.float64))
    return Contender(name, score, manifest.thresholds.review, p99_us)


def time_engines(
    engines: Sequence[Engine], artefacts: Sequence[Artefact]
) -> list[dict[int, float]]:
    """Return p99 of a batch by bucket, microseconds of processor time; engines take turns."""
    found: list[dict[int, float]] = [{} for _ in engines]
    for bucket in BUCKETS:
        rows = [_rows_of(artefact, bucket) for artefact in artefacts]
        took_ns = np.empty((_TIMED_BATCHES, len(engines)))
        for batch in range(-_WARM_UP_BATCHES, _TIMED_BATCHES):
            for place, engine in enumerate(engines):
                began_ns = time.thread_time_ns()
                engine.score(*rows[place])
                took_ns[batch, place] = time.thread_time_ns() - began_ns
        chunks = np.percentile(
            np.stack(np.split(took_ns, _CHUNKS)), 99, axis=1
        )  # [chunks, engines]
        for place, p99_ns in enumerate(chunks.min(axis=0).tolist()):
            found[place][bucket] = p99_ns / 1_000
    return found


def _rows_of(artefact: Artefact, count: int) -> tuple[np.ndarray, np.ndarray]:
    golden = artefact.golden
    rows = np.arange(count) % len(golden.raw_scores)
    return golden.vectors[rows], golden.sequences[rows]
