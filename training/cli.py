"""The command line of `python -m training`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Final

from fraudstream.errors import FraudStreamError
from fraudstream.runtime.usage_parser import UsageParser, command_line
from training.compression import arguments as compression
from training.drift import arguments as drift
from training.evaluation import arguments as evaluation
from training.offline import arguments as offline
from training.parity import arguments as parity
from training.promotion import arguments as promotion
from training.search import arguments as search
from training.signatures import arguments as signatures
from training.train import arguments as train
from training.train.arguments import say

_PROGRAM: Final = ("python", "-m", "training")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; wrong usage exits 64 by itself."""
    parsed = _parser().parse_args(arguments)
    parsed.command_line = shlex.join([*_PROGRAM, *arguments])
    try:
        return int(parsed.run(parsed))
    except FraudStreamError as exc:
        say(str(exc))
        return exc.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = command_line("training", __doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=UsageParser)
    train.add_arguments(commands.add_parser("train", help="make a model artefact"))
    search.add_arguments(commands.add_parser("search", help="look for better settings"))
    evaluation.add_arguments(commands.add_parser("evaluate", help="measure models by a protocol"))
    drift.add_arguments(commands.add_parser("drift", help="compare what comes with a reference"))
    offline.add_arguments(commands.add_parser("dataset", help="make a training set"))
    parity.add_arguments(commands.add_parser("parity", help="prove the features of decisions"))
    signatures.add_person(commands.add_parser("person", help="make a person's key"))
    signatures.add_sign(commands.add_parser("sign", help="sign a model artefact"))
    compression.add_quantise(commands.add_parser("quantise", help="make a model of int8"))
    compression.add_distil(commands.add_parser("distil", help="teach a smaller model"))
    promotion.add_commands(commands)
    return parser
