"""The file by which other commands find the line that `python -m demo` runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fraudstream.errors import FraudStreamError, Outcome, Retry

FILE_NAME: Final = "running.json"


class NothingRuns(FraudStreamError):
    """No line runs that a command could speak to."""

    outcome = Outcome("UNAVAILABLE", Retry.LATER, "-")


@contextmanager
def announced(folder: Path, servers: Mapping[str, str]) -> Iterator[None]:
    """Say, for as long as the block lasts, how the broker of the running line is reached."""
    known = {name: text for name, text in servers.items() if name.startswith("FRAUD_KAFKA_")}
    path = folder / FILE_NAME
    path.write_text(json.dumps(known))
    try:
        yield
    finally:
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
