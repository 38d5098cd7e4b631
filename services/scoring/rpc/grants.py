"""Who may call, and for which banks: grants by token or by client certificate. Pure.

A token is 32 random bytes, so its plain SHA-256 is as hard to turn back as it is to guess: the file
holds only that, and a reader of the file can call nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fraudstream.errors import InvalidSettings, PermissionDenied, Unauthenticated
from fraudstream.transaction.banks import ALL_BANKS, Banks, is_clear, stands_for

_STRICT: Final = ConfigDict(frozen=True, extra="forbid")
_TOKEN_PREFIX: Final = "fs1_"  # noqa: S105  # tells scanners for leaked secrets what it is
_TOKEN_BYTES: Final = 32
# No token of ours is longer; what is longer is not hashed.
_TOKEN_LONGEST: Final = 256


class AccessRole(StrEnum):
    """What a caller may call."""

    CALLER = "caller"  # Scoring
    FEATURES = "features"  # InternalScoring
    OPERATOR = "operator"  # health and reflection of both


class Grant(BaseModel):
    """One entry of the callers file.

    Attributes:
        name: Of the system that calls; two grants of one name let it change its token in peace.
        role: What it may call.
        until: Last day on which it may, UTC.
        token_sha256: Of its token, 64 hex digits; or
        certificate: A subject alternative name of its certificate, or its common name where it
            has none.
        banks: Whose transactions a caller may bring, `("*",)` for all; no other role has any.
    """

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    role: AccessRole
    until: date
    token_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    certificate: str | None = Field(default=None, min_length=1, max_length=253)
    banks: Banks | None = None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if (self.token_sha256 is None) == (self.certificate is None):
            raise ValueError("expected either token_sha256 or certificate")
        return self

    @model_validator(mode="after")
    def _has_banks_where_it_needs_them(self) -> Self:
        if self.role is AccessRole.CALLER and not self.banks:
            raise ValueError(
                f'{self.name} has the role caller: expected "banks", the ids of the banks whose'
                f' transactions it may bring, such as ["bank-north"], or ["{ALL_BANKS}"] for all'
            )
        if self.role is not AccessRole.CALLER and self.banks:
            raise ValueError(f"{self.name}: expected no banks for the role {self.role}")
        if self.banks and not is_clear(self.banks):
            raise ValueError(f'banks of {self.name}: expected ["{ALL_BANKS}"] alone, or names')
        return self

    def is_for(self, bank_id: str) -> bool:
        """Return whether it may bring transactions of a bank.

        >>> told = {"name": "a", "role": "caller", "until": "2030-01-01", "certificate": "a"}
        >>> grant = Grant.model_validate(told | {"banks": ["north"]})
        >>> grant.is_for("north"), grant.is_for("south")
        (True, False)
        """
        return stands_for(self.banks or (), bank_id)


class _CallersFile(BaseModel):
    model_config = _STRICT

    callers: tuple[Grant, ...] = Field(max_length=10_000)


@dataclass(frozen=True, slots=True)
class _Known:
    grant: Grant
    ends_ms: int


class Grants:
    """All grants, found by the digest of a token or by a name in a certificate."""

    def __init__(self, grants: Sequence[Grant]) -> None:
        self.all = tuple(grants)
        known = [_Known(grant, _end_of_day_ms(grant.until)) for grant in grants]
        self._by_digest = {
            bytes.fromhex(one.grant.token_sha256): one for one in known if one.grant.token_sha256
        }
        self._by_certificate = {
            one.grant.certificate: one for one in known if one.grant.certificate
        }
        if len(self._by_digest) + len(self._by_certificate) != len(known):
            raise InvalidSettings("callers: expected each token and each certificate name once")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the callers file's content.

        Raises:
            InvalidSettings: It is malformed, or a token or certificate name stands there twice.
        """
        try:
            return cls(_CallersFile.model_validate_json(text).callers)
        except ValidationError as exc:
            first = exc.errors(include_input=False, include_url=False)[0]
            path = ".".join(map(str, first["loc"])) or "the file"
            msg = (
                "expected callers with name, role, until, token_sha256 or certificate, and banks"
                f" for the role caller: {path}"
            )
            raise InvalidSettings(f"{msg}: {first['msg']}") from exc

    def text(self) -> str:
        """Return the content of the callers file."""
        return _CallersFile(callers=self.all).model_dump_json(indent=1, exclude_none=True) + "\n"

    def by_token(self, token: str, now_ms: int) -> Grant:
        """Return the grant of a token.

        Raises:
            Unauthenticated: It is unknown or over.
        """
        digest = token_digest(token) if len(token) <= _TOKEN_LONGEST else b""
        known = self._by_digest.get(digest)
        # The time of a look-up depends on the digest, which no caller can steer bit by bit.
        if known is None or not hmac.compare_digest(digest.hex(), known.grant.token_sha256 or ""):
            raise Unauthenticated("the token is not one of those known here; was it withdrawn?")
        return _in_time(known, now_ms)

    def by_certificate(self, names: Sequence[str], now_ms: int) -> Grant:
        """Return the grant of the first name of a certificate that has one.

        Raises:
            Unauthenticated: None has, or it is over.
        """
        known = next(filter(None, map(self._by_certificate.get, names)), None)
        if known is None:
            msg = f"expected a certificate that the callers file names, found {list(names)}"
            raise Unauthenticated(msg)
        return _in_time(known, now_ms)


def check_role(grant: Grant, role: AccessRole, service: str) -> None:
    """Refuse a caller in another role.

    Raises:
        PermissionDenied: The grant is for something else.
    """
    if grant.role is not role:
        msg = f"{grant.name} has the role {grant.role}; {service} expects {role}"
        raise PermissionDenied(msg)


def new_token() -> str:
    """Return a new token, printable and with 256 bits of chance.

    >>> new_token() != new_token()
    True
    """
    return _TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def token_digest(token: str) -> bytes:
    """Return the SHA-256 of a token."""
    return hashlib.sha256(token.encode()).digest()


def _in_time(known: _Known, now_ms: int) -> Grant:
    if now_ms >= known.ends_ms:
        msg = f"the grant of {known.grant.name} counted until {known.grant.until}"
        raise Unauthenticated(f"{msg}; expected a newer one")
    return known.grant


def _end_of_day_ms(day: date) -> int:
    if day == date.max:
        day -= timedelta(days=1)
    after = day + timedelta(days=1)
    return int(datetime(after.year, after.month, after.day, tzinfo=UTC).timestamp() * 1000)
