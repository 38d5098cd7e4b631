"""The base of all settings: read once from the environment, then passed down."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import ClassVar, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraudstream.errors import InvalidSettings


class StrictSettings(BaseSettings):
    """Base of all settings: frozen, and an unknown variable under the prefix is refused.

    Attributes:
        read_elsewhere: Variables under the prefix that another class reads: former names.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")
    read_elsewhere: ClassVar[Collection[str]] = ()

    @classmethod
    def read(cls) -> Self:
        """Read the environment.

        Raises:
            InvalidSettings: A value is out of bounds, or a variable under the prefix is unknown.
        """
        prefix = cls.model_config.get("env_prefix", "")
        known = {f"{prefix}{name}".upper() for name in cls.model_fields}
        allowed = known.union(cls.read_elsewhere)
        unknown = [name for name in os.environ if name.startswith(prefix) and name not in allowed]
        if unknown:
            msg = f"unknown settings {sorted(unknown)}; known are {sorted(known)}"
            raise InvalidSettings(msg)
        try:
            return cls()
        except ValidationError as exc:
            # Without the values that were found: one of them may be a password.
            found = "; ".join(
                ": ".join([*map(str, fault["loc"]), fault["msg"]])
                for fault in exc.errors(include_input=False, include_url=False)
            )
            raise InvalidSettings(f"settings under {prefix}* are not valid: {found}") from None
        except ValueError as exc:
            raise InvalidSettings(f"settings under {prefix}* are not valid: {exc}") from exc
