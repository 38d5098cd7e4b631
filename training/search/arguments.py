"""`python -m training search`: settings by Optuna, kept on this machine."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fraudstream.errors import InvalidSettings
from fraudstream.runtime.usage_parser import count
from training.dataset import examples_between
from training.evaluation.folds import handbook_folds
from training.offline.load import is_dataset
from training.simulator.histories import DAY_MS, handbook_history
from training.train.arguments import (
    SIMULATOR,
    add_model,
    add_source,
    file_to_write,
    is_own_set,
    rows_of,
    say,
)
from training.train.slices import PAST_DAYS, fold_slices

if TYPE_CHECKING:
    from training.search.search import Judged

_LOCAL_STUDIES: Final = Path("var/optuna.db")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Search for a model's settings. On the Handbook's file trials are judged on its four"
        " validation folds, elsewhere on the tune slice; test rows are never looked at."
    )
    add_model(parser)
    add_source(parser)
    parser.add_argument("--trials", type=count, default=20)
    parser.add_argument(
        "--storage", help="Optuna's URI of studies; var/optuna.db by default; a study goes on"
    )
    parser.add_argument(
        "--out", type=file_to_write, required=True, help="TOML file of the best settings"
    )
    parser.set_defaults(run=_search)


def _search(parsed: argparse.Namespace) -> int:
    from training.search.search import Judged, search, toml_of
    from training.train.config import Override, named_config

    if parsed.model == "ensemble":
        raise InvalidSettings("--model: search for the members of an ensemble one by one")
    _, config = named_config(parsed.model, parsed.config)
    config = Override(parsed.seed, parsed.epochs, parsed.threads, is_own_set(parsed)).applied(
        config
    )
    if parsed.source != SIMULATOR and not is_dataset(Path(parsed.source)):
        judged = _validation_folds(Path(parsed.source))
    else:
        slices = rows_of(parsed).slices
        judged = [Judged(replace(slices, whole=slices.fit), slices.tune)]
    storage = parsed.storage
    if storage is None:
        _LOCAL_STUDIES.parent.mkdir(parents=True, exist_ok=True)
        storage = f"sqlite:///{_LOCAL_STUDIES}"
    found = search(config, judged, parsed.trials, storage, say)
    parsed.out.write_text(toml_of(found.config))
    print(json.dumps({"ap": round(found.ap, 4), "trials": found.trials}))
    return 0


def _validation_folds(path: Path) -> list[Judged]:
    """Return the Handbook's folds that end before the first test day."""
    from training.search.search import Judged

    folds = handbook_folds("validation")
    from_ms = folds[0].train_from_ms - PAST_DAYS * DAY_MS
    kept = examples_between(handbook_history(path), from_ms, folds[-1].test_until_ms)
    cut = [
        fold_slices(kept.between(fold.train_from_ms - PAST_DAYS * DAY_MS, fold.test_until_ms), fold)
        for fold in folds
    ]
    return [Judged(slices, slices.test) for slices in cut]
