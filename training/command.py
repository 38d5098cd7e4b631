"""The command line of `python -m training`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from fraudstream.errors import BrokerUnavailable, InvalidSettings, ModelRefused
from training.evaluation.metrics import Fold, summarise
from training.offline import arguments as offline
from training.offline.load import is_dataset, load_dataset
from training.parity import arguments as parity
from training.signatures import arguments as signatures
from training.simulate import SimulationSettings
from training.slices import (
    Slices,
    dataset_slices,
    fold_slices,
    handbook_scored,
    handbook_slices,
    simulator_slices,
)

_OK, _UNAVAILABLE, _BAD_SETTINGS = 0, 69, 78  # sysexits
SIMULATOR: Final = "simulator"
# The one fold of the book's chapter 3.
_BOOK_TRAIN_FROM: Final = "2018-07-25"


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; wrong usage exits 64 by itself."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except InvalidSettings as exc:
        _say(str(exc))
        return _BAD_SETTINGS
    except BrokerUnavailable as exc:
        _say(str(exc))
        return _UNAVAILABLE
    except ModelRefused as exc:
        _say(str(exc))
        return exc.exit_code


class _Parser(argparse.ArgumentParser):
    """Exits 64 (EX_USAGE) where argparse would exit 2."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it does not return
        self.print_usage(sys.stderr)
        self.exit(64, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    _add_train(commands.add_parser("train", help="make a model artefact"))
    _add_evaluate(commands.add_parser("evaluate", help="measure by the Handbook's protocol"))
    offline.add_arguments(commands.add_parser("dataset", help="make a training set"))
    parity.add_arguments(commands.add_parser("parity", help="prove the features of decisions"))
    signatures.add_person(commands.add_parser("person", help="make a person's key"))
    signatures.add_sign(commands.add_parser("sign", help="sign a model artefact"))
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
        "--train-from", type=_midnight_ms, default=_BOOK_TRAIN_FROM, help="fold of --scores"
    )
    evaluate.add_argument("--folds", choices=["test", "validation"], default="test")
    evaluate.add_argument("--threads", type=int, default=1)
    evaluate.set_defaults(run=_evaluate)


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument("--model", choices=["lstm", "boosting"], default="lstm")
    train.add_argument(
        "--source", default=SIMULATOR, help="simulator, a training set, or the Handbook's file"
    )
    train.add_argument(
        "--format",
        choices=["canonical", "handbook"],
        default="handbook",
        help="handbook: one fold of its protocol; canonical: a training set by shares of its time",
    )
    train.add_argument("--out", type=Path, help="folder of the artefact (lstm only)")
    train.add_argument("--name", help="name in the manifest; the folder's by default")
    train.add_argument("--version", type=int, default=1)
    train.add_argument("--seed", type=int, default=1, help="of weights and samples")
    train.add_argument("--threads", type=int, default=1)
    train.add_argument("--epochs", type=int, default=8)
    train.add_argument("--genuine-share", type=float, help="of genuine rows drawn each epoch")
    train.add_argument("--simulator-seed", type=int, default=11)
    train.add_argument("--cards", type=int, default=3_000, help="simulator only")
    train.add_argument("--days", type=int, default=90, help="simulator only")
    train.add_argument(
        "--train-from", type=_midnight_ms, default=_BOOK_TRAIN_FROM, help="Handbook only"
    )
    train.set_defaults(run=_train)


def _midnight_ms(text: str) -> int:
    day = date.fromisoformat(text)
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _train(parsed: argparse.Namespace) -> int:
    # PyTorch and XGBoost belong to the training extra; a usage error needs neither.
    from training.learning.plan import FitPlan
    from training.models.scaling import NetworkShape, feature_ceilings
    from training.train import TrainRequest, train_boosting, train_lstm

    if parsed.model == "lstm" and parsed.out is None:
        raise InvalidSettings("--out: expected the folder of the artefact")
    slices = _slices(parsed)
    is_simulated = parsed.source == SIMULATOR
    plan = FitPlan(
        epochs=parsed.epochs,
        genuine_share=parsed.genuine_share or (0.12 if is_simulated else 0.6),
        seed=parsed.seed,
        threads=parsed.threads,
    )
    if parsed.model == "boosting":
        figures = train_boosting(slices, plan, _say)
    else:
        shape = NetworkShape(slices.fit.vectors.shape[1], ceilings=feature_ceilings())
        name = parsed.name or parsed.out.name
        request = TrainRequest(parsed.out, name, parsed.version, shape, plan)
        figures = train_lstm(request, slices, _say).manifest.metrics
    print(json.dumps(figures, indent=1, sort_keys=True))
    return _OK


def _slices(parsed: argparse.Namespace) -> Slices:
    if parsed.source == SIMULATOR:
        settings = SimulationSettings(parsed.simulator_seed, parsed.cards, parsed.days)
        return simulator_slices(settings)
    source, fold = Path(parsed.source), Fold(parsed.train_from)
    if is_dataset(source):
        is_book = parsed.format == "handbook"
        return fold_slices(load_dataset(source), fold) if is_book else dataset_slices(source)
    if parsed.format == "canonical":
        raise InvalidSettings(
            f"{source}: expected a training set; make one by `python -m training dataset`"
        )
    return handbook_slices(source, fold)


def _evaluate(parsed: argparse.Namespace) -> int:
    if parsed.scores is not None:
        scored = handbook_scored(parsed.data, parsed.scores, Fold(parsed.train_from))
        print(json.dumps(summarise(scored), indent=1, sort_keys=True))
        return _OK
    from training.evaluation.handbook import evaluate_boosting

    figures = evaluate_boosting(parsed.data, parsed.folds, parsed.threads, _say)
    print(json.dumps(figures.summary(), indent=1, sort_keys=True))
    return _OK
