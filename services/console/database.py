"""Where the console keeps its tables, for Django: SQLite, or PostgreSQL over verified TLS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from fraudstream.errors import InvalidSettings
from fraudstream.grpc_access import is_loopback_address
from fraudstream.keys.secret_files import read_secret
from services.console.settings import ConsoleSettings

# A lock on SQLite is held for the length of one short transaction; 20 s outlasts any queue of them.
_SQLITE_BUSY_S: Final = 20
_STATEMENT_TIMEOUT_MS: Final = 5_000
# The only mode of libpq that knows whom it talks to: `require` takes any certificate.
_VERIFIED: Final = "verify-full"


def databases(settings: ConsoleSettings) -> dict[str, Any]:
    """Return Django's `DATABASES`.

    Raises:
        InvalidSettings: The address is of another database, or of one that anybody may pose as.
    """
    url = urlsplit(settings.database_url.get_secret_value())
    if url.scheme == "sqlite":
        return {"default": _sqlite(url.path[1:])}
    if url.scheme in {"postgresql", "postgres"}:
        return {"default": _postgresql(settings, url)}
    msg = f"database_url begins with {url.scheme!r}; sqlite and postgresql are known"
    raise InvalidSettings(msg)


def _postgresql(settings: ConsoleSettings, url: SplitResult) -> dict[str, Any]:
    """Return PostgreSQL; what the address says behind its `?` is libpq's."""
    options = dict(parse_qsl(url.query))
    is_near = not url.hostname or is_loopback_address(url.hostname)
    is_verified = options.get("sslmode") == _VERIFIED
    if not (is_near or is_verified or settings.database_trusts_network):
        msg = (
            f"FRAUD_CONSOLE_DATABASE_URL names {url.hostname} without sslmode={_VERIFIED}: whoever"
            " answers there gets the password and the alerts. Add"
            f" ?sslmode={_VERIFIED}&sslrootcert=CA_FILE, or say"
            " FRAUD_CONSOLE_DATABASE_TRUSTS_NETWORK=true"
        )
        raise InvalidSettings(msg)
    if settings.database_password_file and url.password:
        msg = "database_url and database_password_file: expected one password, found one in each"
        raise InvalidSettings(msg)
    password = unquote(url.password or "")
    if settings.database_password_file:
        password = read_secret(Path(settings.database_password_file)).strip()
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path[1:],
        "USER": unquote(url.username or ""),
        "PASSWORD": password,
        "HOST": url.hostname or "",
        "PORT": str(url.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": 5,
            "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
        }
        | options,
    }


def _sqlite(path: str) -> dict[str, Any]:
    """Return SQLite with a write-ahead log: readers never wait, writers wait for each other.

    The file holds hashes of passwords and alerts: it is its owner's alone. SQLite gives its two
    neighbours, log and index, the same mode.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(handle, 0o600)
        os.close(handle)
    except OSError as exc:
        raise InvalidSettings(f"cannot open the database {path}: {exc.strerror}") from exc
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": _SQLITE_BUSY_S,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
