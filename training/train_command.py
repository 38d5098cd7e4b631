"""`python -m training train`: its arguments, where its rows come from, and what it prints."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings
from training.evaluation.metrics import Fold
from training.offline.load import is_dataset, load_dataset
from training.simulate import SimulationSettings
from training.slices import (
    Slices,
    check_slices,
    dataset_slices,
    fold_slices,
    handbook_slices,
    simulator_slices,
)

SIMULATOR: Final = "simulator"
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
    parser.add_argument("--epochs", type=int, help="at most, instead of the file's")
    parser.add_argument("--threads", type=int, default=1)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add where the rows come from."""
    parser.add_argument(
        "--source", default=SIMULATOR, help="simulator, a training set, or the Handbook's file"
    )
    parser.add_argument(
        "--format",
        choices=["canonical", "handbook"],
        default="handbook",
        help="handbook: one fold of its protocol; canonical: a training set by shares of its time",
    )
    parser.add_argument("--simulator-seed", type=int, default=11)
    parser.add_argument("--cards", type=count, default=3_000, help="simulator only")
    parser.add_argument("--days", type=count, default=90, help="simulator only")
    parser.add_argument(
        "--train-from", type=midnight_ms, default=BOOK_TRAIN_FROM, help="Handbook only"
    )


def count(text: str) -> int:
    """Return a whole number from 1 on.

    >>> count("3")
    3
    """
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text}")


def file_to_write(text: str) -> Path:
    """Return the path of a file whose folder is there, so that no result is lost at the end.

    >>> file_to_write("figures.json").name
    'figures.json'
    """
    path = Path(text)
    if path.parent.is_dir() and not path.is_dir():
        return path
    raise argparse.ArgumentTypeError(f"expected a file in a folder that is there, found {text}")


def midnight_ms(text: str) -> int:
    """Return the begin of a day, UTC, epoch milliseconds.

    >>> midnight_ms("1970-01-02")
    86400000
    """
    day = date.fromisoformat(text)
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000


def slices_of(parsed: argparse.Namespace) -> Slices:
    """Return the rows of a source by what they are for.

    Raises:
        InvalidSettings: It is not there, is something else, or is too small to learn from.
    """
    slices = _cut(parsed)
    check_slices(slices, parsed.source)
    return slices


def _cut(parsed: argparse.Namespace) -> Slices:
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


def say(line: str) -> None:
    """Say how it goes, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _train(parsed: argparse.Namespace) -> int:
    # PyTorch and XGBoost belong to the training extra; a usage error needs neither.
    from training.config import Override, named_config
    from training.learning.machine import is_first_process
    from training.members import remove_states, specs_of
    from training.tracking import track_run
    from training.train import TrainRequest, learn, train_boosting, train_model

    path, config = named_config(parsed.model, parsed.config)
    override = Override(parsed.seed, parsed.epochs, parsed.threads)
    config = override.applied(config)
    if parsed.out is None:
        if parsed.model != "boosting":
            raise InvalidSettings("--out: expected the folder of the artefact")
        print(json.dumps(train_boosting(slices_of(parsed), config.boosting, say), indent=1))
        return 0
    work = parsed.work or parsed.out.with_name(f"{parsed.out.name}.work")
    specs = specs_of(path, config, override)
    name = parsed.name or parsed.out.name
    request = TrainRequest(parsed.out, name, parsed.version, config, specs, work)
    if not is_first_process():  # under torchrun: it only helps
        learn(request, slices_of(parsed), lambda _: None)
        return 0
    with track_run(parsed.track, name, config.model_dump(mode="json")) as run:
        artefact = train_model(request, slices_of(parsed), say)
        metrics = artefact.manifest.metrics
        run.log(metrics, artefact.model_hash)
    remove_states(specs, work)
    print(json.dumps(metrics, indent=1, sort_keys=True))
    return 0
