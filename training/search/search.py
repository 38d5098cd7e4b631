"""Search for settings: Optuna over a model's configuration, judged on later rows only.

On the Handbook a trial is the mean AP of the four validation folds, which end before the first
test day; elsewhere the AP of the tune slice. The test slice is never looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import optuna

from fraudstream.errors import InvalidSettings
from training.dataset import Examples, content_hash
from training.learning.lesson import Lesson
from training.metrics import average_precision
from training.train.config import ModelKind, NetworkSection, TrainConfig
from training.train.members import MemberSpec, fit_member
from training.train.slices import Slices

Report = Callable[[str], None]
STUDY: Final = "fraudstream"
_TRIALS_BEFORE_PRUNING: Final = 5


@dataclass(frozen=True, slots=True)
class Judged:
    """One range to learn from, and the later rows that judge.

    Attributes:
        slices: The range: `whole` is learned from.
        later: Who judges.
    """

    slices: Slices
    later: Examples


@dataclass(frozen=True, slots=True)
class Found:
    """The best settings so far.

    Attributes:
        config: The configuration.
        ap: Its mean AP.
        trials: How many were tried in all runs of the study.
    """

    config: TrainConfig
    ap: float
    trials: int


def search(
    base: TrainConfig, judged: Sequence[Judged], trials: int, storage: str, report: Report
) -> Found:
    """Try settings around a configuration; a study of the same rows and settings goes on.

    Args:
        base: What is not searched stays as it is here.
        judged: Ranges with their judges; a trial that falls behind on the first ones is ended.
        trials: How many to try now.
        storage: Optuna's URI of the study.
        report: Told of each trial.

    Raises:
        InvalidSettings: No trial came to its end.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=f"{STUDY}-{base.kind}-{_hash_of(base, judged)}",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=base.fit.seed),
        pruner=optuna.pruners.MedianPruner(_TRIALS_BEFORE_PRUNING),
    )

    def objective(trial: optuna.Trial) -> float:
        config = _suggested(base, trial)
        found: list[float] = []
        for index, each in enumerate(judged):
            found.append(_ap_of(config, each))
            trial.report(float(np.mean(found)), index)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(found))

    def tell(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        ended = f"AP {trial.value:.4f}" if trial.value is not None else "fell behind"
        report(f"trial {trial.number}: {ended} {trial.params}")

    study.optimize(objective, n_trials=trials, callbacks=[tell])
    if not study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
        raise InvalidSettings("--trials: expected one at least that comes to its end, found none")
    best = study.best_trial
    fixed = optuna.trial.FixedTrial(best.params)
    return Found(_suggested(base, fixed), float(best.value or 0.0), len(study.trials))


def _hash_of(base: TrainConfig, judged: Sequence[Judged]) -> str:
    """Return what tells a study from one of other rows or settings: their AP are not comparable."""
    rows = [content_hash(each) for one in judged for each in (one.slices.whole, one.later)]
    return hashlib.sha256(" ".join([toml_of(base), *rows]).encode()).hexdigest()[:16]


def _ap_of(config: TrainConfig, judged: Judged) -> float:
    lesson = Lesson(judged.slices.whole, past=judged.slices.past)
    member = fit_member(MemberSpec(config.kind.value, config), lesson, lambda _: None)
    return average_precision(member.raw_scores(judged.later), judged.later.is_fraud)


def _suggested(base: TrainConfig, trial: optuna.trial.BaseTrial) -> TrainConfig:
    if base.kind is ModelKind.BOOSTING:
        return base.model_copy(update={"boosting": _boosting(base, trial)})
    network = NetworkSection(
        hidden=trial.suggest_categorical("hidden", [64, 96, 128]),
        layers=trial.suggest_int("layers", 1, 3),
        heads=base.network.heads,
        dropout=trial.suggest_float("dropout", 0.0, 0.5),
    )
    fit = replace(
        base.fit,
        learning_rate=trial.suggest_float("learning_rate", 5e-4, 5e-3, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-3, 0.1, log=True),
        genuine_share=trial.suggest_float("genuine_share", 0.1, 1.0, log=True),
        cut_share=trial.suggest_float("cut_share", 0.0, 1.0),
    )
    return base.model_copy(update={"network": network, "fit": fit})


def _boosting(base: TrainConfig, trial: optuna.trial.BaseTrial) -> object:
    return replace(
        base.boosting,
        trees=trial.suggest_int("trees", 50, 400, log=True),
        depth=trial.suggest_int("depth", 2, 6),
        learning_rate=trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
        rows_share=trial.suggest_float("rows_share", 0.5, 1.0),
        columns_share=trial.suggest_float("columns_share", 0.3, 1.0),
        least_weight=trial.suggest_float("least_weight", 1.0, 10.0, log=True),
    )


def toml_of(config: TrainConfig) -> str:
    """Return a configuration as its file."""
    lines = [f'kind = "{config.kind}"']
    is_network = config.kind is not ModelKind.BOOSTING
    sections = {"network": config.network.model_dump(), "fit": _fields(config.fit)}
    if config.pretrain is not None:
        sections["pretrain"] = _fields(config.pretrain)
    if not is_network:
        sections = {"boosting": _fields(config.boosting)}
    sections["thresholds"] = config.thresholds.model_dump(mode="json")
    for name, values in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {value!r}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _fields(plan: object) -> dict[str, object]:
    """Return what decides a plan's result; how many threads does not."""
    named = {name: getattr(plan, name) for name in plan.__dataclass_fields__}  # type: ignore[attr-defined]  # plans are dataclasses
    return {name: value for name, value in named.items() if name != "threads"}
