"""The command line of the benchmark's workers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fraudstream.settings import KafkaSettings


def run(arguments: Sequence[str]) -> int:
    """Run one worker until a signal."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.workers", description=__doc__)
    parser.add_argument(
        "role", choices=["features", "floor", "count-batches", "count-events", "relay", "ask"]
    )
    parser.add_argument("echo", nargs="?", help="of ask: the echo, host:port")
    asked = parser.parse_args(arguments)
    role = asked.role
    # Each role imports its own libraries only: what it does not use costs it nothing.
    if role in ("count-batches", "count-events"):
        from loadtest.workers.counting import count_batches, count_events

        (count_batches if role == "count-batches" else count_events)(KafkaSettings.read())
    elif role in ("relay", "ask"):
        from loadtest.workers.chain import run_ask, run_relay

        kafka = KafkaSettings.read()
        run_relay(kafka) if role == "relay" else run_ask(kafka, asked.echo)
    else:
        from loadtest.workers.features import run_features, run_floor

        (run_features if role == "features" else run_floor)()
    return 0
