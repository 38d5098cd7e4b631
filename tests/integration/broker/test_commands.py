"""Every command ends as the runbook's table of exit codes says, and names what it tried."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.signing import make_signer
from fraudstream.transaction.card_token import write_token_keys
from fraudstream.version import VERSION
from harness.processes import ChildProcess, free_port
from tests.material.commands import BROKER_COMMANDS, MODULES, USAGE_ERRORS
from tests.worlds.trust import PEOPLE, RULES_FILE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def away(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[tuple[str, str], ChildProcess]]:
    """Every command that needs a broker, run where none listens; all at once, each ended."""
    folder = tmp_path_factory.mktemp("away")
    write_token_keys(folder / "token.keys")
    write_seal_keys(folder / "seal.private", folder / "seal.public")
    PEOPLE.save(folder / "people.json")
    make_signer(folder / "key", "publisher")
    shutil.copy(RULES_FILE, folder / "r.toml")
    (folder / "labels.csv").write_text("bank_id,transaction_id,disposition\nb,t,genuine\n")
    (folder / "past").mkdir()
    environment = {
        **request.getfixturevalue("valkey").environment(),
        "FRAUD_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(folder / "token.keys"),
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(folder / "seal.public"),
        "FRAUD_INGEST_SEAL_PRIVATE_KEY_FILE": str(folder / "seal.private"),
        "FRAUD_INGEST_ARCHIVE_ROOT": str(folder / "past"),
        "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE": str(folder / "seal.public"),
        "FRAUD_FEATURES_STATE_DIR": str(folder / "features"),
        "FRAUD_SCORING_MODEL": "",
        "FRAUD_SCORING_PEOPLE_FILE": str(folder / "people.json"),
        "FRAUD_SCORING_RULE_SET_FILE": str(RULES_FILE),
        "FRAUD_SCORING_PORT": str(free_port()),
        "FRAUD_SCORING_INTERNAL_PORT": str(free_port()),
        "FRAUD_ARCHIVE_ROOT": str(folder / "archive"),
    }
    running = {}
    for number, (module, arguments) in enumerate(BROKER_COMMANDS):
        command = [sys.executable, "-m", module, *shlex.split(arguments.format(folder=folder))]
        log = folder / f"{number}.log"
        running[module, arguments] = ChildProcess(str(number), command, log, environment)
    for process in running.values():
        process.start()
    for process in running.values():
        process.wait_end(timeout_s=240.0)
    yield running
    for process in running.values():
        process.kill()


@pytest.mark.parametrize("command", BROKER_COMMANDS, ids=" ".join)
def test_broker_that_is_away_is_told_with_its_address(
    away: Mapping[tuple[str, str], ChildProcess], command: tuple[str, str]
) -> None:
    """69, one reason and where it was looked for: a wrong port is found by reading it."""
    process = away[command]

    said = process.log_text()
    assert process.exit_code == 69, said[-2_000:]
    assert "127.0.0.1:" in said
    assert "Traceback" not in said


def _ended(module: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(("module", "arguments"), USAGE_ERRORS)
def test_wrong_command_line_ends_with_the_code_of_usage(
    module: str, arguments: str, tmp_path: Path
) -> None:
    """64 and the usage line, whatever the program: a script can tell a slip from a fault."""
    ended = _ended(module, shlex.split(arguments))

    assert ended.returncode == 64, ended.stderr
    assert "usage: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not re.search(r"invalid \w*_\w* value", ended.stderr)  # a function's name tells nothing


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("services.ingest", []),
        ("services.features", ["card"]),
        ("services.scoring", []),
        ("services.console", []),
        ("services.archive", []),
    ],
)
def test_metrics_port_in_use_is_told_at_once(
    module: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """78, the address and the variable; no broker, store or model is waited for."""
    service = module.removeprefix("services.").upper()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv(f"FRAUD_{service}_METRICS_PORT", str(port))
        monkeypatch.setenv("FRAUD_CONSOLE_DATABASE_URL", f"sqlite:///{tmp_path}/console.sqlite3")
        monkeypatch.setenv("FRAUD_CONSOLE_PORT", str(free_port()))

        ended = _ended(module, arguments)

    assert ended.returncode == 78, ended.stderr
    assert f"127.0.0.1:{port}: another process listens there" in ended.stderr
    assert f"FRAUD_{service}_METRICS_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("module", ["fraudstream", *MODULES])
def test_every_program_knows_its_release(module: str) -> None:
    """`--version` needs no setting, no broker and no store."""
    ended = _ended(module, ["--version"])

    assert (ended.returncode, ended.stdout.strip()) == (0, f"fraudstream {VERSION}")
