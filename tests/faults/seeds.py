"""Which seeds to play; only this file of the fault tests reads the environment.

The seeds are numbers in order, never drawn: the same setting plays the same interleavings.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# A run takes about a third of a second, and each kind of weather plays them all: 100 seeds are
# over a minute of the suite. For a night: `FRAUD_TEST_SEEDS=30000 pytest -k as_many_seeds`.
_SEEDS_BY_DEFAULT = 100


class SeedSettings(BaseSettings):
    """What a person asks of the fault tests."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_TEST_", frozen=True)

    seed: int = Field(default=0, ge=0, description="Seed that is played alone.")
    seeds: int = Field(
        default=_SEEDS_BY_DEFAULT, ge=1, description="How many seeds the test of many plays."
    )
