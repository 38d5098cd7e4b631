"""`python -m training person` and `python -m training sign`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pydantic import ValidationError

from fraudstream.errors import InvalidSettings
from fraudstream.models.artefact import read_artefact, sign_artefact
from fraudstream.runtime.usage_parser import day
from fraudstream.signing import People, Person, Signer, SignerRole, make_signer


def add_person(person: argparse.ArgumentParser) -> None:
    """Take the arguments of `person`: make a key and name its owner, or change a person's entry."""
    person.description = (
        "Makes a person's key and names its owner in the file of people. For a person who is in"
        " the file: gives them another last day, or more roles; with --key another key, and what"
        " they signed by the old one counts as before, or until --former-until."
    )
    person.add_argument("name", help="lower-case letters, digits, dots, dashes")
    person.add_argument(
        "--role",
        action="append",
        default=[],
        type=SignerRole,
        choices=list(SignerRole),
        help="what they may sign; repeat for more",
    )
    person.add_argument("--until", type=day, help="last day, YYYY-MM-DD")
    person.add_argument("--key", type=Path, help="new private key, mode 0400")
    person.add_argument(
        "--former-until", type=day, help="with --key: last day of the old key, YYYY-MM-DD"
    )
    person.add_argument(
        "--people", required=True, type=Path, help="file of people; made where it is missing"
    )
    person.set_defaults(run=_person, parser=person)


def add_sign(sign: argparse.ArgumentParser) -> None:
    """Take the arguments of `sign`: check an artefact and put a signature under it."""
    sign.add_argument("folder", type=Path, help="of the artefact")
    sign.add_argument("--key", required=True, type=Path, help="a person's private key")
    sign.set_defaults(run=_sign)


def _person(parsed: argparse.Namespace) -> int:
    known = People.load(parsed.people) if parsed.people.exists() else People({})
    entry = known.by_name.get(parsed.name)
    added = _added(parsed) if entry is None else _changed(parsed, entry)
    others = [person for person in known.by_name.values() if person.name != added.name]
    People.of([*others, added]).save(parsed.people)
    print(f"{added.name} may sign as {', '.join(added.roles)} until {added.until}")
    return 0


def _added(parsed: argparse.Namespace) -> Person:
    """Make the key of a person who is not in the file, and return their entry."""
    if not (parsed.role and parsed.until and parsed.key):
        parsed.parser.error(
            f"{parsed.name!r} is not in {parsed.people}: expected --role, --until and --key"
        )
    try:
        signer = make_signer(parsed.key, parsed.name)
    except ValidationError as exc:
        raise InvalidSettings(f"{parsed.name!r}: expected lower-case letters and digits") from exc
    return signer.person(list(dict.fromkeys(parsed.role)), parsed.until.isoformat())


def _changed(parsed: argparse.Namespace, entry: Person) -> Person:
    """Return the entry of a known person with another last day, more roles, or another key."""
    if not (parsed.role or parsed.until or parsed.key):
        msg = f"{entry.name!r} is in {parsed.people}: expected --until, --role or --key"
        parsed.parser.error(msg)
    if parsed.key:
        former_until = parsed.former_until.isoformat() if parsed.former_until else entry.until
        fresh = make_signer(parsed.key, entry.name).person(entry.roles, entry.until)
        entry = entry.with_key(fresh.public_key, former_until)
    until = parsed.until.isoformat() if parsed.until else entry.until
    roles = tuple(dict.fromkeys([*entry.roles, *parsed.role]))
    return entry.model_copy(update={"until": until, "roles": roles})


def _sign(parsed: argparse.Namespace) -> int:
    # ONNX Runtime takes its time to load, which a usage error does not need.
    from fraudstream.models.open_engine import open_engine

    signer = Signer.load(parsed.key)
    # What scoring could not open is not signed: a signature says that somebody checked.
    open_engine(read_artefact(parsed.folder)).close()
    artefact = sign_artefact(parsed.folder, signer)
    print(f"{signer.name} signed {artefact.manifest.name} {artefact.manifest.version}")
    return 0
