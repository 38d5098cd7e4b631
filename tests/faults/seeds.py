"""Which seed to play alone; only this file of the fault tests reads the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SeedSettings(BaseSettings):
    """What a person asks of the fault tests."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_TEST_", frozen=True)

    seed: int = Field(default=0, ge=0, description="Seed that is played alone.")
