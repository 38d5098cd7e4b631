"""Where the key-encrypting key is, from `FRAUD_KEYS_*`: the same for every service and command."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from fraudstream.strict_settings import StrictSettings


class KeysSettings(StrictSettings):
    """What opens wrapped key files: a file of key-encrypting keys, or a PKCS#11 token."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_KEYS_", frozen=True, extra="forbid")

    kek_file: Path | None = Field(
        default=None,
        description="File of key-encrypting keys, mode 0400; `fraudstream keys kek`.",
    )
    pkcs11_module: Path | None = Field(
        default=None, description="PKCS#11 library of an HSM or of a key service, instead."
    )
    pkcs11_token: str = Field(default="fraudstream", description="Label of the PKCS#11 token.")
    pkcs11_pin_file: Path | None = Field(
        default=None, description="File with the token's user PIN, mode 0400."
    )
    pkcs11_key: str = Field(
        default="fraudstream-kek-1",
        min_length=1,
        max_length=64,
        description="Label of the AES key in the token under which new files are wrapped.",
    )
    requires_wrapped: bool = Field(
        default=False,
        description="Refuse key files that are not wrapped; passwords and TLS keys may stay plain.",
    )

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        if self.kek_file and self.pkcs11_module:
            msg = "expected kek_file or pkcs11_module, found both"
            raise ValueError(msg)
        if self.pkcs11_module and not self.pkcs11_pin_file:
            msg = "pkcs11_module: expected pkcs11_pin_file beside it"
            raise ValueError(msg)
        return self
