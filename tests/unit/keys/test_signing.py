"""Signatures of people: whose count, under which bytes, and until when."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fraudstream.errors import InvalidSettings, SignatureRefused
from fraudstream.signing import People, Person, Signature, Signer, SignerRole, make_signer

MESSAGE = b"a manifest"
PURPOSE = "artefact"
DAY_MS = 1_764_115_200_000  # 2025-11-26


@pytest.fixture
def alice(tmp_path: Path) -> Signer:
    """A person who makes models."""
    return make_signer(tmp_path / "alice.key", "alice")


@pytest.fixture
def people(alice: Signer) -> People:
    """Alice alone."""
    return People.of([alice.person([SignerRole.TRAINER], "2026-12-31")])


def reason_of(people: People, signature: Signature, **changes: object) -> str:
    """Return why a signature does not count."""
    asked = {"purpose": PURPOSE, "message": MESSAGE, "role": SignerRole.TRAINER, "at_ms": DAY_MS}
    with pytest.raises(SignatureRefused) as refusal:
        people.check(signature, **(asked | changes))  # type: ignore[arg-type]  # a test's table
    return str(refusal.value)


def test_signatures_of_a_former_key_count_until_its_day(tmp_path: Path) -> None:
    """After a rotation both keys are one person's; a former one has a last day of its own."""
    old, new = make_signer(tmp_path / "old", "alice"), make_signer(tmp_path / "new", "alice")
    entry = old.person([SignerRole.TRAINER], "2999-12-31")
    public = new.person([SignerRole.TRAINER], "2999-12-31").public_key
    people = People.of([entry.with_key(public, "2026-06-30")])
    june, july = 1_782_777_600_000, 1_782_864_000_000
    people.save(tmp_path / "people.json")
    people = People.load(tmp_path / "people.json")

    for at_ms in (june, july):
        people.check(new.sign("p", b"x"), "p", b"x", SignerRole.TRAINER, at_ms)
    people.check(old.sign("p", b"x"), "p", b"x", SignerRole.TRAINER, june)
    with pytest.raises(SignatureRefused, match="not under this content"):
        people.check(old.sign("p", b"x"), "p", b"x", SignerRole.TRAINER, july)
    with pytest.raises(InvalidSettings, match="each public key once"):
        People.of([*people.by_name.values(), entry.model_copy(update={"name": "bob"})])


def test_signature_names_its_person(alice: Signer, people: People) -> None:
    """Who signed is known by the key, not by what they say."""
    signature = alice.sign(PURPOSE, MESSAGE)

    signer = people.check(signature, PURPOSE, MESSAGE, SignerRole.TRAINER, DAY_MS)

    assert signer.name == "alice"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"message": b"another"}, "not under this content"),
        ({"purpose": "ledger"}, "not under this content"),
        ({"role": SignerRole.APPROVER}, "may not sign as approver"),
        ({"at_ms": DAY_MS + 500 * 86_400_000}, "count until 2026-12-31"),
    ],
)
def test_signature_counts_for_what_was_signed(
    alice: Signer, people: People, changes: dict[str, object], why: str
) -> None:
    """Other bytes, another purpose, another role, a later day: each is refused in its words."""
    assert why in reason_of(people, alice.sign(PURPOSE, MESSAGE), **changes)


def test_name_without_the_key_is_no_signature(people: People, tmp_path: Path) -> None:
    """Mallory signs as Alice with a key of her own."""
    mallory = make_signer(tmp_path / "mallory.key", "alice")

    assert "not under this content" in reason_of(people, mallory.sign(PURPOSE, MESSAGE))


def test_files_give_back_what_was_written(alice: Signer, people: People, tmp_path: Path) -> None:
    """Keys and people survive their files."""
    people.save(tmp_path / "people.json")
    again = Signer.load(tmp_path / "alice.key")

    found = People.load(tmp_path / "people.json")

    signature = again.sign(PURPOSE, MESSAGE)
    assert found.check(signature, PURPOSE, MESSAGE, SignerRole.TRAINER, DAY_MS).name == alice.name


def test_one_key_is_one_person(alice: Signer) -> None:
    """A key under two names would let one person be two."""
    first = alice.person([SignerRole.APPROVER], "2026-12-31")
    second = first.model_copy(update={"name": "bob"})

    with pytest.raises(InvalidSettings, match="each public key once"):
        People.of([first, second])


@pytest.mark.parametrize("stray", [1, 2, 3])
def test_key_has_one_spelling(alice: Signer, stray: int) -> None:
    """Base64 with bits after its end decodes to the same key: a second person for free."""
    person = alice.person([SignerRole.APPROVER], "2026-12-31")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(person.public_key[-2]) + stray]
    twin = person.model_dump() | {"name": "bob", "public_key": person.public_key[:-2] + last + "="}

    with pytest.raises(ValidationError, match="as an encoder writes it"):
        Person.model_validate(twin)


def test_key_that_others_may_read_is_refused(alice: Signer, tmp_path: Path) -> None:
    """A shared key signs for nobody."""
    (tmp_path / "alice.key").chmod(0o444)

    with pytest.raises(InvalidSettings):
        Signer.load(tmp_path / "alice.key")


def test_name_of_a_stranger_is_not_repeated(alice: Signer) -> None:
    """It goes into logs and topics, and may be a card number."""
    number = "4" + "0" * 14 + "2"
    signature = alice.sign(PURPOSE, MESSAGE).model_copy(update={"signer": number})
    nobody = People.of([alice.person([SignerRole.TRAINER], "2026-12-31")])

    told = reason_of(nobody, signature)

    assert told == "the signer is none of the 1 in the file of people"
