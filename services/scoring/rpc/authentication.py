"""Lets a call in before its message is parsed: by bearer token, or by client certificate.

Budget: 5 microseconds a call (metadata, one SHA-256, one look-up). The callers file is looked at
once a second and read again when it changed, so a token is withdrawn without a restart; a file
that cannot be read leaves the grants as they were and says so in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings, PermissionDenied, Unauthenticated
from fraudstream.grpc_access import AUTHORIZATION, BEARER
from fraudstream.keys.secret_files import read_secret
from fraudstream.runtime.file_change import FileState, state_of
from fraudstream.telemetry.metrics import CALLS_REFUSED
from services.scoring.rpc.grants import AccessRole, Grant, Grants, check_role
from services.scoring.rpc.open_calls import Admit, Context
from services.scoring.rpc.refusals import RefusalLog

_LOG: Final = logging.getLogger(__name__)
_NAMES_SHOWN: Final = 200


class CallersFile:
    """The grants of a file, as it is now.

    Raises:
        InvalidSettings: It cannot be read at the start.
    """

    def __init__(self, path: Path, clock_ms: Callable[[], int]) -> None:
        self._path = path
        self._clock_ms = clock_ms
        self._looked_s = clock_ms() // 1000
        self._state = state_of(path)
        self._grants = load_grants(path)

    def grants(self, now_ms: int) -> Grants:
        """Return the grants; looks for a change of the file at most once a second."""
        if now_ms // 1000 != self._looked_s:
            self._looked_s = now_ms // 1000
            self._read_change(state_of(self._path))
        return self._grants

    def _read_change(self, state: FileState) -> None:
        if state == self._state:
            return
        self._state = state
        try:
            self._grants = load_grants(self._path)
        except InvalidSettings as exc:
            _LOG.error("the callers file is left as it was: %s", exc)  # the message says it all
        else:
            _LOG.info("the callers file was read again: %d grants", len(self._grants.all))


class Guard:
    """Checks who calls. Without a callers file everyone may."""

    def __init__(self, path: Path, clock_ms: Callable[[], int]) -> None:
        self._file = CallersFile(path, clock_ms)
        self._clock_ms = clock_ms
        self._refusals = RefusalLog()

    def admit(self, role: AccessRole, service: str) -> Admit:
        """Return the check of calls to one service, which needs a role."""

        def admit(context: Context, method: str) -> Grant:
            grant: Grant | None = None
            try:
                grant = self._grant_of(context)
                check_role(grant, role, service)
            except (Unauthenticated, PermissionDenied) as exc:
                CALLS_REFUSED.labels(exc.outcome.status.lower()).inc()
                who = grant.name if grant else _stranger(context)
                self._refusals.note(who, context.peer(), method, exc)
                raise
            return grant

        return admit

    def _grant_of(self, context: Context) -> Grant:
        now_ms = self._clock_ms()
        grants = self._file.grants(now_ms)
        for key, value in context.invocation_metadata() or ():
            if key == AUTHORIZATION:
                scheme, _, token = str(value).partition(" ")
                if scheme.lower() != BEARER:
                    msg = "expected `authorization: Bearer TOKEN`, found another scheme"
                    raise Unauthenticated(msg)
                return grants.by_token(token.strip(), now_ms)
        names = certificate_names(context)
        if not names:
            msg = "expected a token (metadata `authorization: Bearer TOKEN`), or under mutual TLS"
            raise Unauthenticated(f"{msg} a client certificate; found neither")
        return grants.by_certificate(names, now_ms)


def _stranger(context: Context) -> str:
    """Return what a caller without a grant came with; nothing of a token."""
    metadata = context.invocation_metadata() or ()
    if any(key == AUTHORIZATION for key, _ in metadata):
        return "a caller with another token"
    names = certificate_names(context)
    return (
        f"a caller with certificate {names}"[:_NAMES_SHOWN] if names else "a caller without token"
    )


def certificate_names(context: Context) -> list[str]:
    """Return the names of a peer's verified certificate: the alternative ones, else the common."""
    found = context.auth_context()
    names = found.get("x509_subject_alternative_name") or found.get("x509_common_name") or ()
    return [name.decode(errors="replace") for name in names]


def load_grants(path: Path) -> Grants:
    """Read a callers file.

    Raises:
        InvalidSettings: It is missing, too open or malformed.
    """
    try:
        return Grants.parse(read_secret(path))
    except InvalidSettings as exc:
        raise InvalidSettings(f"{path}: {exc}; `services.scoring token` makes it") from exc
