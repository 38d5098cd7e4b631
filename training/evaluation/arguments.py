"""Command line of `evaluate`."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings
from fraudstream.runtime.usage_parser import count, midnight_ms
from training.metrics import Fold, summarise
from training.offline.load import describe_set, is_dataset
from training.simulator.simulate import SimulationSettings
from training.train.arguments import (
    BOOK_TRAIN_FROM,
    SIMULATOR,
    add_labels,
    file_to_write,
    say,
)
from training.train.slices import handbook_scored

_RESULTS: Final = ("--json", "--report", "--card", "--work")
ABOUT: Final = """\
Lets every model learn each fold from scratch, calibrates it on late rows that it did not learn
from, and tests it on the weeks after. `handbook` is the Fraud Detection Handbook's protocol;
`platform` is how a bank would run it: all labelled history before each fold, known cards kept and
shown apart.
Baselines and the leakage checklist are always part of it. With --work the scores of each model and
fold are kept, and a run that was cut off goes on where it was.
Exit codes: 0 evaluated, 1 a leakage check failed, 64 wrong usage, 78 what is read is not as
expected.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes, and that it is this."""
    parser.description = ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--protocol", choices=["handbook", "platform"], required=True)
    parser.add_argument("--data", type=Path, help="the Handbook's Parquet file, or a training set")
    parser.add_argument("--source", choices=[SIMULATOR], help="instead of --data")
    parser.add_argument(
        "--folds",
        choices=["test", "validation"],
        default="test",
        help="settings are chosen on the validation folds, which end before the first test day",
    )
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="NAME", help="beside baselines; all by default"
    )
    add_labels(parser)
    _add_results(parser)
    _add_platform(parser)
    parser.add_argument(
        "--configs", type=Path, metavar="DIR", help="of the models; training/configs by default"
    )
    parser.add_argument("--seed", type=int, help="of weights and samples, instead of the files'")
    parser.add_argument("--threads", type=count, default=1)
    parser.add_argument("--rounds", type=count, default=1_000, help="of the bootstrap by card")
    parser.add_argument("--review-cost-minor", type=int, default=500, help="of one alert")
    parser.add_argument(
        "--friction", type=float, default=0.05, help="share of a declined good amount that is lost"
    )
    parser.add_argument(
        "--scores", type=Path, help="Parquet with TRANSACTION_ID and score of one Handbook fold"
    )
    parser.add_argument(
        "--train-from", type=midnight_ms, default=BOOK_TRAIN_FROM, help="fold of --scores"
    )
    parser.set_defaults(run=_run)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", type=file_to_write, metavar="FILE", help="all figures; stdout has few"
    )
    parser.add_argument(
        "--report", type=file_to_write, metavar="FILE.html", help="one page with plots"
    )
    parser.add_argument(
        "--card",
        type=file_to_write,
        metavar="FILE.md",
        help="model card; FILE.html is written beside it",
    )
    parser.add_argument(
        "--artefact",
        type=Path,
        metavar="FOLDER",
        help="that card and report are for: they name it, its hash, rows and command",
    )
    parser.add_argument("--card-model", metavar="NAME", help="whose; the last in the table")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep scores here, and find them")


def _add_platform(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weeks", type=count, default=4, help="platform only: folds of a week each"
    )
    parser.add_argument("--delay-days", type=int, default=7, help="platform only: of labels")
    parser.add_argument("--warm-days", type=int, default=30, help="platform only: not learned from")
    parser.add_argument(
        "--until",
        type=midnight_ms,
        default=0,
        metavar="DAY",
        help="platform only: end of the last",
    )
    parser.add_argument("--simulator-seed", type=int, default=11)
    parser.add_argument("--cards", type=count, default=3_000, help="simulator only")
    parser.add_argument("--days", type=count, default=120, help="simulator only")


def _run(parsed: argparse.Namespace) -> int:
    if parsed.scores is not None:
        scored = handbook_scored(_data(parsed), parsed.scores, Fold(parsed.train_from))
        print(json.dumps(summarise(scored), indent=1, sort_keys=True))
        return 0
    # Learning and plots belong to the training extra; a usage error needs neither.
    from training.evaluation.evaluate import Request, evaluate
    from training.evaluation.figures.bootstrap import Draws
    from training.evaluation.figures.cost import CostModel
    from training.evaluation.folds import PlatformPlan
    from training.evaluation.registry import entry_of
    from training.evaluation.results import check_names, show, write_results
    from training.train.config import CONFIGS, Override

    check_names(parsed)
    source = _source(parsed)
    override = Override(parsed.seed, None, parsed.threads, _is_own_set(source))
    costs = CostModel(parsed.review_cost_minor, parsed.friction)
    request = Request(
        protocol=parsed.protocol,
        which=parsed.folds,
        source=source,
        plan=PlatformPlan(
            folds=parsed.weeks,
            delay_days=parsed.delay_days,
            warm_days=parsed.warm_days,
            until_ms=parsed.until,
        ),
        entry=entry_of(parsed.models, override, costs, parsed.configs or CONFIGS),
        draws=Draws(parsed.rounds),
        work=parsed.work,
        unlabelled=parsed.unlabelled,
        configs=parsed.configs or CONFIGS,
        artefact=parsed.artefact,
        command=_without_results(parsed.command_line),
    )
    found, run = evaluate(request, say)
    print(show(found))
    write_results(found, run, parsed)
    return 1 if any(check.is_failed for check in found.checks) else 0


def _without_results(command: str) -> str:
    """Return a command line without where its results go: those do not change them.

    >>> _without_results("evaluate --json a.json --card=b.md --weeks 2")
    'evaluate --weeks 2'
    """
    kept: list[str] = []
    is_value = False
    for part in shlex.split(command):
        is_option = part.split("=")[0] in _RESULTS
        if not is_option and not is_value:
            kept.append(part)
        is_value = is_option and "=" not in part
    return shlex.join(kept)


def _source(parsed: argparse.Namespace) -> Path | SimulationSettings:
    if parsed.source == SIMULATOR:
        if parsed.protocol != "platform":
            raise InvalidSettings("--source simulator: expected --protocol platform")
        return SimulationSettings(parsed.simulator_seed, parsed.cards, parsed.days)
    return _data(parsed)


def _is_own_set(source: Path | SimulationSettings) -> bool:
    if isinstance(source, SimulationSettings) or not is_dataset(source):
        return False
    return describe_set(source).is_own


def _data(parsed: argparse.Namespace) -> Path:
    if parsed.data is None:
        msg = "--data: expected the Handbook's file or a training set"
        raise InvalidSettings(f"{msg}; fraudstream training dataset makes one of other files")
    return Path(parsed.data)
