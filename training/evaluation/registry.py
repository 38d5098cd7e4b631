"""Which models an evaluation shows: the baselines, those of the configurations, their ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fraudstream.errors import InvalidSettings
from training.config import CONFIGS, Override
from training.evaluation.configured import configured_trainers
from training.evaluation.cost import CostModel
from training.evaluation.run import Entry
from training.evaluation.trainers import BOOSTING, Trainer, baselines


def entry_of(
    names: Sequence[str], override: Override, costs: CostModel, configs: Path = CONFIGS
) -> Entry:
    """Return the models of a run, in the order of the tables.

    Args:
        names: Which, beside the baselines and boosting, which are always shown; empty for all. An
            ensemble brings its members along.
        override: What the command line says otherwise than the configurations.
        costs: What mistakes cost.
        configs: Folder of the configurations.

    Raises:
        InvalidSettings: There is no such model, or its file is not as it must be.
    """
    configured, ensemble = configured_trainers(override, configs)
    always = [trainer.name for trainer in baselines()] + [BOOSTING]
    known: dict[str, Trainer] = {trainer.name: trainer for trainer in (*baselines(), *configured)}
    unknown = [name for name in names if name not in {*known, ensemble.name}]
    if unknown:
        msg = f"--models: expected some of {', '.join([*known, ensemble.name])}, found "
        raise InvalidSettings(msg + ", ".join(unknown))
    has_ensemble = not names or ensemble.name in names
    wanted = {*always, *(names or known), *(ensemble.members if has_ensemble else ())}
    trainers = [trainer for name, trainer in known.items() if name in wanted]
    return Entry(trainers, [ensemble] if has_ensemble else [], costs)
