"""The leakage checklist as checks that run with every evaluation, and are shown in its report.

A model that knows what it cannot know looks excellent until it serves. What is checked: slices lie
in time order with the label delay between them; a model that learns shuffled labels finds no more
than chance; no single feature separates later rows implausibly well; features of a moment are the
same when everything after the moment is taken away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.features.catalogue import FEATURE_NAMES
from training.dataset import Examples, examples_between
from training.evaluation.material import Material
from training.evaluation.trainers import FoldTask, Report, Trainer
from training.metrics import DAY_MS, Bools, average_precision
from training.train.slices import Slices

# Of the way from the prevalence, which any constant reaches, to 1. A single honest feature comes to
# 0.2 to 0.4 of it on the histories that we know; whole models to 0.76. One that alone comes near a
# whole model knows the answer.
PLAUSIBLE_SHARE: Final = 0.6
# On the Handbook's four test folds, by an oracle with the generator's own parameters and labels
# seven days old: 0.762, with a standard deviation of 0.014 over the folds.
HANDBOOK_ORACLE_AP: Final = 0.762
HANDBOOK_LEAK_AP: Final = 0.78
_SHUFFLES: Final = 200
_CHANCE: Final = 0.999
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist.

    Attributes:
        name: What is checked.
        is_passed: Whether it holds; None where it was not run.
        found: What was found, in words with numbers; why it was not run.
    """

    name: str
    is_passed: bool | None
    found: str

    @property
    def is_failed(self) -> bool:
        """Whether it was run and does not hold."""
        return self.is_passed is False


def check_time_order(slices: Slices, delay_days: int) -> Check:
    """Check that what is learned from ends before the test by the label delay, slice by slice."""
    parts = [part for part in (slices.fit, slices.tune, slices.test) if len(part)]
    ends = [int(part.event_time_ms.max()) for part in parts]
    begins = [int(part.event_time_ms.min()) for part in parts]
    in_order = all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))
    gap_ms = begins[-1] - int(slices.whole.event_time_ms.max())
    return Check(
        name="Nothing is split but by time",
        is_passed=in_order and gap_ms >= delay_days * DAY_MS,
        found=f"{gap_ms / DAY_MS:.1f} days lie between the last row learned from and the first"
        f" tested, {delay_days} at least are needed; the slices are"
        f" {'in' if in_order else 'not in'} order",
    )


def check_shuffled_labels(trainer: Trainer, slices: Slices, seed: int, report: Report) -> Check:
    """Check that a model that learns shuffled labels ranks tested rows no better than chance.

    Every row's label is exchanged with another's, alike in all slices that hold the row. Then no
    feature knows anything, and what is found beyond chance was learned by heart from tested rows.
    """
    shuffled = _shuffled(slices, seed)
    raw = trainer.scores(FoldTask(shuffled, report)).test
    is_fraud = shuffled.test.is_fraud
    rng = np.random.default_rng((seed, 7))
    chance = [average_precision(rng.random(len(raw)), is_fraud) for _ in range(_SHUFFLES)]
    limit = float(np.quantile(chance, _CHANCE))
    found = average_precision(raw, is_fraud)
    return Check(
        name="Shuffled labels give AP = prevalence",
        is_passed=found <= limit,
        found=f"AP {found:.4f} at a prevalence of {is_fraud.mean():.4f}; random scores reach"
        f" {limit:.4f} at most ({trainer.name})",
    )


def _shuffled(slices: Slices, seed: int) -> Slices:
    rows = np.unique(np.concatenate([slices.whole.row, slices.tune.row, slices.test.row]))
    label = np.zeros(len(rows), np.bool_)
    for part in (slices.whole, slices.tune, slices.test):
        label[np.searchsorted(rows, part.row)] = part.is_fraud
    label = np.random.default_rng((seed, 6)).permutation(label)

    def relabelled(part: Examples) -> Examples:
        return replace(part, is_fraud=label[np.searchsorted(rows, part.row)])

    fit, whole = relabelled(slices.fit), relabelled(slices.whole)
    return Slices(
        fit=fit,
        stop=relabelled(slices.stop),
        tune=relabelled(slices.tune),
        test=relabelled(slices.test),
        whole=fit if slices.whole is slices.fit else whole,
        past=slices.past,
    )


