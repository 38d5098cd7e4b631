"""Which models an evaluation shows: the baselines, those of the configurations, their ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import SEQUENCE_LENGTH
from training.evaluation.figures.cost import CostModel
from training.evaluation.run import Entry
from training.evaluation.trainers import (
    BOOSTING,
    ENSEMBLE,
    Ensemble,
    FoldTask,
    RawScores,
    Trainer,
    baselines,
)
from training.learning import fit, loop, pretrain
from training.models import (
    boosting,
    fit_scaling,
    inputs,
    lstm,
    network,
    scaling,
    transformer,
)
from training.train import members
from training.train.config import CONFIGS, ModelKind, Override, load_config
from training.train.members import MemberSpec, formula_of, specs_of

_OF_TREES = (members, boosting)
_OF_NETWORKS = (
    members,
    fit,
    loop,
    pretrain,
    fit_scaling,
    inputs,
    lstm,
    network,
    scaling,
    transformer,
)


@dataclass(frozen=True, slots=True)
class ConfiguredTrainer:
    """Learns as one configuration says.

    Attributes:
        spec: Of the model: name and configuration.
    """

    spec: MemberSpec

    @property
    def name(self) -> str:
        """Return the model's name in tables."""
        return self.spec.name

    @property
    def is_boosting(self) -> bool:
        """Whether it grows trees."""
        return self.spec.config.kind is ModelKind.BOOSTING

    @property
    def steps(self) -> int:
        """Return how many last steps of a sequence it reads."""
        return 1 if self.is_boosting else SEQUENCE_LENGTH

    @property
    def settings(self) -> Mapping[str, object]:
        """Return what its file says, but for threads, which change no score that is kept."""
        config = self.spec.config
        if self.is_boosting:
            found = asdict(config.boosting)
        else:
            found = {**config.network.model_dump(), **asdict(config.fit)}
            if config.pretrain is not None:
                learned = asdict(config.pretrain)
                found |= {f"pretrain_{name}": value for name, value in learned.items()}
        return {name: value for name, value in found.items() if name != "threads"}

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        """Return the modules whose code decides its scores."""
        return _OF_TREES if self.is_boosting else _OF_NETWORKS

    def scores(self, task: FoldTask) -> RawScores:
        """Fit as `train` does, and score what each fit did not learn from."""
        slices = task.slices
        first, served = members.fit_and_refit(self.spec, slices, task.report, task.folder)
        return RawScores(tune=first.raw_scores(slices.tune), test=served.raw_scores(slices.test))


def configured_trainers(
    override: Override, folder: Path = CONFIGS
) -> tuple[list[ConfiguredTrainer], Ensemble]:
    """Return the models that learn, and the ensemble of some of them.

    Args:
        override: What the command line says otherwise than the files.
        folder: Of the configurations; candidates may lie in another one.

    Raises:
        InvalidSettings: A file is missing or not as it must be.
    """
    kinds = (ModelKind.BOOSTING, ModelKind.LSTM, ModelKind.TRANSFORMER)
    alone = [
        MemberSpec(kind.value, override.applied(load_config(folder / f"{kind}.toml")))
        for kind in kinds
    ]
    path = folder / f"{ENSEMBLE}.toml"
    of_ensemble = specs_of(path, load_config(path), override)
    known = {spec.name for spec in alone}
    others = [spec for spec in of_ensemble if spec.name not in known]
    trainers = [ConfiguredTrainer(spec) for spec in (*alone, *others)]
    return trainers, Ensemble(tuple(spec.name for spec in of_ensemble), formula_of(of_ensemble))


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
