"""Which models an evaluation shows: the baselines, the networks, and their ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fraudstream.errors import InvalidSettings
from training.evaluation.cost import CostModel
from training.evaluation.run import Entry
from training.evaluation.trainers import BOOSTING, ENSEMBLE, Ensemble, Trainer, baselines

ENSEMBLE_MEMBERS: Final = ("lstm", "transformer", BOOSTING)


def all_trainers(seed: int, threads: int) -> list[Trainer]:
    """Return every model that learns, in the order of the tables."""
    return baselines(seed, threads)


def entry_of(names: Sequence[str], seed: int, threads: int, costs: CostModel) -> Entry:
    """Return the models of a run.

    Args:
        names: Which; empty for all. `ensemble` needs two of its members at least.
        seed: Of weights, order and samples.
        threads: Of each fit.
        costs: What mistakes cost.

    Raises:
        InvalidSettings: There is no such model.
    """
    known = {trainer.name: trainer for trainer in all_trainers(seed, threads)}
    unknown = [name for name in names if name not in {*known, ENSEMBLE}]
    if unknown:
        msg = f"--models: expected some of {', '.join([*known, ENSEMBLE])}, found "
        raise InvalidSettings(msg + ", ".join(unknown))
    wanted = [name for name in known if not names or name in names]
    members = [name for name in ENSEMBLE_MEMBERS if name in wanted]
    is_asked = (not names or ENSEMBLE in names) and len(members) > 1
    ensembles = [Ensemble({name: 1 / len(members) for name in members})] if is_asked else []
    return Entry([known[name] for name in wanted], ensembles, costs)
