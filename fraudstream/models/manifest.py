"""The manifest of a model artefact: what a model is, needs and promises.

Axes: N golden rows, F the model's features, T sequence length, C channels.
"""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.members import Formula
from fraudstream.engines.protocol import Precision
from fraudstream.models.calibration import Calibration, Thresholds

MAX_OPSET: Final = 22  # the last without operators that TensorRT cannot build
MAX_LISTED: Final = 4_096
MAX_MEMBERS: Final = 8

# Baselines of sequence channels stand beside those of features, under this prefix.
CHANNEL_PREFIX: Final = "sequence."

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class MemberKind(StrEnum):
    """What a member's graph is; it decides which operators may stand in it."""

    LSTM = "lstm"
    TRANSFORMER = "transformer"
    BOOSTING = "boosting"


class Member(BaseModel):
    """One graph of a model.

    Attributes:
        name: Unlike the others'.
        kind: What it is.
        file: ONNX file in the artefact's folder.
        sha256: Of the file, hexadecimal.
        precision: Of weights and sums.
        weight: Of its log-odds in the model's.
    """

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    kind: MemberKind
    file: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    precision: Precision
    weight: float


class ReasonGroup(BaseModel):
    """What is put back to normal together when a decision is explained.

    Attributes:
        code: Stable code, for machines.
        text: The same in words.
        features: Names of features.
        channels: Names of sequence channels.
    """

    model_config = _STRICT

    code: str = Field(pattern=r"^R[0-9]{2}$")
    text: str = Field(min_length=1, max_length=200)
    features: tuple[str, ...] = Field(max_length=MAX_LISTED)
    channels: tuple[str, ...] = Field(max_length=MAX_LISTED)


class GoldenText(BaseModel):
    """Golden rows as JSON carries them: little-endian float32 in base64."""

    model_config = _STRICT

    vectors_b64: str
    sequences_b64: str
    raw_scores: tuple[float, ...] = Field(min_length=1, max_length=MAX_LISTED)


class UsedRows(BaseModel):
    """Rows that something was fitted to or measured on.

    Attributes:
        first_ms: Event time of the first, epoch milliseconds.
        last_ms: Of the last.
        rows: How many.
        frauds: Among them.
    """

    model_config = _STRICT

    first_ms: int = Field(ge=0)
    last_ms: int = Field(ge=0)
    rows: int = Field(ge=1)
    frauds: int = Field(ge=0)


class Provenance(BaseModel):
    """How a model was made; for people.

    Attributes:
        source: What was read.
        command: Command line that made it.
        settings: File of its settings.
        versions: Of this software and of the libraries that decide the weights.
        labels: How many rows of the source are labelled how; empty where all are.
        fitted: What the weights were fitted to.
        calibrated: What calibration and thresholds were chosen on, by weights that had not learned
            from it.
        measured: What the metrics are of.
        measured_fit: What the weights were fitted to that the metrics are of; others than the
            served ones where those were fitted again to more rows.
    """

    model_config = _STRICT

    source: str = Field(max_length=1_000)
    command: str = Field(max_length=8_000)
    settings: str = Field(max_length=1_000)
    versions: dict[str, str] = Field(max_length=64)
    labels: str = Field(max_length=1_000)
    fitted: UsedRows
    calibrated: UsedRows
    measured: UsedRows
    measured_fit: UsedRows


class Manifest(BaseModel):
    """What a model is, needs and promises.

    Attributes:
        name: Name of the model.
        version: Rises with every release of a name.
        created_from: SHA-256 of what it learned from, hexadecimal.
        members: Its graphs; the same features and sequence go into each.
        bias: Added to the weighted log-odds of the members.
        feature_hashes: What its vector holds, in order, 16 hexadecimal digits each.
        feature_names: The same for people.
        sequence_hash: Layout of the sequence that it reads.
        sequence_length: T.
        sequence_channels: Names of C channels.
        opset: ONNX operator set.
        calibration: Raw score to probability.
        thresholds: Where the action changes.
        reason_baseline: Usual value of each feature, and of each `sequence.` channel.
        reason_groups: How decisions are explained.
        golden: Rows with known raw scores.
        metrics: What was measured when it was trained; for people.
        reference_currency: ISO 4217 code of the amounts that it learned from; None where an
            artefact does not say.
        provenance: How it was made; None where an artefact does not say.
    """

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    version: int = Field(ge=1)
    created_from: str = Field(pattern=r"^[0-9a-f]{64}$")
    members: tuple[Member, ...] = Field(min_length=1, max_length=MAX_MEMBERS)
    bias: float
    feature_hashes: tuple[str, ...] = Field(min_length=1, max_length=MAX_LISTED)
    feature_names: tuple[str, ...] = Field(min_length=1, max_length=MAX_LISTED)
    sequence_hash: str
    sequence_length: int
    sequence_channels: tuple[str, ...]
    opset: int = Field(ge=13, le=MAX_OPSET)
    calibration: Calibration
    thresholds: Thresholds
    reason_baseline: dict[str, float]
    reason_groups: tuple[ReasonGroup, ...] = Field(max_length=MAX_LISTED)
    golden: GoldenText
    metrics: dict[str, float]
    reference_currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _members_differ(self) -> Self:
        names = {member.name for member in self.members}
        files = {member.file for member in self.members}
        if not len(names) == len(files) == len(self.members):
            msg = "expected each member with a name and a file of its own"
            raise ValueError(msg)
        return self

    @property
    def formula(self) -> Formula:
        """How the members' raw scores become the model's."""
        return Formula(tuple(member.weight for member in self.members), self.bias)

    @property
    def precision(self) -> Precision:
        """The coarsest of the members': what the golden rows are held to."""
        return max((member.precision for member in self.members), key=list(Precision).index)

    def is_alert(self, raw_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Return which raw scores reach the review threshold once calibrated."""
        return np.asarray(self.calibration.scores(raw_scores) >= self.thresholds.review)


def golden_text(rows: GoldenRows) -> GoldenText:
    """Return golden rows as JSON carries them.

    >>> row = GoldenRows(np.ones((1, 1)), np.ones((1, 1, 1)), np.array([0.5]))
    >>> golden_text(row).vectors_b64
    'AACAPw=='
    """
    return GoldenText(
        vectors_b64=base64.b64encode(rows.vectors.astype("<f4").tobytes()).decode(),
        sequences_b64=base64.b64encode(rows.sequences.astype("<f4").tobytes()).decode(),
        raw_scores=tuple(float(score) for score in rows.raw_scores),
    )
