"""The files by which other commands find the line that `python -m demo` runs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fraudstream.errors import FraudStreamError, Outcome, Retry

FILE_NAME: Final = "running.json"
# For a shell, and for Prometheus (`file_sd_configs`).
ENVIRONMENT_FILE: Final = "line.env"
METRICS_FILE: Final = "metrics.json"


class NothingRuns(FraudStreamError):
    """No line runs that a command could speak to."""

    outcome = Outcome("UNAVAILABLE", Retry.LATER, os.EX_UNAVAILABLE)


@contextmanager
def announced(
    folder: Path, environment: Mapping[str, str], metrics: Mapping[str, int]
) -> Iterator[None]:
    """Say, for as long as the block lasts, how the running line is reached.

    Args:
        folder: Where demos run.
        environment: What the services were started with.
        metrics: Port of each process's metrics.
    """
    known = {name: text for name, text in environment.items() if name.startswith("FRAUD_KAFKA_")}
    exports = [f"export {name}={shlex.quote(text)}\n" for name, text in environment.items()]
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"job": name}}
        for name, port in metrics.items()
    ]
    files = {
        folder / ENVIRONMENT_FILE: "".join(exports),
        folder / METRICS_FILE: json.dumps(targets, indent=2) + "\n",
        folder / FILE_NAME: json.dumps(known),
    }
    for path, text in files.items():
        path.write_text(text)
    try:
        yield
    finally:
        for path in files:
            path.unlink(missing_ok=True)


def find_running(folder: Path) -> dict[str, str]:
    """Return the variables that name the broker of the running line.

    Raises:
        NothingRuns: No demo runs from this folder.
    """
    try:
        found: dict[str, str] = json.loads((folder / FILE_NAME).read_text())
    except (OSError, ValueError) as exc:
        raise NothingRuns(
            "no line runs here: start one by `make demo` in another terminal, or set"
            " FRAUD_KAFKA_BOOTSTRAP (and FRAUD_KAFKA_TOPIC_PREFIX) to one that runs elsewhere"
        ) from exc
    return found
