"""`python -m training person` and `python -m training sign`."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from fraudstream.artefact import sign_artefact
from fraudstream.errors import InvalidSettings
from fraudstream.signing import People, Signer, SignerRole, make_signer


def add_person(person: argparse.ArgumentParser) -> None:
    """Take the arguments of `person`: make a key, and name its owner in the file of people."""
    person.add_argument("name", help="lower-case letters, digits, dots, dashes")
    person.add_argument(
        "--role",
        action="append",
        required=True,
        type=SignerRole,
        choices=list(SignerRole),
        help="what they may sign; repeat for more",
    )
    person.add_argument(
        "--until", required=True, type=date.fromisoformat, help="last day, YYYY-MM-DD"
    )
    person.add_argument("--key", required=True, type=Path, help="new private key, mode 0400")
    person.add_argument(
        "--people", required=True, type=Path, help="file of people; made where it is missing"
    )
    person.set_defaults(run=_person)


def add_sign(sign: argparse.ArgumentParser) -> None:
    """Take the arguments of `sign`: check an artefact and put a signature under it."""
    sign.add_argument("folder", type=Path, help="of the artefact")
    sign.add_argument("--key", required=True, type=Path, help="a person's private key")
    sign.set_defaults(run=_sign)


def _person(parsed: argparse.Namespace) -> int:
    known = People.load(parsed.people) if parsed.people.exists() else People({})
    if parsed.name in known.by_name:
        raise InvalidSettings(f"{parsed.people}: {parsed.name!r} is in it already")
    try:
        signer = make_signer(parsed.key, parsed.name)
    except ValidationError as exc:
        raise InvalidSettings(f"{parsed.name!r}: expected lower-case letters and digits") from exc
    roles = list(dict.fromkeys(parsed.role))
    added = signer.person(roles, parsed.until.isoformat())
    People.of([*known.by_name.values(), added]).save(parsed.people)
    print(f"{added.name} may sign as {', '.join(roles)} until {added.until}")
    return 0


def _sign(parsed: argparse.Namespace) -> int:
    signer = Signer.load(parsed.key)
    artefact = sign_artefact(parsed.folder, signer)
    print(f"{signer.name} signed {artefact.manifest.name} {artefact.manifest.version}")
    return 0
