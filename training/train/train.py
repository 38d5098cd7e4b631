"""From examples to a served artefact: fit, calibrate, choose thresholds, measure, export, write."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fraudstream.engines.golden import GoldenRows
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_NAMES,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.models.artefact import Artefact, write_artefact
from fraudstream.models.calibration import Calibration, Thresholds
from fraudstream.models.manifest import Manifest, MemberKind, golden_text
from training.dataset import Examples, content_hash
from training.learning.lesson import Lesson
from training.metrics import Floats, Scored, expected_calibration_error, summarise
from training.models.boosting import BoostingPlan, boosting_scores, fit_boosting
from training.models.onnx_file import OPSET
from training.train.config import TrainConfig
from training.train.explanations import reason_baseline, reason_groups
from training.train.export import choose_golden, member_of
from training.train.fit_calibration import choose_thresholds, fit_calibration
from training.train.members import (
    MemberSpec,
    Report,
    Teacher,
    TrainedMember,
    fit_and_refit,
    fit_to_serve,
    formula_of,
)
from training.train.origin import Origin, provenance_of
from training.train.slices import Slices


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to make.

    Attributes:
        out: Folder of the artefact.
        name: Its name.
        version: Rises with every release of the name.
        config: How it learns.
        specs: Its members.
        work: Where fits keep their state; None for nowhere.
        teacher: Whom networks listen to beside the labels; None for labels alone.
        origin: Where the rows come from; None to leave it out of the manifest.
    """

    out: Path
    name: str
    version: int
    config: TrainConfig
    specs: Sequence[MemberSpec]
    work: Path | None = None
    teacher: Teacher | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """Members with what turns their raw scores into decisions."""

    members: Sequence[TrainedMember]
    calibration: Calibration
    thresholds: Thresholds

    def raw_scores(self, examples: Examples) -> Floats:
        """Return the model's raw score of each example, float64 [N]."""
        return combined(self.members, examples)


def combined(members: Sequence[TrainedMember], examples: Examples) -> Floats:
    """Return the raw scores of members by their formula, float64 [N]."""
    formula = formula_of([member.spec for member in members])
    return formula.combine([member.raw_scores(examples) for member in members]).astype(np.float64)


def train_model(request: TrainRequest, slices: Slices, report: Report) -> Artefact:
    """Make the artefact and report its figures beside the baseline's.

    Raises:
        ModelRefused: An export is not the same function, or the artefact would not be served.
        InvalidSettings: The folder of states holds another fit's.
    """
    began = time.monotonic()
    measured = learn(request, slices, report)
    raw = measured.raw_scores(slices.test)
    metrics = _measure(measured, slices.test, raw)
    baseline = _baseline(measured, request, slices, report)
    metrics["boosting_ap"] = round(baseline["ap"], 6)
    metrics["boosting_auc"] = round(baseline["auc"], 6)
    learned = to_serve(request, slices, measured, report)
    golden = choose_golden(slices.test, raw, request.config.fit.seed)
    graphs = {member.spec.name: member.onnx(golden) for member in learned.members}
    manifest = _manifest(request, slices, learned, golden, (graphs, metrics))
    files = {f"{name}.onnx": graph for name, graph in graphs.items()}
    artefact = write_artefact(request.out, manifest, files)
    size = sum(map(len, graphs.values()))
    report(f"wrote {request.out.name}: {size} bytes, {time.monotonic() - began:.0f} s")
    return artefact


def train_boosting(slices: Slices, plan: BoostingPlan, report: Report) -> dict[str, float]:
    """Fit the baseline to the same rows and return its figures on the test slice."""
    model = fit_boosting(slices.whole, plan)
    return _shown(boosting_scores(model, slices.test), slices.test, report)


def _baseline(
    learned: Learned, request: TrainRequest, slices: Slices, report: Report
) -> dict[str, float]:
    """Return the baseline's figures; a member that has just learned the same is asked instead."""
    plan = request.config.boosting
    for member in learned.members:
        if member.kind is MemberKind.BOOSTING and member.spec.config.boosting == plan:
            return _shown(member.raw_scores(slices.test), slices.test, report)
    return train_boosting(slices, plan, report)


