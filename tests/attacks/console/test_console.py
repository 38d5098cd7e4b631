"""The console, attacked over HTTP by somebody who knows a name and has no password."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.servers import Broker
from tests.browser.alerts import AlertSpec, make_alert
from tests.browser.console_server import ConsoleServer
from tests.browser.web_client import WebClient

pytestmark = [pytest.mark.attack, pytest.mark.slow]
WRONG = "not-the-password-1"


@pytest.fixture(scope="module")
def console(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleServer]:
    """A console of its own, for its guesses are counted."""
    prefix = {"FRAUD_KAFKA_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}-"}
    folder = tmp_path_factory.mktemp("console")
    server = ConsoleServer(broker.bootstrap, {**broker.environment(), **prefix}, folder)
    server.create_topics()
    server.process.start()
    yield server
    server.process.stop()


def guess(console: ConsoleServer, name: str, password: str = WRONG) -> int:
    """Try one password with a browser that is new here; return the status."""
    client = WebClient(console.address)
    client.get("/login")
    return client.post("/login", {"username": name, "password": password})


def run_command(console: ConsoleServer, *arguments: str, text: str = "") -> int:
    """Run a command of the console with its settings."""
    return subprocess.run(
        [sys.executable, "-m", "services.console", *arguments],
        env={**os.environ, **console.environment},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    ).returncode


def test_c4_strangers_lock_nobody_out_of_the_usual_desk(console: ConsoleServer) -> None:
    """Who knows a name can keep other strangers out, and never the analyst."""
    writer = WebClient(console.address)
    writer.log_in("colleague", "colleague-demo")
    writer.get("/")
    writer.post("/logout", {})
    for _ in range(6):
        guess(console, "colleague")

    writer.get("/login")

    assert writer.post("/login", {"username": "colleague", "password": "colleague-demo"}) == 302


def test_c1_a_spelling_gives_no_more_guesses(console: ConsoleServer) -> None:
    """Full-width letters are the same name, to the bound as to the login."""
    letters = "analyst"
    spellings = [
        letters[:place] + chr(ord(mark) + 0xFEE0) + letters[place + 1 :]
        for place, mark in enumerate(letters)
    ]

    tried = [guess(console, name) for name in spellings]

    assert tried == [401] * 5 + [429] * 2
    assert guess(console, spellings[0], "analyst-demo") == 429
    # Django's form takes blanks away before it looks for the name.
    assert guess(console, " " * 200 + spellings[0], "analyst-demo") == 429


def test_c1b_guesses_at_once_are_no_more(console: ConsoleServer) -> None:
    """Twenty-four posts together are five guesses."""
    with ThreadPoolExecutor(24) as pool:
        tried = list(pool.map(lambda _: guess(console, "nobody-here"), range(24)))

    assert tried.count(401) == 5


@pytest.mark.parametrize("password", ["aaaaaaaaaaaa", "passwordpassword", "abcdefghijkl"])
def test_c2_a_weak_password_makes_no_user(console: ConsoleServer, password: str) -> None:
    """At least a letter and a digit (PCI DSS 8.3.6)."""
    assert run_command(console, "create-user", "weak", text=password) == os.EX_CONFIG


def test_c3_a_failed_login_leaves_a_trace(console: ConsoleServer) -> None:
    """Who, from where, with which outcome, in a log that leaves the machine."""
    guess(console, "ANALYST")

    lines = [line for line in console.process.log_text().splitlines() if "sign_in" in line]
    assert any("analyst" in line and "127.0.0.1" in line for line in lines)


def test_c5_forged_losses_do_not_close_the_queue(console: ConsoleServer) -> None:
    """An alert with the largest number there is, beside an honest one."""
    honest = make_alert(AlertSpec(1))
    forged = make_alert(AlertSpec(2))
    forged.expected_loss_minor = 2**63 - 1
    console.publish([(b"card", forged.SerializeToString(), [])])
    console.raise_alerts([honest])
    run_command(console, "change-user", "analyst", "unlock")
    analyst = WebClient(console.address)
    analyst.log_in("analyst", "analyst-demo")

    assert honest.decision.transaction.merchant_id in analyst.get("/")


def test_c7_the_database_is_its_owners_alone(console: ConsoleServer) -> None:
    """Hashes of passwords, sessions and alerts, and the log of writes beside them."""
    files = list(Path(console.database.parent).glob("console.sqlite3*"))

    assert files
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * len(files)
