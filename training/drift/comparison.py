"""Compare two sets: a table on the terminal, JSON, and gauges for Prometheus."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, write_to_textfile

from fraudstream.models.artefact import read_artefact
from fraudstream.models.psi import DriftLevel
from fraudstream.telemetry.metrics import DRIFT_CALIBRATION, DRIFT_PSI
from training.drift.measure import Drift, measure_drift
from training.drift.observed import Span, read_set
from training.offline.labelled import Unlabelled

_OK, _ALARM = 0, 1
_LEAST_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """What to compare, and where the result goes.

    Attributes:
        reference: A training set or an archive.
        current: The same, of now.
        from_day: First day of an archive given as current.
        to_day: The day after its last.
        model: Folder of the artefact that scores; None for none.
        json: File for everything; None for none.
        metrics: File for gauges; None for none.
        unlabelled: What rows that nobody labelled count as; None for what each set says.
    """

    reference: Path
    current: Path
    from_day: date
    to_day: date
    model: Path | None
    json: Path | None
    metrics: Path | None
    unlabelled: Unlabelled | None = None


def compare(asked: Comparison) -> int:
    """Compare, print, write, and return the exit code: 1 on an alarm.

    Raises:
        InvalidSettings: A set is not as expected.
        ModelRefused: The model is not.
    """
    model = None if asked.model is None else read_artefact(asked.model)
    drift = measure_drift(
        read_set(asked.reference, Span(), model, asked.unlabelled),
        read_set(asked.current, Span(asked.from_day, asked.to_day), model, asked.unlabelled),
    )
    print(show(drift))
    if asked.json is not None:
        asked.json.write_text(text_of(drift))
    if asked.metrics is not None:
        write_metrics(drift, asked.metrics)
    return _ALARM if drift.level is DriftLevel.ALARM else _OK


def show(drift: Drift) -> str:
    """Return a table: all that moved, and the ten quantities that moved most."""
    form = "{:<32} {:>8} {:>8} {:>16}  {}"
    (before, rows), (now, others) = drift.reference, drift.current
    lines = [
        f"reference {before}: {rows:,} rows; current {now}: {others:,} rows",
        form.format("quantity", "PSI", "chance", "missing", "level"),
    ]
    for index, moved in enumerate(drift.moved):
        psi = moved.psi
        if index < _LEAST_SHOWN or psi.level is not DriftLevel.STABLE:
            missing = f"{psi.reference_missing:.1%} > {psi.current_missing:.1%}"
            lines.append(
                form.format(moved.name, f"{psi.psi:.4f}", f"{psi.noise:.4f}", missing, psi.level)
            )
    left = len(drift.moved) - (len(lines) - 2)
    if left:
        lines.append(f"and {left} quantities that moved less")
    if drift.calibration is not None:
        found = drift.calibration
        lines.append(
            f"calibration on {found.rows:,} matured rows with {found.frauds:,} frauds: mean score /"
            f" fraud share {found.ratio.estimate:.2f} (95 % interval {found.ratio.low:.2f} to"
            f" {found.ratio.high:.2f}), ECE {found.ece:.5f}: {found.level}"
        )
    return "\n".join([*lines, f"in all: {drift.level}"])


def text_of(drift: Drift) -> str:
    """Return everything as JSON."""
    calibration = drift.calibration
    content = {
        "level": drift.level,
        "reference": {"name": drift.reference[0], "rows": drift.reference[1]},
        "current": {"name": drift.current[0], "rows": drift.current[1]},
        "quantities": {
            moved.name: asdict(moved.psi) | {"level": moved.psi.level} for moved in drift.moved
        },
        "calibration": asdict(calibration) | {"level": calibration.level} if calibration else None,
    }
    return json.dumps(content, indent=1) + "\n"


def write_metrics(drift: Drift, path: Path) -> None:
    """Write the gauges in Prometheus' text form, whole or not at all."""
    registry = CollectorRegistry()
    registry.register(DRIFT_PSI)
    for moved in drift.moved:
        DRIFT_PSI.labels(moved.name).set(moved.psi.psi)
    if drift.calibration is not None:
        registry.register(DRIFT_CALIBRATION)
        DRIFT_CALIBRATION.set(drift.calibration.ratio.estimate)
    write_to_textfile(str(path), registry)
