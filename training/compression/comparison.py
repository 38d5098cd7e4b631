"""What a compressed form costs and gains beside the form it came from: one measured table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.engines.protocol import Engine, FloatArray, score_rows
from fraudstream.models.artefact import Artefact
from fraudstream.models.manifest import Manifest
from fraudstream.models.open_engine import open_engine
from training.dataset import Examples
from training.metrics import average_precision

# The batch sizes of the stream and of callers; larger ones are replays.
TIMED_BATCHES: Final = (1, 8, 32)
_ROUNDS: Final = 9
_TIMED_ROWS: Final = 64
_ACTIONS: Final = ("challenge", "review", "decline")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two forms of one model on the same rows.

    Attributes:
        ap: Average precision by form.
        agreement: By action, of the rows that reach its threshold in either form the share that
            does in both.
        model_bytes: Size of the ONNX files by form.
        rows_per_s: By form, by batch size; rows per second of CPU time.
    """

    ap: Mapping[str, float]
    agreement: Mapping[str, float]
    model_bytes: Mapping[str, int]
    rows_per_s: Mapping[str, Mapping[int, float]]

    @property
    def speed(self) -> float:
        """Rows per second of the second form / the first, geometric mean over batch sizes."""
        first, second = self.rows_per_s.values()
        return statistics.geometric_mean(second[batch] / first[batch] for batch in first)

    def table(self) -> str:
        """Return the figures as lines of text."""
        forms = list(self.ap)
        lines = [f"{'':24}" + "".join(f"{form:>12}" for form in forms)]
        lines.append(f"{'average precision':24}" + _row(self.ap, ".4f"))
        lines.append(f"{'bytes':24}" + _row(self.model_bytes, ",d"))
        for batch in next(iter(self.rows_per_s.values())):
            rates = {form: rate[batch] for form, rate in self.rows_per_s.items()}
            lines.append(f"{f'rows/s, batch {batch}':24}" + _row(rates, ",.0f"))
        lines.append(f"{'rows/s, geometric mean':24}{'1.00x':>12}{self.speed:>11.2f}x")
        for action, share in self.agreement.items():
            lines.append(f"{f'same rows at {action}':24}{'':12}{share:>12.2%}")
        return "\n".join(lines)


def _row(values: Mapping[str, float], form: str) -> str:
    return "".join(f"{value:>12{form}}" for value in values.values())


def compare(forms: Mapping[str, Artefact], examples: Examples) -> Comparison:
    """Measure two forms of a model on examples that neither has learned from."""
    engines = {form: open_engine(artefact) for form, artefact in forms.items()}
    raw = {
        form: score_rows(engine, examples.vectors, examples.sequences)
        for form, engine in engines.items()
    }
    (_, first), (_, second) = raw.items()
    manifest = next(iter(forms.values())).manifest
    return Comparison(
        ap={
            form: average_precision(found.astype(np.float64), examples.is_fraud)
            for form, found in raw.items()
        },
        agreement=alert_agreement(manifest, first, second),
        model_bytes={form: sum(map(len, made.files)) for form, made in forms.items()},
        rows_per_s=rows_per_s(engines, examples),
    )


def alert_agreement(manifest: Manifest, first: FloatArray, second: FloatArray) -> dict[str, float]:
    """Return by action the share of rows at its threshold in either form that are so in both."""
    scores = [manifest.calibration.scores(raw) for raw in (first, second)]
    return {
        action: _overlap(*(found >= getattr(manifest.thresholds, action) for found in scores))
        for action in _ACTIONS
    }


def _overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    either = int((first | second).sum())
    return float((first & second).sum() / either) if either else 1.0


def rows_per_s(engines: Mapping[str, Engine], examples: Examples) -> dict[str, dict[int, float]]:
    """Return each engine's rows per second of CPU time by batch size, in interleaved rounds."""
    found: dict[str, dict[int, float]] = {form: {} for form in engines}
    for batch in TIMED_BATCHES:
        took: dict[str, list[int]] = {form: [] for form in engines}
        for _ in range(_ROUNDS + 1):  # the first warms
            for form, engine in engines.items():
                took[form].append(_score_ns(engine, examples, batch))
        for form, times in took.items():
            found[form][batch] = _TIMED_ROWS / statistics.median(times[1:]) * 1e9
    return found


def _score_ns(engine: Engine, examples: Examples, batch: int) -> int:
    """Return the CPU time of 64 rows in batches of one size, nanoseconds."""
    rows = np.arange(_TIMED_ROWS) % len(examples)
    vectors, sequences = examples.vectors[rows], examples.sequences[rows]
    began = time.process_time_ns()
    score_rows(engine, vectors, sequences, batch)
    return time.process_time_ns() - began
