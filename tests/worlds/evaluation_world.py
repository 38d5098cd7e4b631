"""A small simulated history and quick trainers, for tests of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import ModuleType

import numpy as np

from training.dataset import Examples
from training.evaluation.folds import PlatformPlan, TestedFold, cut_platform, platform_starts
from training.evaluation.material import Material, simulator_material
from training.evaluation.registry import ConfiguredTrainer
from training.evaluation.trainers import FoldTask, RawScores, Scorer, score_by_two_fits
from training.metrics import Floats
from training.simulator.simulate import SimulationSettings
from training.train.config import CONFIGS, load_config
from training.train.members import MemberSpec

SETTINGS = SimulationSettings(seed=3, cards=150, days=56, fraud_share=0.02)
PLAN = PlatformPlan(folds=4, test_days=7, delay_days=7, warm_days=10)


BOOSTING = ConfiguredTrainer(MemberSpec("boosting", load_config(CONFIGS / "boosting.toml")))


def silent(line: str) -> None:
    """Take a report and say nothing."""


@cache
def material() -> Material:
    """Return the history, replayed once for all tests of a process."""
    return simulator_material(SETTINGS, steps=1)


@cache
def folds() -> list[TestedFold]:
    """Return its four folds by the platform protocol."""
    return list(cut_platform(material(), PLAN, platform_starts(material(), PLAN, "test")))


@dataclass
class CountingTrainer:
    """Ranks by one column of the vector, and counts how often it is asked to learn."""

    column: int = 0
    name: str = "one column"
    steps: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)
    modules: tuple[ModuleType, ...] = ()
    learned: int = 0

    def scores(self, task: FoldTask) -> RawScores:
        """Return scores by the column."""
        self.learned += 1
        return score_by_two_fits(lambda _: self._scores, task.slices)

    def _scores(self, examples: Examples) -> Floats:
        known = np.nan_to_num(examples.vectors[:, self.column].astype(np.float64))
        return np.asarray(1 / (1 + np.exp(-0.01 * known)))


@dataclass
class MemoryTrainer:
    """Says of each row what it learned of just that row: the purest learning by heart."""

    name: str = "memory"
    steps: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)
    modules: tuple[ModuleType, ...] = ()

    def scores(self, task: FoldTask) -> RawScores:
        """Return what was learned of each row, 0 for one that was not."""
        return score_by_two_fits(_learn_by_heart, task.slices)


def _learn_by_heart(train: Examples) -> Scorer:
    frauds = train.row[train.is_fraud]
    return lambda rows: np.isin(rows.row, frauds).astype(np.float64)


def together(*parts: Examples) -> Examples:
    """Return the rows of all parts, one part after another."""
    return Examples(
        **{
            each.name: np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(Examples)
        }
    )
