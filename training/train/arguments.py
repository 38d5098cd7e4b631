"""`fraudstream training train`: its arguments, where its rows come from, and what it prints."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings
from fraudstream.runtime.usage_parser import count, midnight_ms
from fraudstream.transaction.indicative_rates import REFERENCE_CURRENCY
from training.metrics import Fold
from training.offline.labelled import LABEL_DELAY_DAYS, Unlabelled
from training.offline.load import describe_set, is_dataset, load_dataset, load_labels
from training.offline.source.files import HANDBOOK
from training.simulator.simulate import SimulationSettings
from training.train.origin import Origin
from training.train.slices import (
    Slices,
    check_slices,
    dataset_slices,
    fold_slices,
    handbook_slices,
    simulator_slices,
)

SIMULATOR: Final = "simulator"
CANONICAL: Final = "canonical"
# The one fold of the book's chapter 3.
BOOK_TRAIN_FROM: Final = "2018-07-25"
KINDS: Final = ("lstm", "transformer", "boosting", "ensemble")
_DESCRIPTION: Final = """\
Make a model artefact: fit, stop, calibrate, choose thresholds, measure beside boosting, export.
A run that was ended goes on from its last epoch when it is started again. Several GPUs:
torchrun --nproc-per-node N -m training train ...
"""


def add_arguments(train: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    train.description = _DESCRIPTION
    train.formatter_class = argparse.RawDescriptionHelpFormatter
    add_model(train)
    add_source(train)
    train.add_argument("--out", type=Path, help="folder of the artefact; boosting may do without")
    train.add_argument("--name", help="name in the manifest; the folder's by default")
    train.add_argument("--version", type=count, default=1)
    train.add_argument("--work", type=Path, help="where fits keep their state; OUT.work by default")
    train.add_argument(
        "--track", metavar="URI", help="MLflow's store, or `off`; var/mlflow.db by default"
    )
    train.set_defaults(run=_train)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add which model, by which configuration."""
    parser.add_argument("--model", choices=KINDS, default="lstm")
    add_config(parser, "TOML file; training/configs/MODEL.toml by default")


def add_config(parser: argparse.ArgumentParser, what: str) -> None:
    """Add a configuration, and what may be said otherwise than it says."""
    parser.add_argument("--config", type=Path, help=what)
    parser.add_argument("--seed", type=int, help="of weights and samples, instead of the file's")
    parser.add_argument("--epochs", type=count, help="at most, instead of the file's")
    parser.add_argument("--threads", type=count, default=1)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add where the rows come from."""
    parser.add_argument(
        "--source", default=SIMULATOR, help="simulator, a training set, or the Handbook's file"
    )
    parser.add_argument(
        "--format",
        choices=[CANONICAL, HANDBOOK],
        help="handbook: one fold of its protocol; canonical: a training set by shares of its time;"
        " what a training set was made of by default",
    )
    parser.add_argument(
        "--refit",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="training sets: serve weights fitted to all labelled rows, by the measured settings",
    )
    add_labels(parser)
    parser.add_argument(
        "--label-delay-days",
        type=count,
        default=LABEL_DELAY_DAYS,
        help="training sets: after which an unlabelled row counts as genuine, where it does",
    )
    parser.add_argument("--simulator-seed", type=int, default=11)
    parser.add_argument("--cards", type=count, default=3_000, help="simulator only")
    parser.add_argument("--days", type=count, default=90, help="simulator only")
    parser.add_argument(
        "--train-from", type=midnight_ms, default=BOOK_TRAIN_FROM, help="Handbook only"
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add what rows without a label count as."""
    parser.add_argument(
        "--unlabelled",
        type=Unlabelled,
        choices=list(Unlabelled),
        help="training sets: what rows that nobody labelled count as; as the set says by default",
    )


