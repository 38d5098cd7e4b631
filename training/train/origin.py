"""Where a result comes from, as manifests, cards and reports say it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fraudstream.models.artefact import Artefact
from fraudstream.models.manifest import Provenance, UsedRows
from fraudstream.version import VERSION
from training.dataset import Examples
from training.train.slices import Slices

# Those that decide weights or figures, as far as this process has loaded them.
_LIBRARIES: Final = ("numpy", "sklearn", "xgboost", "torch", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an artefact comes from.

    Attributes:
        source: What was read.
        command: Command line.
        settings: File of the settings.
        labels: How many rows of the source are labelled how; empty where all are.
        reference_currency: ISO 4217 code of the amounts.
    """

    source: str
    command: str
    settings: str
    labels: str
    reference_currency: str


def loaded_versions() -> dict[str, str]:
    """Return the versions of this software and of the libraries that are loaded.

    >>> "numpy" in loaded_versions()
    True
    """
    loaded = [name for name in _LIBRARIES if name in sys.modules]
    return {"fraudstream": VERSION} | {name: str(sys.modules[name].__version__) for name in loaded}


def provenance_of(origin: Origin, slices: Slices) -> Provenance:
    """Return what a manifest says of how its model was made."""
    is_refit = slices.served is not None
    measured_fit = used_rows(slices.whole)
    return Provenance(
        source=origin.source,
        command=origin.command,
        settings=origin.settings,
        versions=loaded_versions(),
        labels=origin.labels,
        fitted=measured_fit if slices.served is None else used_rows(slices.served),
        calibrated=used_rows(slices.test if is_refit else slices.tune),
        measured=used_rows(slices.test),
        measured_fit=measured_fit,
    )


def describe_artefact(artefact: Artefact) -> dict[str, str]:
    """Return what a card says of an artefact, by name."""
    manifest = artefact.manifest
    found = {
        "Artefact": f"{manifest.name} version {manifest.version}",
        "Hash of the artefact": artefact.model_hash,
    }
    made = manifest.provenance
    if made is None:
        return found
    return found | {
        "Made by": made.command,
        "Made with": ", ".join(f"{name} {number}" for name, number in made.versions.items()),
        "Settings of the artefact": made.settings,
        "Learned from": f"{made.source}: {_period(made.fitted)}",
        "Calibrated on": f"{_period(made.calibrated)}, by weights that had not learned from them",
        "Its metrics are of": f"{_period(made.measured)}, by weights that had learned from"
        f" {_period(made.measured_fit)}",
        "Reference currency": manifest.reference_currency or "not said",
    }


def _period(used: UsedRows) -> str:
    first, last = (
        datetime.fromtimestamp(ms / 1_000, UTC).date().isoformat()
        for ms in (used.first_ms, used.last_ms)
    )
    return f"{first} to {last}, {used.rows:,} rows, {used.frauds:,} frauds"


def used_rows(examples: Examples) -> UsedRows:
    """Return period and size of some rows."""
    return UsedRows(
        first_ms=int(examples.event_time_ms.min()),
        last_ms=int(examples.event_time_ms.max()),
        rows=len(examples),
        frauds=int(examples.is_fraud.sum()),
    )
