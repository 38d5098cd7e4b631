"""`python -m services.scoring token`: let a system call, and show its token once."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from fraudstream.errors import InvalidSettings
from fraudstream.runtime.usage_parser import day
from fraudstream.transaction.banks import ALL_BANKS
from services.scoring.rpc.authentication import load_grants
from services.scoring.rpc.grants import AccessRole, Grant, Grants, new_token, token_digest


def add_token(token: argparse.ArgumentParser) -> None:
    """Take the arguments of `token`."""
    token.add_argument("--role", required=True, type=AccessRole, choices=list(AccessRole))
    token.add_argument("--name", required=True, help="of the system that calls")
    token.add_argument(
        "--bank",
        action="append",
        metavar="NAME",
        help="bank whose transactions a caller may bring, once for each;"
        f" '{ALL_BANKS}' for all, as a processor needs",
    )
    token.add_argument(
        "--until", required=True, type=day, help="last day, YYYY-MM-DD, UTC, today or later"
    )
    token.add_argument(
        "--file", required=True, type=Path, help="callers file; made where it is missing"
    )
    token.add_argument(
        "--certificate", help="no token: a name in the client certificate, under mutual TLS"
    )
    token.set_defaults(run=_grant, parser=token)


def _grant(asked: argparse.Namespace) -> int:
    today = datetime.now(UTC).date()
    if asked.until < today:
        asked.parser.error(f"argument --until: expected {today} or later, found {asked.until}")
    if (asked.role is AccessRole.CALLER) != bool(asked.bank):
        is_needed = asked.role is AccessRole.CALLER
        expected = "one for the role caller at least" if is_needed else "none for this role"
        asked.parser.error(f"argument --bank: expected {expected}")
    token = "" if asked.certificate else new_token()
    try:
        grant = Grant(
            name=asked.name,
            role=asked.role,
            until=asked.until,
            token_sha256=token_digest(token).hex() if token else None,
            certificate=asked.certificate,
            banks=asked.bank,
        )
    except ValidationError as exc:
        raise InvalidSettings(_fault_of(asked, exc)) from exc
    known = load_grants(asked.file).all if asked.file.exists() else ()
    _replace(asked.file, Grants([*known, grant]).text())
    by = f"the certificate {asked.certificate}" if asked.certificate else "the token below"
    said = f"{asked.name} may call as {asked.role} until {asked.until}, by {by}"
    print(said, file=sys.stderr, flush=True)
    if token:
        print(token)
    return os.EX_OK


def _fault_of(asked: argparse.Namespace, exc: ValidationError) -> str:
    """Return which argument is wrong, and what it has to be."""
    field = str(next(iter(exc.errors(include_input=False)[0]["loc"]), "banks"))
    if field == "name":
        return f"{asked.name!r}: expected a name of lower-case letters, digits, dots and dashes"
    if field == "banks":
        found = f"--bank {' '.join(asked.bank)}"
        return f"{found}: expected bank ids (1 to 32 of A-Z a-z 0-9 _ -), or '{ALL_BANKS}' alone"
    return f"--{field}: {exc.errors(include_input=False)[0]['msg']}"


def _replace(path: Path, text: str) -> None:
    """Write the file again in one step, mode 0400: a running service reads the old one or this."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.absolute().parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o400)
    Path(file.name).replace(path)
