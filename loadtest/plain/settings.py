"""Settings of the plain composition. The only file of it that knows the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fraudstream.strict_settings import StrictSettings

# Between agents and scorer: a `FeatureBatchRequest` of one row, or of as many as an agent takes.
SERVICE: Final = "plain.Scorer"
NAME: Final = "ScoreBatch"
METHOD: Final = f"/{SERVICE}/{NAME}"


class PlainSettings(StrictSettings):
    """What its processes are told besides Kafka and Redis."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_PLAIN_", frozen=True, extra="forbid")

    scorer_port: int = Field(default=50061, ge=1, le=65535, description="Port of the scorer.")
    model: Path = Field(default=Path("var/models"), description="Folder of the model repository.")
    people_file: Path = Field(
        default=Path("people.json"), description="Public keys of those whose signatures count."
    )
    folder: Path = Field(
        default=Path("var/plain"), description="Folder of Feast's registry and of Faust's files."
    )
