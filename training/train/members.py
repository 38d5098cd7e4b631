"""Members of a model: each learns from the same rows, and their log-odds are added by weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xgboost

from fraudstream.engines.members import Formula
from fraudstream.models.manifest import MemberKind
from training.dataset import Examples
from training.learning.checkpoint import remove_empty, remove_state
from training.learning.fit import fit_network, raw_scores
from training.learning.lesson import Lesson
from training.learning.pretrain import pretrain
from training.metrics import Floats
from training.models.boosting import FIRST_CODE, boosting_scores, fit_boosting
from training.models.network import SequenceNetwork
from training.train.config import ModelKind, Override, TrainConfig, load_members
from training.train.export import export_onnx
from training.train.export_trees import export_trees
from training.train.slices import Slices

Report = Callable[[str], None]
# Raw scores of a larger model, float64 [N], for rows that a smaller one learns from.
Teacher = Callable[[Examples], Floats]
# The fits of a member, and the folders of their states.
_FIT, _WHOLE, _SERVED = "fit", "whole", "served"


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """What a member is made of.

    Attributes:
        name: Its own among the members.
        config: How it learns.
        weight: How far its log-odds count; 1 where it is alone.
    """

    name: str
    config: TrainConfig
    weight: float = 1.0


def specs_of(path: Path, config: TrainConfig, override: Override) -> list[MemberSpec]:
    """Return the members of a model, one for all but an ensemble.

    Args:
        path: The model's file; those of members lie beside it.
        config: What it says.
        override: What the command line says otherwise.

    Raises:
        InvalidSettings: A member's file is missing or invalid.
    """
    if config.kind is not ModelKind.ENSEMBLE:
        return [MemberSpec(config.kind.value, config)]
    return [
        MemberSpec(name, override.applied(own), weight)
        for name, own, weight in load_members(path, config)
    ]


def formula_of(specs: Sequence[MemberSpec]) -> Formula:
    """Return how the members become one score."""
    return Formula(tuple(spec.weight for spec in specs), 0.0)


@dataclass(frozen=True, slots=True)
class TrainedMember:
    """A member that has learned.

    Attributes:
        spec: What it was made of.
        model: The network or the trees.
        epochs: That gave the best AP on the later slice; 0 for trees.
    """

    spec: MemberSpec
    model: SequenceNetwork | xgboost.XGBClassifier
    epochs: int = 0

    @property
    def kind(self) -> MemberKind:
        """Return what it is, in the manifest's words."""
        return MemberKind(self.spec.config.kind.value)

    def raw_scores(self, examples: Examples) -> Floats:
        """Return the raw score of each example, float64 [N]."""
        if isinstance(self.model, SequenceNetwork):
            return raw_scores(self.model, examples)
        return boosting_scores(self.model, examples)

    def onnx(self, examples: Examples) -> bytes:
        """Return it as one ONNX file, checked on the examples.

        Raises:
            ModelRefused: ONNX Runtime computes something else.
        """
        if isinstance(self.model, SequenceNetwork):
            return export_onnx(self.model, examples)
        return export_trees(self.model, FIRST_CODE, examples, self.raw_scores(examples))


def fit_member(spec: MemberSpec, lesson: Lesson, report: Report) -> TrainedMember:
    """Fit one member.

    Raises:
        InvalidSettings: The folder holds the state of another fit.
    """
    config, rows = spec.config, len(lesson.train)
    if config.kind is ModelKind.BOOSTING:
        report(f"fitting {spec.name}: {rows} rows")
        return TrainedMember(spec, fit_boosting(lesson.train, config.boosting))
    shape = config.shape(lesson.train.vectors.shape[1])
    report(f"fitting {spec.name}: {rows} rows, {config.fit.epochs} epochs at most")

    def prepare(network: SequenceNetwork) -> None:
        if config.pretrain is not None:
            past = lesson.past if lesson.past is not None and len(lesson.past) else lesson.train
            pretrain(network, past, config.pretrain, config.fit, report)

    fitted = fit_network(lesson, shape, config.fit, report, prepare)
    return TrainedMember(spec, fitted.network, fitted.epochs)


def fit_and_refit(
    spec: MemberSpec,
    slices: Slices,
    report: Report,
    folder: Path | None = None,
    teacher: Teacher | None = None,
) -> tuple[TrainedMember, TrainedMember]:
    """Fit to `fit`, stopped by `stop`; then as long to `whole`, where that is another range.

    Args:
        spec: What to fit.
        slices: Where to.
        report: Told how it goes.
        folder: Where fits keep their state; None for nowhere.
        teacher: Whom a network listens to beside the labels; None for labels alone.

    Returns:
        Who scores `tune`, which it did not learn from, and who is measured.
    """

    def learn(of: MemberSpec, name: str) -> TrainedMember:
        train, later = (slices.fit, slices.stop) if name == _FIT else (slices.whole, None)
        taught = teacher(train) if teacher is not None else None
        kept = folder / name if folder is not None else None
        return fit_member(of, Lesson(train, later, slices.past, taught, kept), report)

    first = learn(spec, _FIT)
    if slices.whole is slices.fit:
        return first, first
    return first, learn(_as_long(spec, first.epochs), _WHOLE)


def fit_to_serve(
    member: TrainedMember,
    lesson: Lesson,
    report: Report,
) -> TrainedMember:
    """Fit a member again, by the same settings and as long, to the rows of the lesson."""
    kept = lesson.folder / _SERVED if lesson.folder is not None else None
    return fit_member(_as_long(member.spec, member.epochs), replace(lesson, folder=kept), report)


def _as_long(spec: MemberSpec, epochs: int) -> MemberSpec:
    if not epochs:
        return spec
    fit = replace(spec.config.fit, epochs=epochs)
    return replace(spec, config=spec.config.model_copy(update={"fit": fit}))


def remove_states(specs: Sequence[MemberSpec], work: Path) -> None:
    """Remove the states of members that have learned; whatever else lies in the folder stays."""
    for spec in specs:
        for name in (_FIT, _WHOLE, _SERVED):
            remove_state(work / spec.name / name)
        remove_empty(work / spec.name)
    remove_empty(work)
