"""One entry of the promotion ledger: who ordered what, why, and on which evidence.

An entry is one line of canonical JSON. It holds the SHA-256 of the line before it, so the lines
are a chain, and its own signature covers everything in it but the signature.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from fraudstream.errors import InvalidSettings, ModelRefused
from fraudstream.signing import Signature, Signer

FIRST_PREVIOUS: Final = "0" * 64
MAX_LINE_BYTES: Final = 8_192
# A canary with over half of the cards is no small trial any more.
MOST_PERMILLE: Final = 500
# Too short to tell a reader anything; too long for a line of the ledger.
WHY_CHARACTERS: Final = (3, 1_000)

_PURPOSE: Final = "ledger entry"
_SHA256: Final = r"^[0-9a-f]{64}$"
_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True)


class LedgerAction(StrEnum):
    """What an entry does."""

    ADD = "add"  # an artefact is in the repository
    PROPOSE = "propose"  # one approver asks for a promotion or a rollback
    PROMOTE = "promote"  # another approver makes it champion
    ROLLBACK = "rollback"  # a champion of before is champion again
    CANARY = "canary"  # a challenger decides some cards in the champion's place
    SHADOW = "shadow"  # a challenger scores beside the champion
    RETIRE = "retire"  # it does so no more, and is never served again


class ModelRef(BaseModel):
    """A model in the repository.

    Attributes:
        name: Of the model.
        version: Of the name.
        manifest_sha256: Of its manifest, which holds the hashes of its files.
    """

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    version: int = Field(ge=1)
    manifest_sha256: str = Field(pattern=_SHA256)

    def __str__(self) -> str:
        """Return it as commands take it."""
        return f"{self.name}/{self.version}"


class Order(BaseModel):
    """What a person orders, before it has a place in the ledger.

    Attributes:
        action: What is done.
        model: To which model.
        why: In words, for whoever reads the ledger.
        trainer: Who signed the artefact; of additions only.
        asks: What a proposal asks for, `promote` or `rollback`; of proposals only.
        evidence: SHA-256 of the evidence kept beside the ledger.
        is_override: The gate was not passed, and that is known.
        share_permille: Share of all cards that a canary decides; of canaries only.
    """

    model_config = _STRICT

    action: LedgerAction = Field(strict=False)
    model: ModelRef
    why: str = Field(min_length=WHY_CHARACTERS[0], max_length=WHY_CHARACTERS[1])
    trainer: str | None = None
    asks: LedgerAction | None = Field(default=None, strict=False)
    evidence: str | None = Field(default=None, pattern=_SHA256)
    is_override: bool = False
    share_permille: int | None = Field(default=None, ge=1, le=MOST_PERMILLE)

    @model_serializer(mode="wrap")
    def _without_absent_share(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave an absent share out: entries from before there were canaries keep their bytes."""
        content: dict[str, Any] = dump(self)
        if content["share_permille"] is None:
            del content["share_permille"]
        return content


class LedgerEntry(BaseModel):
    """An order with its place in the ledger and its signature.

    Attributes:
        sequence: From 1, without gaps.
        time_ms: When it was signed, epoch milliseconds; never before the entry before it.
        previous: SHA-256 of the line before it.
        order: What is ordered.
        signature: Of the person who orders it.
    """

    model_config = _STRICT

    sequence: int = Field(ge=1)
    time_ms: int = Field(ge=0)
    previous: str = Field(pattern=_SHA256)
    order: Order
    signature: Signature

    @classmethod
    def sign(cls, order: Order, head: LedgerHead, time_ms: int, signer: Signer) -> Self:
        """Return the entry after a head, signed."""
        fields = {
            "sequence": head.sequence + 1,
            "time_ms": time_ms,
            "previous": head.sha256,
            "order": order,
        }
        body = _canonical({**fields, "order": order.model_dump(mode="json")})
        return cls.model_validate({**fields, "signature": signer.sign(_PURPOSE, body)})

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read one line.

        Raises:
            ModelRefused: `MODEL_LEDGER`: it is not an entry as this package writes it.
        """
        try:
            entry = cls.model_validate_json(line)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ledger_refused(
                f"a line is not an entry: {where or 'JSON'}: {first['msg']}"
            ) from exc
        if entry.line() != line:
            raise ledger_refused(f"entry {entry.sequence} is not written as it was signed")
        return entry

    @property
    def signer(self) -> str:
        """Name of who signed it."""
        return self.signature.signer

    @property
    def purpose(self) -> str:
        """What its signature stands under."""
        return _PURPOSE

    def signed_bytes(self) -> bytes:
        """Return what its signature covers."""
        return _canonical(self.model_dump(mode="json", exclude={"signature"}))

    def line(self) -> bytes:
        """Return it as the ledger holds it, without the line's end."""
        return _canonical(self.model_dump(mode="json"))

    def head(self) -> LedgerHead:
        """Return the head of a ledger that ends with it."""
        return LedgerHead(sequence=self.sequence, sha256=hashlib.sha256(self.line()).hexdigest())


class LedgerHead(BaseModel):
    """Where a ledger ends: whoever knows its head knows the whole of it.

    Attributes:
        sequence: Of the last entry; 0 for an empty ledger.
        sha256: Of the last line.
    """

    model_config = _STRICT

    sequence: int = Field(default=0, ge=0)
    sha256: str = Field(default=FIRST_PREVIOUS, pattern=_SHA256)

    def __str__(self) -> str:
        """Return it as commands take it.

        >>> str(LedgerHead(sequence=0, sha256="0" * 64))[:5]
        '0:000'
        """
        return f"{self.sequence}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `SEQUENCE:SHA256`.

        >>> LedgerHead.parse("0:" + "0" * 64).sequence
        0

        Raises:
            InvalidSettings: It is something else.
        """
        sequence, _, sha256 = text.partition(":")
        try:
            return cls.model_validate({"sequence": int(sequence), "sha256": sha256})
        except ValueError as exc:
            msg = f"expected a ledger's head as `status` prints it, SEQUENCE:SHA256, found {text!r}"
            raise InvalidSettings(msg) from exc


def ledger_refused(message: str) -> ModelRefused:
    """Return the error of a ledger that does not hold together.

    >>> ledger_refused("entry 2 is missing").reason
    'MODEL_LEDGER'
    """
    return ModelRefused("MODEL_LEDGER", message)


def _canonical(content: dict[str, Any]) -> bytes:
    """Return the one spelling of some JSON: sorted keys, no spaces, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
