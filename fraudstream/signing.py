"""People and their Ed25519 keys: who made a model artefact, and who decided what is served.

A name as an argument is no signature: a person signs with a key file that only they can read, and
everyone else checks against the file of people, which holds public keys alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fraudstream.errors import InvalidSettings, ModelRefused
from fraudstream.privacy import read_secret, write_secret

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True)
_NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_PREFIX: Final = "fraudstream v1 "  # what is signed here means nothing elsewhere


def _only_spelling(text: str) -> str:
    """Refuse base64 with stray bits after its end: one key could stand there as four.

    A decoder drops them, so a person's key could be written twice, and a signature changed.
    """
    if base64.b64encode(base64.b64decode(text, validate=True)).decode() != text:
        msg = "expected base64 as an encoder writes it"
        raise ValueError(msg)
    return text


_Base64 = Annotated[str, AfterValidator(_only_spelling)]


class SignerRole(StrEnum):
    """What a person's signature may stand under."""

    TRAINER = "trainer"  # model artefacts
    APPROVER = "approver"  # promotions and rollbacks
    PUBLISHER = "publisher"  # rule sets


class Person(BaseModel):
    """One person in the file of people.

    Attributes:
        name: Of the person.
        public_key: Ed25519, 32 bytes in base64.
        roles: What they may sign.
        until: Last day on which their signatures count, UTC, YYYY-MM-DD.
    """

    model_config = _STRICT

    name: str = Field(pattern=_NAME)
    public_key: _Base64 = Field(min_length=44, max_length=44)
    roles: tuple[SignerRole, ...] = Field(min_length=1)
    until: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")


class Signature(BaseModel):
    """A person's signature under some bytes.

    Attributes:
        signer: Name of the person.
        value: Ed25519 signature, 64 bytes in base64.
    """

    model_config = _STRICT

    signer: str = Field(pattern=_NAME)
    value: _Base64 = Field(min_length=88, max_length=88)


class _PeopleFile(BaseModel):
    model_config = _STRICT

    people: tuple[Person, ...] = Field(min_length=1, max_length=1_000)


class _KeyFile(BaseModel):
    model_config = _STRICT

    name: str = Field(pattern=_NAME)
    private_key: _Base64 = Field(min_length=44, max_length=44)


@dataclass(frozen=True, slots=True)
class Signer:
    """A person with their private key."""

    name: str
    key: SigningKey

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            InvalidSettings: It is missing, others may read it, or it holds no key.
        """
        try:
            found = _KeyFile.model_validate_json(read_secret(path))
            key = SigningKey(base64.b64decode(found.private_key, validate=True))
        except (ValidationError, binascii.Error, ValueError) as exc:
            msg = f"{path}: expected a person's key file, as `python -m training person` writes it"
            raise InvalidSettings(msg) from exc
        return cls(found.name, key)

    def sign(self, purpose: str, message: bytes) -> Signature:
        """Return a signature under some bytes.

        Args:
            purpose: What they are, so that a signature cannot be moved to bytes of another kind.
            message: The bytes.
        """
        signed = self.key.sign(_text_of(purpose) + message)
        return Signature(signer=self.name, value=base64.b64encode(signed.signature).decode())

    def person(self, roles: Sequence[SignerRole], until: str) -> Person:
        """Return the entry for the file of people."""
        public = base64.b64encode(self.key.verify_key.encode()).decode()
        return Person(name=self.name, public_key=public, roles=tuple(roles), until=until)


def make_signer(path: Path, name: str) -> Signer:
    """Make a key, write its file with mode 0400, and return the person who now can sign.

    Raises:
        InvalidSettings: The file exists or cannot be written.
    """
    key = SigningKey.generate()
    private = base64.b64encode(key.encode()).decode()
    write_secret(path, _KeyFile(name=name, private_key=private).model_dump_json() + "\n")
    return Signer(name, key)


@dataclass(frozen=True, slots=True)
class People:
    """Whose signatures count here."""

    by_name: dict[str, Person]

    @classmethod
    def of(cls, people: Sequence[Person]) -> Self:
        """Return the people of a list; each has a name and a key of their own.

        Raises:
            InvalidSettings: A name or a key stands twice: one person could pass for two.
        """
        by_name = {person.name: person for person in people}
        keys = {person.public_key for person in people}
        if not len(by_name) == len(keys) == len(people):
            raise InvalidSettings("people: expected each name and each public key once")
        return cls(by_name)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file of people.

        Raises:
            InvalidSettings: It is missing or malformed, or two people share a name or a key.
        """
        try:
            found = _PeopleFile.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as exc:
            msg = f"{path}: expected a JSON file of people with names, public_keys, roles and until"
            raise InvalidSettings(msg) from exc
        return cls.of(found.people)

    def save(self, path: Path) -> None:
        """Write the file of people."""
        people = _PeopleFile(people=tuple(self.by_name.values()))
        path.write_text(people.model_dump_json(indent=1) + "\n")

    def check(
        self, signature: Signature, purpose: str, message: bytes, role: SignerRole, at_ms: int
    ) -> Person:
        """Return the person who signed some bytes.

        Args:
            signature: What is checked.
            purpose: What the bytes are.
            message: The bytes.
            role: What the signer must be.
            at_ms: When the signature must count, epoch milliseconds.

        Raises:
            ModelRefused: `MODEL_UNTRUSTED`: nobody here, not in that role, not any more, or the
                signature stands under other bytes.
        """
        person = self.by_name.get(signature.signer)
        if person is None:
            raise _untrusted(f"{signature.signer!r} is not in the file of people")
        if role not in person.roles:
            raise _untrusted(f"{person.name!r} may not sign as {role}")
        day = datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
        if day > person.until:
            raise _untrusted(f"signatures of {person.name!r} count until {person.until}")
        try:
            key = VerifyKey(base64.b64decode(person.public_key, validate=True))
            key.verify(_text_of(purpose) + message, base64.b64decode(signature.value))
        except (BadSignatureError, ValueError, binascii.Error) as exc:
            raise _untrusted(f"the signature of {person.name!r} is not under this content") from exc
        return person


def _text_of(purpose: str) -> bytes:
    return f"{_PREFIX}{purpose}\0".encode()


def _untrusted(message: str) -> ModelRefused:
    return ModelRefused("MODEL_UNTRUSTED", message)
