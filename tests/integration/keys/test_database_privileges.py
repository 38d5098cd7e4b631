"""The console's role in PostgreSQL, and the server that it talks to, on a real one with TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from harness.processes import PROJECT_FOLDER, free_port
from tests.servers.postgres_server import PostgresServer, postgres_server
from tests.servers.tls_files import TestCa

ROLES: Final = PROJECT_FOLDER / "ops" / "postgresql" / "roles.sql"
_WORDS: Final = {"console": "of-the-console", "console_owner": "of-the-owner"}


@dataclass(frozen=True)
class Database:
    """The console's database as `roles.sql` and `migrate` make it."""

    server: PostgresServer
    ca: Path
    folder: Path

    def url(self, role: str, host: str = "127.0.0.1", ca: Path | None = None) -> str:
        """Return the address for a role, with the server's certificate verified."""
        options = f"sslmode=verify-full&sslrootcert={ca or self.ca}"
        return f"postgresql://{role}@{host}:{self.server.port}/console?{options}"

    def environment(self, role: str, **more: str) -> Mapping[str, str]:
        """Return the console's settings for a role."""
        told = {"DATABASE_URL": self.url(role), "DATABASE_PASSWORD_FILE": str(self.folder / role)}
        return {f"FRAUD_CONSOLE_{name}": value for name, value in (told | more).items()}

    def connect(self, role: str, **more: Any) -> psycopg.Connection:
        """Connect as a role."""
        return psycopg.connect(self.url(role, **more), password=_WORDS[role], autocommit=True)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A server with TLS, its roles, its tables and a schema of somebody else."""
    if not shutil.which("psql"):
        pytest.skip("no psql on the PATH")
    folder = tmp_path_factory.mktemp("database")
    ca = TestCa(folder)
    for role, word in _WORDS.items():
        (folder / role).write_text(f"{word}\n")
        (folder / role).chmod(0o400)
    with postgres_server("postgres", ca.leaf("database")) as server:
        made = Database(server, ca.file, folder)
        for _ in range(2):  # it may run again
            _run_roles(made)
        assert console(made.environment("console_owner"), "migrate").returncode == 0
        where = f"host={server.folder} port={server.port} user=postgres dbname=console"
        with psycopg.connect(where, autocommit=True) as other:
            other.execute("CREATE SCHEMA other")
            other.execute("CREATE TABLE other.notes (text text)")
        yield made


def _run_roles(made: Database) -> None:
    names = {"console": "CONSOLE_PASSWORD_FILE", "console_owner": "CONSOLE_OWNER_PASSWORD_FILE"}
    files = {name: str(made.folder / role) for role, name in names.items()}
    socket = ["-h", str(made.server.folder), "-p", str(made.server.port), "-U", "postgres"]
    subprocess.run(
        ["psql", "-X", "-q", *socket, "-v", "ON_ERROR_STOP=1", "-f", str(ROLES)],
        check=True,
        capture_output=True,
        env={**os.environ, **files},
    )


def console(
    environment: Mapping[str, str], *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command of the console."""
    return subprocess.run(
        [sys.executable, "-m", "services.console", *arguments],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        env={**os.environ, **environment},
    )


def test_console_works_by_its_own_role(database: Database) -> None:
    """It makes a user where it may make no table."""
    environment = database.environment("console", DATABASE_MIGRATES="false")

    done = console(environment, "create-user", "anna", stdin="Violet-Harbour-1987-x\n")

    assert done.returncode == 0, done.stderr
    with database.connect("console") as own:
        assert own.execute("SELECT username FROM auth_user").fetchall() == [("anna",)]
        trail = own.execute("SELECT resource FROM audit_event").fetchall()
    assert trail == [("anna",)]


@pytest.mark.parametrize(
    "command",
    [
        "CREATE TABLE mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "DROP TABLE auth_user",
        "ALTER TABLE auth_user ADD COLUMN a int",
        "TRUNCATE auth_user CASCADE",
        "UPDATE audit_event SET who = 'nobody'",
        "DELETE FROM audit_event",
        "INSERT INTO audit_event (id, at_ms) VALUES (9000000, 0)",
        "SELECT setval(pg_get_serial_sequence('audit_event', 'id'), 9000000)",
        "DELETE FROM django_migrations",
        "SELECT * FROM other.notes",
        "SET ROLE console_owner",
        "SET SESSION AUTHORIZATION postgres",
        "COPY auth_user TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_role_of_the_console_may_do_no_more(database: Database, command: str) -> None:
    """It neither makes, changes nor drops what is stored, nor reads what is not its own."""
    with database.connect("console") as own, pytest.raises(psycopg.errors.InsufficientPrivilege):
        own.execute(command.encode())


def test_roles_of_this_release_take_rights_of_an_older_one_back(database: Database) -> None:
    """Where the trail was made before: the database alone numbers its rows."""
    with database.connect("console_owner") as owner:
        owner.execute("GRANT INSERT ON audit_event TO console")

    _run_roles(database)

    with database.connect("console") as own, pytest.raises(psycopg.errors.InsufficientPrivilege):
        own.execute("INSERT INTO audit_event (id, at_ms) VALUES (9000000, 0)")


def test_role_that_may_make_no_tables_says_what_it_lacks(database: Database) -> None:
    """A release with new tables ends at its start, and names the command."""
    socket = f"host={database.server.folder} port={database.server.port} dbname=console"
    with psycopg.connect(f"{socket} user=console_owner", autocommit=True) as owner:
        owner.execute(
            b"DELETE FROM console.django_migrations"
            b" WHERE app = 'sessions' AND name = '0001_initial'"
        )
        try:
            done = console(
                database.environment("console", DATABASE_MIGRATES="false", PORT=str(free_port())),
                "serve",
            )
        finally:
            owner.execute(
                b"INSERT INTO console.django_migrations (app, name, applied)"
                b" VALUES ('sessions', '0001_initial', now())"
            )

    assert done.returncode == os.EX_CONFIG
    assert "the database lacks 1 changes of this release (sessions 0001_initial" in done.stderr
    assert "fraudstream console migrate" in done.stderr


def test_server_of_another_ca_is_refused(database: Database, tmp_path: Path) -> None:
    """Whoever answers with a certificate of somebody else's gets no password."""
    with pytest.raises(psycopg.OperationalError, match="SSL error"):
        database.connect("console", ca=TestCa(tmp_path).file)


def test_server_of_another_name_is_refused(database: Database) -> None:
    """Its certificate names 127.0.0.1."""
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        database.connect("console", host="localhost")


def test_console_ends_where_the_server_is_not_the_one(database: Database, tmp_path: Path) -> None:
    """By its own settings, not by the test's client."""
    url = database.url("console", ca=TestCa(tmp_path).file)
    environment = {**database.environment("console"), "FRAUD_CONSOLE_DATABASE_URL": url}

    done = console(environment, "create-user", "eve", stdin="Violet-Harbour-1987-x\n")

    assert done.returncode == os.EX_UNAVAILABLE
    assert "SSL error" in done.stderr
