"""From examples to a served artefact: fit, calibrate, choose thresholds, measure, export, write."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fraudstream.artefact import Artefact, write_artefact
from fraudstream.calibration import Calibration, Thresholds
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_NAMES,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.manifest import Manifest, MemberKind, golden_text
from training.calibrate import choose_thresholds, fit_calibration
from training.dataset import Examples, content_hash
from training.evaluation.metrics import Floats, Scored, expected_calibration_error, summarise
from training.explanations import reason_baseline, reason_groups
from training.export import OPSET, choose_golden, export_onnx, golden_rows, member_of
from training.learning.fit import Report, fit_network, raw_scores
from training.learning.plan import FitPlan
from training.models.boosting import boosting_scores, fit_boosting
from training.models.network import SequenceNetwork
from training.models.scaling import NetworkShape
from training.slices import Slices


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to make.

    Attributes:
        out: Folder of the artefact.
        name: Its name.
        version: Rises with every release of the name.
        shape: Sizes of the network.
        plan: How to fit it.
    """

    out: Path
    name: str
    version: int
    shape: NetworkShape
    plan: FitPlan


@dataclass(frozen=True, slots=True)
class Learned:
    """A network with what turns its raw scores into decisions."""

    network: SequenceNetwork
    calibration: Calibration
    thresholds: Thresholds


def train_lstm(request: TrainRequest, slices: Slices, report: Report) -> Artefact:
    """Make the artefact and report its figures beside the baseline's.

    Raises:
        ModelRefused: The export is not the same function, or the artefact would not be served.
    """
    began = time.monotonic()
    learned = _learn(request, slices, report)
    raw = raw_scores(learned.network, slices.test)
    metrics = _measure(learned, slices.test, raw)
    baseline = train_boosting(slices, request.plan, report)
    metrics["boosting_ap"] = baseline["ap"]
    metrics["boosting_auc"] = baseline["auc"]
    golden = choose_golden(slices.test, raw, request.plan.seed)
    onnx = export_onnx(learned.network, golden)
    artefact = write_artefact(
        request.out,
        _manifest(request, slices, learned, golden, (onnx, metrics)),
        {f"{MemberKind.LSTM}.onnx": onnx},
    )
    report(f"wrote {request.out.name}: {len(onnx)} bytes, {time.monotonic() - began:.0f} s")
    return artefact


def train_boosting(slices: Slices, plan: FitPlan, report: Report) -> dict[str, float]:
    """Fit the baseline to the same rows and return its figures on the test slice."""
    model = fit_boosting(slices.whole, plan.seed, plan.threads)
    scored = _scored(boosting_scores(model, slices.test), slices.test)
    figures = summarise(scored)
    report(
        f"boosting: AP {figures['ap']:.4f} AUC {figures['auc']:.4f} CP@100 {figures['cp100']:.3f}"
    )
    return figures


def _learn(request: TrainRequest, slices: Slices, report: Report) -> Learned:
    """Fit and calibrate; where a protocol allows, fit again to the whole range, as long."""
    first = fit_network(slices.fit, slices.stop, request.shape, request.plan, report)
    raw = raw_scores(first.network, slices.tune)
    calibration = fit_calibration(raw, slices.tune.is_fraud)
    thresholds = choose_thresholds(calibration.scores(raw))
    if slices.whole is slices.fit:
        return Learned(first.network, calibration, thresholds)
    report(f"fitting the whole range for {first.epochs} epochs")
    plan = replace(request.plan, epochs=first.epochs)
    final = fit_network(slices.whole, None, request.shape, plan, report)
    return Learned(final.network, calibration, thresholds)


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
    made: tuple[bytes, dict[str, float]],
) -> Manifest:
    onnx, metrics = made
    whole = slices.whole
    return Manifest(
        name=request.name,
        version=request.version,
        created_from=content_hash(whole),
        members=(member_of(MemberKind.LSTM, onnx),),
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
        golden=golden_text(golden_rows(learned.network, golden)),
        metrics=metrics,
    )