def file_to_write(text: str) -> Path:
    """Return the path of a file whose folder is there, so that no result is lost at the end.

    >>> file_to_write("figures.json").name
    'figures.json'
    """
    path = Path(text)
    if path.parent.is_dir() and not path.is_dir():
        return path
    raise argparse.ArgumentTypeError(f"expected a file in a folder that is there, found {text}")


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a source, and what is to be said of it.

    Attributes:
        slices: By what they are for.
        labels: How many are labelled how; empty where all are.
        reference_currency: ISO 4217 code of their amounts.
    """

    slices: Slices
    labels: str = ""
    reference_currency: str = REFERENCE_CURRENCY


def rows_of(parsed: argparse.Namespace) -> Rows:
    """Return the rows of a source.

    Raises:
        InvalidSettings: It is not there, is something else, or is too small to learn from.
    """
    rows = _cut(parsed)
    check_slices(rows.slices, parsed.source)
    return rows


def is_own_set(parsed: argparse.Namespace) -> bool:
    """Return whether the rows are a training set of one's own, whatever `--format` says of it."""
    if parsed.source == SIMULATOR or not is_dataset(Path(parsed.source)):
        return False
    return describe_set(Path(parsed.source)).is_own


def origin_of(parsed: argparse.Namespace, settings: Path, rows: Rows) -> Origin:
    """Return what a manifest says of where its model comes from."""
    return Origin(
        source=parsed.source,
        command=parsed.command_line,
        settings=str(settings),
        labels=rows.labels,
        reference_currency=rows.reference_currency,
    )


def _cut(parsed: argparse.Namespace) -> Rows:
    if parsed.source == SIMULATOR:
        settings = SimulationSettings(parsed.simulator_seed, parsed.cards, parsed.days)
        say(f"making the traffic of {parsed.cards} simulated cards over {parsed.days} days")
        return Rows(simulator_slices(settings))
    source, fold = Path(parsed.source), Fold(parsed.train_from)
    if is_dataset(source):
        return _of_set(parsed, source)
    if parsed.format == CANONICAL:
        raise InvalidSettings(
            f"{source}: expected a training set; make one by `fraudstream training dataset`"
        )
    say(f"{source}: replaying it for the features of each row")
    return Rows(handbook_slices(source, fold))


def _of_set(parsed: argparse.Namespace, source: Path) -> Rows:
    described = describe_set(source)
    labels = load_labels(source, parsed.unlabelled, parsed.label_delay_days)
    counts = labels.counts().text()
    say(f"{source}: {counts}")
    if (parsed.format or described.format) == HANDBOOK:
        known = load_dataset(source).where(labels.is_known)
        slices = fold_slices(known, Fold(parsed.train_from))
    else:
        slices = dataset_slices(source, labels)
    if not parsed.refit:
        slices = replace(slices, served=None)
    return Rows(slices, counts, described.reference_currency)


def say(line: str) -> None:
    """Say how it goes, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _silently(_: str) -> None:
    """Say nothing: the first process does."""


def _train(parsed: argparse.Namespace) -> int:
    # PyTorch and XGBoost belong to the training extra; a usage error needs neither.
    from training.learning.machine import is_first_process
    from training.train.config import Override, named_config
    from training.train.members import remove_states, specs_of
    from training.train.tracking import track_run
    from training.train.train import TrainRequest, learn, to_serve, train_boosting, train_model

    path, config = named_config(parsed.model, parsed.config)
    override = Override(parsed.seed, parsed.epochs, parsed.threads, is_own_set(parsed))
    config = override.applied(config)
    if parsed.out is None:
        if parsed.model != "boosting":
            raise InvalidSettings("--out: expected the folder of the artefact")
        slices = rows_of(parsed).slices
        print(json.dumps(train_boosting(slices, config.boosting, say), indent=1))
        return 0
    work = parsed.work or parsed.out.with_name(f"{parsed.out.name}.work")
    specs = specs_of(path, config, override)
    name = parsed.name or parsed.out.name
    request = TrainRequest(parsed.out, name, parsed.version, config, specs, work)
    if not is_first_process():  # under torchrun: it only helps
        slices = rows_of(parsed).slices
        to_serve(request, slices, learn(request, slices, _silently), _silently)
        return 0
    with track_run(parsed.track, name, config.model_dump(mode="json")) as run:
        rows = rows_of(parsed)
        request = replace(request, origin=origin_of(parsed, path, rows))
        artefact = train_model(request, rows.slices, say)
        metrics = artefact.manifest.metrics
        run.log(metrics, artefact.model_hash)
    remove_states(specs, work)
    print(json.dumps(metrics, indent=1, sort_keys=True))
    return 0
