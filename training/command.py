"""The command line of `python -m training`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fraudstream.errors import BrokerUnavailable, InvalidSettings, ModelRefused
from training import search_command, train_command
from training.compression import arguments as compression
from training.evaluation.metrics import Fold, summarise
from training.offline import arguments as offline
from training.parity import arguments as parity
from training.signatures import arguments as signatures
from training.slices import handbook_scored
from training.train_command import BOOK_TRAIN_FROM, midnight_ms, say

_OK, _UNAVAILABLE, _BAD_SETTINGS = 0, 69, 78  # sysexits


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; wrong usage exits 64 by itself."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except InvalidSettings as exc:
        say(str(exc))
        return _BAD_SETTINGS
    except BrokerUnavailable as exc:
        say(str(exc))
        return _UNAVAILABLE
    except ModelRefused as exc:
        say(str(exc))
        return exc.exit_code


class _Parser(argparse.ArgumentParser):
    """Exits 64 (EX_USAGE) where argparse would exit 2."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it does not return
        self.print_usage(sys.stderr)
        self.exit(64, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    train_command.add_arguments(commands.add_parser("train", help="make a model artefact"))
    search_command.add_arguments(commands.add_parser("search", help="look for better settings"))
    _add_evaluate(commands.add_parser("evaluate", help="measure by the Handbook's protocol"))
    offline.add_arguments(commands.add_parser("dataset", help="make a training set"))
    parity.add_arguments(commands.add_parser("parity", help="prove the features of decisions"))
    signatures.add_person(commands.add_parser("person", help="make a person's key"))
    signatures.add_sign(commands.add_parser("sign", help="sign a model artefact"))
    compression.add_arguments(commands.add_parser("quantise", help="make a model of int8"))
    return parser


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("--protocol", choices=["handbook"], required=True)
    evaluate.add_argument("--data", type=Path, required=True, help="the Handbook's Parquet file")
    evaluate.add_argument(
        "--scores",
        type=Path,
        help="Parquet with TRANSACTION_ID and score of one fold; without it boosting is fitted to"
        " each of four folds",
    )
    evaluate.add_argument(
        "--train-from", type=midnight_ms, default=BOOK_TRAIN_FROM, help="fold of --scores"
    )
    evaluate.add_argument("--folds", choices=["test", "validation"], default="test")
    evaluate.add_argument("--threads", type=int, default=1)
    evaluate.set_defaults(run=_evaluate)


def _evaluate(parsed: argparse.Namespace) -> int:
    if parsed.scores is not None:
        scored = handbook_scored(parsed.data, parsed.scores, Fold(parsed.train_from))
        print(json.dumps(summarise(scored), indent=1, sort_keys=True))
        return _OK
    from training.evaluation.handbook import evaluate_boosting

    figures = evaluate_boosting(parsed.data, parsed.folds, parsed.threads, say)
    print(json.dumps(figures.summary(), indent=1, sort_keys=True))
    return _OK
