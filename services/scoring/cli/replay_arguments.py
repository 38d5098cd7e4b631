"""Command line of `replay`. Imports little: the service's own start goes through here too."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final

_ABOUT: Final = """\
Reads the record of a decision, computes what it saw again from the log (FRAUD_KAFKA_*), scores it
with the model that it names (FRAUD_SCORING_MODEL, retired ones too), and compares: to the bit on
the same engine and processor class, else within the bound that is printed. A past that was loaded
into the store beside the log is named by --past.
Exit codes: 0 identical, 1 different, 64 wrong usage, 65 no such decision or model, or one that this
release cannot read, 69 the broker does not answer, or the log does not hold what is needed now.
"""
_DECISION_ID: Final = re.compile(r"[0-9a-f]{32}")


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes, and that it is this."""
    parser.description = _ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("decision_id", type=_decision_id, help="32 hexadecimal digits")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--card-token", help="its card: one partition is looked through, not all")
    where.add_argument("--partition", type=int, help="its partition, for the same reason")
    where.add_argument(
        "--archive", type=Path, metavar="DIR", help="find it in the archive's Parquet files"
    )
    parser.add_argument(
        "--past", type=Path, metavar="FILE", help="what was loaded into the store beside the log"
    )
    parser.set_defaults(run=_run)


def _decision_id(text: str) -> str:
    if not _DECISION_ID.fullmatch(text):
        msg = f"expected 32 hexadecimal digits, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return text


def _run(asked: argparse.Namespace) -> int:
    from services.scoring.cli.replay_command import run_replay

    return run_replay(asked)