def _shown(score: Floats, test: Examples, report: Report) -> dict[str, float]:
    figures = summarise(_scored(score, test))
    report(
        f"boosting: AP {figures['ap']:.4f} AUC {figures['auc']:.4f} CP@100 {figures['cp100']:.3f}"
    )
    return figures


def learn(request: TrainRequest, slices: Slices, report: Report) -> Learned:
    """Fit every member, and calibrate what they say together.

    Raises:
        InvalidSettings: The folder of states holds another fit's.
    """
    pairs = [
        fit_and_refit(
            spec, slices, report, request.work and request.work / spec.name, request.teacher
        )
        for spec in request.specs
    ]
    raw = combined([first for first, _ in pairs], slices.tune)
    calibration = fit_calibration(raw, slices.tune.is_fraud)
    thresholds = choose_thresholds(calibration.scores(raw), request.config.thresholds)
    return Learned([measured for _, measured in pairs], calibration, thresholds)


def to_serve(request: TrainRequest, slices: Slices, measured: Learned, report: Report) -> Learned:
    """Return what is served: the measured model, or the same fitted to all labelled rows.

    Its calibration and thresholds are those of the measured model on the test slice, which that
    has not learned from: what was measured, one slice later.
    """
    if slices.served is None:
        return measured
    members = []
    for member in measured.members:
        report(f"{member.spec.name}: fitted to all {len(slices.served):,} rows, to be served")
        taught = request.teacher(slices.served) if request.teacher is not None else None
        folder = request.work and request.work / member.spec.name
        lesson = Lesson(slices.served, None, slices.past, taught, folder)
        members.append(fit_to_serve(member, lesson, report))
    raw = measured.raw_scores(slices.test)
    calibration = fit_calibration(raw, slices.test.is_fraud)
    thresholds = choose_thresholds(calibration.scores(raw), request.config.thresholds)
    return Learned(members, calibration, thresholds)


def _measure(learned: Learned, test: Examples, raw: Floats) -> dict[str, float]:
    """Return the figures of the calibrated scores, and how calibrated the raw ones were."""
    score = learned.calibration.scores(raw)
    figures = summarise(_scored(score, test))
    figures["ece_before"] = expected_calibration_error(raw, test.is_fraud)
    for action in ("challenge", "review", "decline"):
        reached = score >= getattr(learned.thresholds, action)
        figures[f"{action}_share"] = float(np.mean(reached))
        figures[f"{action}_precision"] = (
            float(test.is_fraud[reached].mean()) if reached.any() else 0.0
        )
    return {name: round(value, 6) for name, value in figures.items() if np.isfinite(value)}


def _scored(score: Floats, examples: Examples) -> Scored:
    return Scored(score, examples.is_fraud, examples.event_time_ms, examples.card)


def _manifest(
    request: TrainRequest,
    slices: Slices,
    learned: Learned,
    golden: Examples,
    made: tuple[Mapping[str, bytes], dict[str, float]],
) -> Manifest:
    graphs, metrics = made
    whole, origin = slices.whole if slices.served is None else slices.served, request.origin
    expected = learned.raw_scores(golden).astype(np.float32)
    return Manifest(
        name=request.name,
        version=request.version,
        created_from=content_hash(whole),
        members=tuple(
            member_of(
                member.spec.name,
                member.kind,
                graphs[member.spec.name],
                weight=member.spec.weight,
            )
            for member in learned.members
        ),
        bias=0.0,
        feature_hashes=tuple(f"{number:016x}" for number in FEATURE_HASHES),
        feature_names=FEATURE_NAMES,
        sequence_hash=SEQUENCE_HASH,
        sequence_length=SEQUENCE_LENGTH,
        sequence_channels=SEQUENCE_CHANNELS,
        opset=OPSET,
        calibration=learned.calibration,
        thresholds=learned.thresholds,
        reason_baseline=reason_baseline(whole.vectors, whole.sequences),
        reason_groups=reason_groups(),
        golden=golden_text(GoldenRows(golden.vectors, golden.sequences, expected)),
        metrics=metrics,
        reference_currency=origin.reference_currency if origin else None,
        provenance=provenance_of(origin, slices) if origin else None,
    )
