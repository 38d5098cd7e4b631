"""What a model is made of and how it learns: one TOML file each, checked before minutes go by."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fraudstream.errors import InvalidSettings
from training.models.boosting import BoostingPlan
from training.models.plan import FitPlan, PretrainPlan
from training.models.scaling import NetworkKind, NetworkShape, feature_ceilings
from training.train.fit_calibration import ThresholdPlan

_MOST_BYTES: Final = 8 << 10  # a key of a hundred thousand parts takes a parser all its memory
CONFIGS: Final = Path(__file__).parents[1] / "configs"
# Instances too: a command line changes what was read from a file.
_STRICT: Final = ConfigDict(frozen=True, extra="forbid", revalidate_instances="always")


class ModelKind(StrEnum):
    """What can be trained."""

    LSTM = "lstm"
    TRANSFORMER = "transformer"
    BOOSTING = "boosting"
    ENSEMBLE = "ensemble"


class NetworkSection(BaseModel):
    """Sizes of a network, and what else is fixed before it learns.

    Attributes:
        hidden: Width of its layers.
        layers: Layers of the encoder.
        heads: Of a transformer's attention.
        dropout: Share of units left out while learning.
    """

    model_config = _STRICT

    hidden: int = Field(default=64, ge=8, le=512)
    layers: int = Field(default=2, ge=1, le=8)
    heads: int = Field(default=4, ge=1, le=16)
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.hidden % (2 * self.heads):
            msg = f"hidden: expected a multiple of 2 x heads ({2 * self.heads})"
            raise ValueError(msg)
        return self


class MemberSection(BaseModel):
    """One member of an ensemble.

    Attributes:
        config: Its file, beside the ensemble's.
        weight: How far its log-odds count.
    """

    model_config = _STRICT

    config: str = Field(pattern=r"^[a-z0-9_-]+\.toml$")
    weight: float = Field(gt=0, le=2)


class TrainConfig(BaseModel):
    """One model.

    Attributes:
        kind: What it is.
        network: Of a network.
        fit: How a network learns.
        pretrain: What it learns before, without labels; none by default.
        boosting: Trees.
        own_set: Trees where the rows are a training set of one's own; None for the same ones.
        members: Of an ensemble.
        thresholds: From which scores on the action changes.
    """

    model_config = _STRICT

    kind: ModelKind
    network: NetworkSection = NetworkSection()
    fit: FitPlan = FitPlan()
    pretrain: PretrainPlan | None = None
    boosting: BoostingPlan = BoostingPlan()
    own_set: BoostingPlan | None = None
    members: tuple[MemberSection, ...] = Field(default=(), max_length=16)
    thresholds: ThresholdPlan = ThresholdPlan()

    @model_validator(mode="after")
    def _members_belong_to_an_ensemble(self) -> Self:
        if bool(self.members) != (self.kind is ModelKind.ENSEMBLE):
            msg = "members: expected some for an ensemble, and none for anything else"
            raise ValueError(msg)
        return self

    def shape(self, features: int) -> NetworkShape:
        """Return the network's shape for vectors of so many features."""
        return NetworkShape(
            features,
            NetworkKind(self.kind),
            ceilings=feature_ceilings(),
            **self.network.model_dump(),
        )


@dataclass(frozen=True, slots=True)
class Override:
    """What a command line says otherwise than the files.

    Attributes:
        seed: Of weights and samples; None for the files'.
        epochs: At most; None for the files'.
        threads: Of each library.
        is_own_set: The rows are a training set of one's own.
    """

    seed: int | None = None
    epochs: int | None = None
    threads: int = 1
    is_own_set: bool = False

    def applied(self, config: TrainConfig) -> TrainConfig:
        """Return a configuration with it.

        Raises:
            InvalidSettings: A value is out of bounds.
        """
        fit = replace(config.fit, threads=self.threads)
        trees = (self.is_own_set and config.own_set) or config.boosting
        boosting = replace(trees, threads=self.threads)
        if self.seed is not None:
            fit, boosting = replace(fit, seed=self.seed), replace(boosting, seed=self.seed)
        if self.epochs is not None:
            fit = replace(fit, epochs=self.epochs)
        changed = config.model_copy(update={"fit": fit, "boosting": boosting, "own_set": None})
        try:
            return TrainConfig.model_validate(changed)
        except ValidationError as exc:
            raise InvalidSettings(f"--seed, --epochs, --threads: {_first_of(exc)}") from exc


def load_config(path: Path) -> TrainConfig:
    """Read a model's file.

    Raises:
        InvalidSettings: It is missing, is no TOML, or a key or value is missing or invalid.
    """
    try:
        return TrainConfig.model_validate(tomllib.loads(_text_of(path)))
    except (OSError, ValueError, RecursionError) as exc:
        if isinstance(exc, ValidationError):
            raise InvalidSettings(f"{path}: {_first_of(exc)}") from exc
        raise InvalidSettings(f"{path}: expected a TOML file of a model: {exc}") from exc


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        msg = f"more than {_MOST_BYTES} bytes"
        raise ValueError(msg)
    return content.decode()


def _first_of(exc: ValidationError) -> str:
    first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"


def load_members(path: Path, config: TrainConfig) -> list[tuple[str, TrainConfig, float]]:
    """Return name, configuration and weight of each member of an ensemble.

    Raises:
        InvalidSettings: A member's file cannot be read, or is an ensemble itself.
    """
    found = []
    for member in config.members:
        own = load_config(path.parent / member.config)
        if own.kind is ModelKind.ENSEMBLE:
            raise InvalidSettings(f"{path}: {member.config} is an ensemble itself")
        found.append((Path(member.config).stem, own, member.weight))
    return found


def named_config(model: str, path: Path | None) -> tuple[Path, TrainConfig]:
    """Return a model's file and what it says.

    Args:
        model: Kind of the model; names the file where there is no path.
        path: The file; None for the one that comes with the project.

    Raises:
        InvalidSettings: It is missing or invalid, or of another kind.
    """
    found = path or CONFIGS / f"{model}.toml"
    config = load_config(found)
    if config.kind.value != model:
        raise InvalidSettings(f"{found}: expected a {model}, found a {config.kind.value}")
    return found, config
