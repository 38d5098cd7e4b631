"""`python -m services.scoring token`: let a system call, and show its token once."""

from __future__ import annotations

import argparse
import os
import tempfile
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from fraudstream.errors import InvalidSettings
from services.scoring.access import AccessRole, Grant, Grants, new_token, token_digest
from services.scoring.guard import load_grants


def add_token(token: argparse.ArgumentParser) -> None:
    """Take the arguments of `token`."""
    token.add_argument("--role", required=True, type=AccessRole, choices=list(AccessRole))
    token.add_argument("--name", required=True, help="of the system that calls")
    token.add_argument(
        "--until", required=True, type=date.fromisoformat, help="last day, YYYY-MM-DD, UTC"
    )
    token.add_argument(
        "--file", required=True, type=Path, help="callers file; made where it is missing"
    )
    token.add_argument(
        "--certificate", help="no token: a name in the client certificate, under mutual TLS"
    )
    token.set_defaults(run=_grant)


def _grant(asked: argparse.Namespace) -> int:
    token = "" if asked.certificate else new_token()
    try:
        grant = Grant(
            name=asked.name,
            role=asked.role,
            until=asked.until,
            token_sha256=token_digest(token).hex() if token else None,
            certificate=asked.certificate,
        )
    except ValidationError as exc:
        msg = f"{asked.name!r}: expected a name of lower-case letters, digits, dots and dashes"
        raise InvalidSettings(msg) from exc
    known = load_grants(asked.file).all if asked.file.exists() else ()
    _replace(asked.file, Grants([*known, grant]).text())
    if token:
        print(token)
    return os.EX_OK


def _replace(path: Path, text: str) -> None:
    """Write the file anew in one step, mode 0400: a running service reads the old one or this."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.absolute().parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o400)
    Path(file.name).replace(path)
