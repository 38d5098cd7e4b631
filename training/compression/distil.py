"""A smaller network that learns from a larger model's scores beside the labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fraudstream.engines.protocol import score_rows
from fraudstream.models.artefact import Artefact, read_artefact
from fraudstream.models.open_engine import open_engine
from training.compression.comparison import Comparison, compare
from training.dataset import Examples
from training.metrics import Floats, average_precision
from training.train.members import Report, Teacher
from training.train.slices import Slices
from training.train.train import TrainRequest, learn, train_model


def teacher_of(artefact: Artefact) -> Teacher:
    """Return the raw scores of an artefact, float64 [N], for rows that a student learns from."""
    engine = open_engine(artefact)

    def teach(examples: Examples) -> Floats:
        return score_rows(engine, examples.vectors, examples.sequences).astype(np.float64)

    return teach


def distil(
    teacher: Path, request: TrainRequest, slices: Slices, report: Report
) -> tuple[Artefact, Comparison, float]:
    """Make a student's artefact and measure it beside its teacher.

    Args:
        teacher: Folder of the larger artefact.
        request: What the student is; where it goes.
        slices: The rows.
        report: Told how it goes.

    Returns:
        The student, both on the test slice, and the AP there of the same student from labels
        alone.

    Raises:
        ModelRefused: The teacher is not fit to serve, or the student would not be.
    """
    taught_by = read_artefact(teacher)
    report("the student from labels alone")
    alone = learn(replace(request, work=None), slices, report)
    ap_alone = average_precision(alone.raw_scores(slices.test), slices.test.is_fraud)
    report(f"the student of {taught_by.manifest.name}")
    student = train_model(replace(request, teacher=teacher_of(taught_by)), slices, report)
    forms = {"teacher": taught_by, "student": student}
    return student, compare(forms, slices.test), ap_alone