def check_single_features(test: Examples, names: Sequence[str] = FEATURE_NAMES) -> Check:
    """Check that no feature alone ranks later rows as only the answer could."""
    found = {
        name: _alone(test.vectors[:, index], test.is_fraud) for index, name in enumerate(names)
    }
    best = sorted(found, key=lambda name: -found[name])
    prevalence = float(test.is_fraud.mean())
    limit = prevalence + PLAUSIBLE_SHARE * (1 - prevalence)
    suspects = [name for name in best if found[name] > limit]
    shown = ", ".join(f"{name} {found[name]:.3f}" for name in (suspects or best)[:_NAMED])
    return Check(
        name="No feature knows the answer",
        is_passed=not suspects,
        found=f"{'implausible' if suspects else 'highest'} AP of one feature alone: {shown};"
        f" over {limit:.3f} is implausible at a prevalence of {prevalence:.4f}",
    )


def _alone(values: NDArray[np.float32], is_fraud: Bools) -> float:
    """Return the AP of one feature, in the better direction; a missing value says nothing."""
    score = values.astype(np.float64)
    known = ~np.isnan(score)
    if not known.any():
        return 0.0
    score[~known] = np.median(score[known])
    return max(average_precision(score, is_fraud), average_precision(-score, is_fraud))


def check_moment(material: Material, moment_ms: int, names: Sequence[str] = FEATURE_NAMES) -> Check:
    """Check that the features of the day before a moment need nothing that came after it.

    The history is cut at the moment, labels that arrived later included, and replayed: every vector
    must be the same to the bit. A training set has no history to cut: the check is not run.
    """
    title = "Features recomputed at the moment are the same"
    if material.history is None:
        return Check(
            title,
            None,
            "a training set has no history to replay: for one of Kafka's log `fraudstream training"
            " parity` compares the features of every decision; for files nothing does",
        )
    examples = material.examples
    held = examples.between(moment_ms - DAY_MS, moment_ms)
    steps = examples.sequences.shape[1]
    again = examples_between(
        material.history.until(moment_ms), moment_ms - DAY_MS, moment_ms, steps
    )
    differs = ~np.isclose(held.vectors, again.vectors, rtol=0, atol=0, equal_nan=True)
    rows = differs.sum(axis=0).tolist()
    wrong = ", ".join(f"{name} in {n} rows" for name, n in zip(names, rows, strict=True) if n)
    return Check(
        name=title,
        is_passed=not wrong,
        found=f"{len(held):,} vectors compared: {wrong or 'identical to the bit'}",
    )


def check_ceiling(models: Mapping[str, float]) -> Check:
    """Check that no model beats what the Handbook's generator lets anybody know.

    Args:
        models: Mean AP over the test folds, by name.
    """
    best = max(models, key=lambda name: models[name])
    return Check(
        name="No model is better than the data allows",
        is_passed=models[best] <= HANDBOOK_LEAK_AP,
        found=f"highest mean AP {models[best]:.4f} ({best}); an oracle that knows the generator"
        f" reaches {HANDBOOK_ORACLE_AP}, over {HANDBOOK_LEAK_AP} is a leak",
    )


def run_checklist(
    material: Material, slices: Slices, trainer: Trainer, delay_days: int, report: Report
) -> list[Check]:
    """Run all checks on one fold."""
    report("leakage checklist")
    return [
        check_time_order(slices, delay_days),
        check_shuffled_labels(trainer, slices, 1, report),
        check_single_features(slices.test),
        check_moment(material, int(slices.test.event_time_ms.max(initial=0)) // DAY_MS * DAY_MS),
    ]
