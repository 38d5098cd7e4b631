"""The command line of the features service."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Final

from fraudstream.errors import BrokerUnavailable, InvalidSettings, OnlineStoreUnavailable
from fraudstream.json_log import log_json
from fraudstream.telemetry import serve_metrics
from services.features.build import ROLES, AllSettings, build

_EXIT_UNAVAILABLE: Final = 69
_EXIT_CONFIG: Final = 78

_ABOUT: Final = """\
Moves the states of cards and shared entities on and has every accepted row scored.

roles:
  card     reads transactions.accepted.v1: features, decisions, state write
  entity   reads entities.keyed.v1: states of terminals, for the card role to read
  label    reads labels.settled.v1: labels on to their entities

Settings come from FRAUD_FEATURES_*, FRAUD_KAFKA_*, FRAUD_REDIS_* and FRAUD_TELEMETRY_*.
Exit codes: 69 broker or store away at the start, 75 no progress (start it again), 78 settings.
"""


def main(arguments: Sequence[str]) -> int:
    """Run a worker until a signal; return the exit code where it cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m services.features",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("role", choices=sorted(ROLES))
    role = parser.parse_args(arguments).role
    log_json(f"features-{role}", logging.WARNING)
    try:
        settings = AllSettings()
        serve_metrics(settings.features.metrics_port)
        build(role, settings).run()
    except InvalidSettings as exc:
        sys.stderr.write(f"features: {exc}\n")
        return _EXIT_CONFIG
    except (BrokerUnavailable, OnlineStoreUnavailable) as exc:
        sys.stderr.write(f"features: {exc}\n")
        return _EXIT_UNAVAILABLE
    return 0
