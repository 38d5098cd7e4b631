"""The command line of the benchmark's workers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from fraudstream.settings import KafkaSettings

_ROLES: Final = (
    "features",
    "floor",
    "count-batches",
    "count-events",
    "relay",
    "ask",
    "batching",
)


def run(arguments: Sequence[str]) -> int:
    """Run one worker until a signal."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.workers", description=__doc__)
    parser.add_argument("role", choices=_ROLES)
    parser.add_argument("told", nargs="*", help="what the role is told: see its module")
    asked = parser.parse_args(arguments)
    role, told = asked.role, asked.told
    # Each role imports its own libraries only: what it does not use costs it nothing.
    if role in ("count-batches", "count-events"):
        from loadtest.workers.counting import count_batches, count_events

        (count_batches if role == "count-batches" else count_events)(KafkaSettings.read())
    elif role in ("relay", "ask"):
        from loadtest.workers.chain import run_ask, run_relay

        kafka = KafkaSettings.read()
        run_relay(kafka) if role == "relay" else run_ask(kafka, *told)
    elif role == "batching":
        from loadtest.workers.batching import serve_batching

        way, port, cards, entities = told
        serve_batching(way, int(port), (int(cards), int(entities)))
    else:
        from loadtest.workers.features import run_features, run_floor

        (run_features if role == "features" else run_floor)()
    return 0
