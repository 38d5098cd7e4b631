"""Which models an evaluation shows: the baselines, those of the configurations, their ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fraudstream.errors import InvalidSettings
from training.evaluation.configured import ConfiguredTrainer, configured_trainers
from training.evaluation.figures.cost import CostModel
from training.evaluation.run import Entry
from training.evaluation.trainers import BOOSTING, Trainer, baselines
from training.train.config import CONFIGS, ModelKind, Override, load_config
from training.train.members import MemberSpec


def entry_of(
    names: Sequence[str], override: Override, costs: CostModel, configs: Path = CONFIGS
) -> Entry:
    """Return the models of a run, in the order of the tables.

    Args:
        names: Which, beside the baselines and boosting, which are always shown; empty for all. An
            ensemble brings its members along. A name may be that of any file of a model beside
            the configurations.
        override: What the command line says otherwise than the configurations.
        costs: What mistakes cost.
        configs: Folder of the configurations.

    Raises:
        InvalidSettings: There is no such model, or its file is missing or invalid.
    """
    configured, ensemble = configured_trainers(override, configs)
    always = [trainer.name for trainer in baselines()] + [BOOSTING]
    known: dict[str, Trainer] = {trainer.name: trainer for trainer in (*baselines(), *configured)}
    for name in names:
        if name not in known and (configs / f"{name}.toml").is_file():
            config = override.applied(load_config(configs / f"{name}.toml"))
            if config.kind is not ModelKind.ENSEMBLE:
                known[name] = ConfiguredTrainer(MemberSpec(name, config))
    unknown = [name for name in names if name not in {*known, ensemble.name}]
    if unknown:
        msg = f"--models: expected some of {', '.join([*known, ensemble.name])}, found "
        raise InvalidSettings(msg + ", ".join(unknown))
    has_ensemble = not names or ensemble.name in names
    wanted = {*always, *(names or known), *(ensemble.members if has_ensemble else ())}
    trainers = [trainer for name, trainer in known.items() if name in wanted]
    return Entry(trainers, [ensemble] if has_ensemble else [], costs)
