"""The command line of the benchmark's workers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fraudstream.settings import KafkaSettings


def run(arguments: Sequence[str]) -> int:
    """Run one worker until a signal."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.workers", description=__doc__)
    parser.add_argument("role", choices=["features", "floor", "count-batches", "count-events"])
    role = parser.parse_args(arguments).role
    # Each role imports its own libraries only: what it does not use costs it nothing.
    if role in ("count-batches", "count-events"):
        from loadtest.workers.counting import count_batches, count_events

        (count_batches if role == "count-batches" else count_events)(KafkaSettings.read())
    else:
        from loadtest.workers.features import run_features, run_floor

        (run_features if role == "features" else run_floor)()
    return 0
