"""The console's commands about users and the trail, as an operator runs them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

PASSWORD = "a-first-password-1\n"  # noqa: S105  # of a database that is thrown away


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one user."""
    path = tmp_path_factory.mktemp("accounts") / "console.sqlite3"
    assert run(path, "create-user", "ada", text=PASSWORD).returncode == os.EX_OK
    return path


def run(
    database: Path, *arguments: str, text: str = "", code: int = os.EX_OK
) -> subprocess.CompletedProcess[str]:
    """Run a command of the console."""
    done = subprocess.run(
        [sys.executable, "-m", "services.console", *arguments],
        env={**os.environ, "FRAUD_CONSOLE_DATABASE_URL": f"sqlite:///{database}"},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_user_is_listed_changed_and_in_the_trail(database: Path) -> None:
    """Each act of an operator is an event, and the list shows what it did."""
    run(database, "change-user", "ada", "disable")
    listed = run(database, "list-users").stdout

    trail = [json.loads(line) for line in run(database, "audit").stdout.splitlines()]

    assert "ada\tdisabled\tno second factor" in listed
    acts = [(one["event"], one["who"], one["resource"], one["outcome"]) for one in trail]
    assert acts[:2] == [
        ("user_created", "operator", "ada", "done"),
        ("user_changed", "operator", "ada", "disable"),
    ]


def test_a_broken_trail_ends_with_65(database: Path) -> None:
    """Somebody with the database changed who it was."""
    run(database, "change-user", "ada", "unlock")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE audit_event SET who = 'eve' WHERE id = 1")

    told = run(database, "audit", code=os.EX_DATAERR)

    assert "does not follow the one before it" in told.stderr


def test_an_unknown_user_is_told(database: Path) -> None:
    """With what to do, and without a change."""
    told = run(database, "change-user", "eve", "unlock", code=os.EX_CONFIG)

    assert "list-users" in told.stderr


def test_a_day_of_another_form_is_told_as_usage(database: Path) -> None:
    """With the form that is expected."""
    told = run(database, "audit", "--since", "31.12.2027", code=os.EX_USAGE)

    assert "expected a day as YYYY-MM-DD, found '31.12.2027'" in told.stderr
