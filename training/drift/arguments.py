"""Command line of `drift`: a table on the terminal, JSON, and gauges for Prometheus."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, write_to_textfile

from fraudstream.psi import ALARM, WATCH, DriftLevel
from fraudstream.telemetry import DRIFT_CALIBRATION, DRIFT_PSI
from training.drift.measure import Drift, measure_drift
from training.drift.observed import Span, read_set

_OK, _ALARM = 0, 1
_LEAST_SHOWN: Final = 10

ABOUT: Final = f"""\
Compares the features of now, and the score of a model, with a reference: population stability
index (PSI) by bins of the reference, a missing value is a bin of its own; {WATCH} is worth a look,
{ALARM} is an alarm. A set is the folder of a training set, or the root of an archive, whose
decisions hold features and scores. With --model a training set is scored by it, and where labels
have matured its calibration is checked too.
Exit codes: 0 no alarm, 1 alarm, 64 wrong usage, 65 the model is refused, 78 a set is not as
expected.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes, and that it is this."""
    parser.description = ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--reference", type=Path, required=True, metavar="SET")
    parser.add_argument("--current", type=Path, required=True, metavar="SET")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="artefact that scores")
    parser.add_argument(
        "--from",
        dest="from_day",
        type=date.fromisoformat,
        default=date.min,
        metavar="DAY",
        help="first day of an archive given as --current",
    )
    parser.add_argument(
        "--to", dest="to_day", type=date.fromisoformat, default=date.max, metavar="DAY"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="everything, as JSON")
    parser.add_argument(
        "--metrics", type=Path, metavar="FILE.prom", help="gauges for a textfile collector"
    )
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    # ONNX Runtime is loaded only where a model is asked for.
    model = None
    if parsed.model is not None:
        from fraudstream.artefact import read_artefact

        model = read_artefact(parsed.model)
    drift = measure_drift(
        read_set(parsed.reference, Span(), model),
        read_set(parsed.current, Span(parsed.from_day, parsed.to_day), model),
    )
    print(show(drift))
    if parsed.json is not None:
        parsed.json.write_text(text_of(drift))
    if parsed.metrics is not None:
        write_metrics(drift, parsed.metrics)
    return _ALARM if drift.level is DriftLevel.ALARM else _OK


def show(drift: Drift) -> str:
    """Return a table: all that moved, and the ten quantities that moved most."""
    form = "{:<32} {:>8} {:>8} {:>16}  {}"
    (before, rows), (now, others) = drift.reference, drift.current
    lines = [
        f"reference {before}: {rows:,} rows; current {now}: {others:,} rows",
        form.format("quantity", "PSI", "chance", "missing", "level"),
    ]
    for place, moved in enumerate(drift.moved):
        psi = moved.psi
        if place < _LEAST_SHOWN or psi.level is not DriftLevel.STABLE:
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
