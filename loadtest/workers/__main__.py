"""Run one worker until a signal: `python -m loadtest.workers ROLE ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

# Each role imports its own libraries only: what it does not use costs it nothing.
_ROLES: Final = {
    "features": "features:run_features",
    "floor": "features:run_floor",
    "count-batches": "counting:count_batches",
    "count-events": "counting:count_events",
    "relay": "chain:run_relay",
    "ask": "chain:run_ask",
    "batching": "batching:serve_batching",
    "echo": "echo:serve_echo",
}


def run(arguments: Sequence[str]) -> int:
    """Run one worker until a signal."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.workers", description=__doc__)
    parser.add_argument("role", choices=_ROLES)
    parser.add_argument("told", nargs="*", help="what the role is told: see its module")
    asked = parser.parse_args(arguments)
    module, _, name = _ROLES[asked.role].partition(":")
    getattr(import_module(f"loadtest.workers.{module}"), name)(*asked.told)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
