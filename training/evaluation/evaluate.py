"""Evaluate by a protocol: from what is read to figures and checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import FEATURE_SET_HASH
from fraudstream.models.artefact import read_artefact
from training.evaluation.figures.bootstrap import Draws
from training.evaluation.folds import (
    PlatformPlan,
    TestedFold,
    check_fold,
    cut_handbook,
    cut_platform,
    handbook_begin_ms,
    handbook_folds,
    platform_starts,
)
from training.evaluation.kept_scores import KeptScores
from training.evaluation.leakage import Check, check_ceiling, run_checklist
from training.evaluation.material import (
    Material,
    dataset_material,
    handbook_material,
    simulator_material,
)
from training.evaluation.measure import Measures, measure_model
from training.evaluation.result import Evaluation, FoldSize
from training.evaluation.run import Entry, Run, run_folds
from training.evaluation.trainers import BOOSTING, Report
from training.offline.labelled import Unlabelled
from training.offline.load import describe_set, is_dataset, load_labels
from training.simulator.simulate import SimulationSettings
from training.train.config import CONFIGS
from training.train.origin import describe_artefact, loaded_versions

HANDBOOK, PLATFORM = "handbook", "platform"
_HANDBOOK_DELAY_DAYS = 7
_LAST_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class Request:
    """What to evaluate.

    Attributes:
        protocol: `handbook` or `platform`.
        which: `test` or `validation` folds.
        source: The Handbook's file, a training set's folder, or what to simulate.
        plan: How the platform protocol cuts.
        entry: The models.
        draws: Of the bootstrap.
        work: Where scores are kept; None for nowhere.
        unlabelled: What rows of a training set that nobody labelled count as; None for what it
            says.
        configs: Where the settings of the models are.
        command: Command line.
        artefact: Folder of the artefact that card and report are for; None for none.
    """

    protocol: str
    which: str
    source: Path | SimulationSettings
    plan: PlatformPlan
    entry: Entry
    draws: Draws
    work: Path | None
    unlabelled: Unlabelled | None = None
    configs: Path = CONFIGS
    command: str = ""
    artefact: Path | None = None


def evaluate(request: Request, report: Report) -> tuple[Evaluation, Run]:
    """Run the protocol and measure every model.

    Raises:
        InvalidSettings: What is read is not as expected, or too short for the folds.
    """
    material = _read(request)
    report(f"{material.name}: {len(material.examples):,} rows with their features")
    if material.labels is not None:
        report(f"{material.name}: {material.labels.text()}")
    kept = KeptScores(request.work) if request.work else None
    checks: list[Check] = []

    def checked(folds: Iterator[TestedFold]) -> Iterator[TestedFold]:
        """Run the checklist on the first fold, while its slices are in memory."""
        for fold in folds:
            check_fold(material, fold)
            if not checks and fold.slices.test.is_fraud.any():
                checks.extend(_checklist(request, material, fold, report))
            yield fold

    run = run_folds(material, checked(_cut(request, material)), request.entry, kept, report)
    measures = Measures(request.entry.costs, request.draws, BOOSTING)
    models = []
    for name in request.entry.names:
        report(f"measuring {name}")
        models.append(measure_model(run, name, measures))
    if request.protocol == HANDBOOK and request.which == "test":
        checks.append(check_ceiling({model.name: model.mean("ap") for model in models}))
    return (
        Evaluation(
            protocol=request.protocol,
            which=request.which,
            material=material.name,
            fingerprint=material.fingerprint,
            labels=material.labels,
            feature_set_hash=FEATURE_SET_HASH,
            folds=_sizes(run),
            settings=_settings(request.entry),
            configs=str(request.configs),
            made=_made(request),
            costs=request.entry.costs,
            rounds=request.draws.rounds,
            models=models,
            checks=checks,
        ),
        run,
    )


def _read(request: Request) -> Material:
    steps = max(trainer.steps for trainer in request.entry.trainers)
    if isinstance(request.source, SimulationSettings):
        return simulator_material(request.source, steps)
    if is_dataset(request.source):
        if request.protocol == HANDBOOK and describe_set(request.source).format != HANDBOOK:
            msg = f"{request.source}: expected the Handbook's rows, found another set"
            raise InvalidSettings(f"{msg}; --protocol platform measures on it")
        delay_days = request.plan.delay_days
        return dataset_material(
            request.source, load_labels(request.source, request.unlabelled, delay_days)
        )
    if request.protocol == PLATFORM:
        return handbook_material(request.source, 0, _LAST_MS, steps)
    folds = handbook_folds(request.which)
    span = handbook_begin_ms(folds[0]), folds[-1].test_until_ms
    return handbook_material(request.source, *span, steps)


def _cut(request: Request, material: Material) -> Iterator[TestedFold]:
    if request.protocol == HANDBOOK:
        return cut_handbook(material, handbook_folds(request.which))
    starts = platform_starts(material, request.plan, request.which)
    return cut_platform(material, request.plan, starts)


def _checklist(
    request: Request, material: Material, fold: TestedFold, report: Report
) -> list[Check]:
    is_book = request.protocol == HANDBOOK
    delay_days = _HANDBOOK_DELAY_DAYS if is_book else request.plan.delay_days
    trainers = {trainer.name: trainer for trainer in request.entry.trainers}
    trainer = trainers.get(BOOSTING, request.entry.trainers[-1])
    return run_checklist(material, fold.slices, trainer, delay_days, report)


def _sizes(run: Run) -> list[FoldSize]:
    return [
        FoldSize(
            fold=tested.fold,
            learned_rows=tested.learned[0],
            learned_frauds=tested.learned[1],
            rows=len(tested.outcomes),
            frauds=int(tested.outcomes.is_fraud.sum()),
        )
        for tested in run.tested
    ]


def _made(request: Request) -> dict[str, str]:
    """Return how the evaluation was made, for people."""
    plan = request.plan
    found = {
        **({} if request.artefact is None else describe_artefact(read_artefact(request.artefact))),
        "Command": request.command,
        "Versions": ", ".join(f"{name} {found}" for name, found in loaded_versions().items()),
    }
    if request.protocol == PLATFORM:
        found["Label delay"] = f"{plan.delay_days} days before each test are not learned from"
        found["Warm-up"] = f"{plan.warm_days} first days are not learned from"
    return found


def _settings(entry: Entry) -> dict[str, dict[str, object]]:
    found = {trainer.name: dict(trainer.settings) for trainer in entry.trainers}
    for each in entry.ensembles:
        found[each.name] = dict(zip(each.members, each.formula.weights, strict=True))
    return found
