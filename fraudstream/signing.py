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

from fraudstream.errors import InvalidSettings, SignatureRefused
from fraudstream.keys.secret_files import Purpose, read_secret, write_secret

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


class FormerKey(BaseModel):
    """A key that its owner has put another in the place of.

    Attributes:
        public_key: Ed25519, 32 bytes in base64.
        until: Last day on which its signatures count, UTC, YYYY-MM-DD.
    """

    model_config = _STRICT

    public_key: _Base64 = Field(min_length=44, max_length=44)
    until: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")


class Person(BaseModel):
    """One person in the file of people.

    Attributes:
        name: Of the person.
        public_key: Ed25519, 32 bytes in base64.
        roles: What they may sign.
        until: Last day on which their signatures count, UTC, YYYY-MM-DD.
        former_keys: Of before; what was signed by one still counts until its own last day.
    """

    model_config = _STRICT

    name: str = Field(pattern=_NAME)
    public_key: _Base64 = Field(min_length=44, max_length=44)
    roles: tuple[SignerRole, ...] = Field(min_length=1)
    former_keys: tuple[FormerKey, ...] = Field(default=(), max_length=100)
    until: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")

    def keys_on(self, day: str) -> list[str]:
        """Return the public keys whose signatures count on a day, YYYY-MM-DD."""
        former = [one.public_key for one in self.former_keys if day <= one.until]
        return [self.public_key, *former] if day <= self.until else []

    def with_key(self, public_key: str, former_until: str) -> Person:
        """Return the entry with another key; the one of before counts until a day."""
        former = FormerKey(public_key=self.public_key, until=former_until)
        update = {"public_key": public_key, "former_keys": (*self.former_keys, former)}
        return self.model_copy(update=update)


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
            found = _KeyFile.model_validate_json(read_secret(path, Purpose.SIGNING_KEY))
            key = SigningKey(base64.b64decode(found.private_key, validate=True))
        except (ValidationError, binascii.Error, ValueError) as exc:
            msg = (
                f"{path}: expected a person's key file, as `fraudstream training person` writes it"
            )
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
    text = _KeyFile(name=name, private_key=private).model_dump_json() + "\n"
    write_secret(path, text, Purpose.SIGNING_KEY)
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
        keys = [person.public_key for person in people]
        keys += [former.public_key for person in people for former in person.former_keys]
        if len(by_name) != len(people) or len({*keys}) != len(keys):
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
        # An entry without former keys is written as older releases know it.
        path.write_text(people.model_dump_json(indent=1, exclude_defaults=True) + "\n")

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
            SignatureRefused: Nobody here, not in that role, not any more, or the signature stands
                under other bytes.
        """
        person = self.by_name.get(signature.signer)
        if person is None:
            # The name may be anything: a card number too.
            known = len(self.by_name)
            raise SignatureRefused(f"the signer is none of the {known} in the file of people")
        if role not in person.roles:
            raise SignatureRefused(f"{person.name!r} may not sign as {role}")
        day = datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
        keys = person.keys_on(day)
        if not keys:
            raise SignatureRefused(f"signatures of {person.name!r} count until {person.until}")
        if not any(_is_under(key, signature, _text_of(purpose) + message) for key in keys):
            raise SignatureRefused(f"the signature of {person.name!r} is not under this content")
        return person


def _is_under(public_key: str, signature: Signature, message: bytes) -> bool:
    try:
        key = VerifyKey(base64.b64decode(public_key, validate=True))
        key.verify(message, base64.b64decode(signature.value))
    except (BadSignatureError, ValueError, binascii.Error):
        return False
    return True


def _text_of(purpose: str) -> bytes:
    return f"{_PREFIX}{purpose}\0".encode()
