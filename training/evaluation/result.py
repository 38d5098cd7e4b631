"""What an evaluation found, as one value: the tables' figures, the checks, and how it was made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.evaluation.figures.all_figures import ModelFigures
from training.evaluation.figures.cost import CostModel
from training.evaluation.leakage import Check
from training.offline.labelled import LabelCounts

_HEADLINE = ("ap", "auc", "cp100", "card_recall100")


@dataclass(frozen=True, slots=True)
class FoldSize:
    """What one fold learned from and was tested on."""

    fold: str
    learned_rows: int
    learned_frauds: int
    rows: int
    frauds: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run of a protocol, measured.

    Attributes:
        protocol: `handbook` or `platform`.
        which: `test` or `validation` folds.
        material: What was read, for people.
        fingerprint: SHA-256 of it, hexadecimal.
        labels: How many of its rows are labelled how; None where all are.
        feature_set_hash: Of the catalogue.
        folds: Their sizes.
        settings: Of each model, for people.
        configs: Where they are from.
        made: How the evaluation was made: command, versions and so on, by name.
        costs: What mistakes cost.
        rounds: Draws of the bootstrap.
        models: Figures, in the order of the tables.
        checks: The leakage checklist.
    """

    protocol: str
    which: str
    material: str
    fingerprint: str
    labels: LabelCounts | None
    feature_set_hash: str
    folds: Sequence[FoldSize]
    settings: Mapping[str, Mapping[str, object]]
    configs: str
    made: Mapping[str, str]
    costs: CostModel
    rounds: int
    models: Sequence[ModelFigures]
    checks: Sequence[Check]

    def model(self, name: str) -> ModelFigures:
        """Return the figures of one model."""
        return next(model for model in self.models if model.name == name)

    def text(self) -> str:
        """Return the result as JSON: headline figures first under each model's name."""
        content = asdict(self)
        content["models"] = {model.name: _by_name(model) for model in self.models}
        return json.dumps(_without_infinities(content), indent=1) + "\n"


def _by_name(model: ModelFigures) -> dict[str, object]:
    headline = {name: round(model.mean(name), 6) for name in _HEADLINE}
    spread = {f"{name}_std": round(model.std(name), 6) for name in _HEADLINE}
    pooled = {"ece": model.after.ece, "brier_skill": model.after.brier_skill}
    rest = asdict(model)
    return {**headline, **spread, **pooled, **{k: v for k, v in rest.items() if k not in headline}}


def _without_infinities(value: object) -> object:
    """Return JSON without NaN and infinity, which JSON does not have: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_infinities(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(each) for each in value]
    return value


def write_text(path: Path, text: str) -> None:
    """Write a file whole, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
