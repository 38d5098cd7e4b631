"""A key-encrypting key in a PKCS#11 token: real commands against a token of software."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.keks import PIN, kek_file, soft_token

_READS = """
import sys
from pathlib import Path
from fraudstream.transaction.card_token import TokenKeys
print(TokenKeys.load(Path(sys.argv[1])).check_value)
"""


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """The environment of commands that use the token; its key is made."""
    told = dict(os.environ) | soft_token(tmp_path)
    assert run(told, "-m", "fraudstream.keys", "kek", "--in-token").returncode == 0
    return told


def run(told: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python with some settings."""
    words = [sys.executable, *map(str, arguments)]
    return subprocess.run(words, env=told, capture_output=True, text=True, check=False)


def keys(told: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command about keys."""
    return run(told, "-m", "fraudstream.keys", *arguments)


def test_keys_are_made_under_the_token_and_read_again(told: dict[str, str], tmp_path: Path) -> None:
    """The wrapped file opens with the token and its PIN, and with nothing less."""
    path = tmp_path / "token-keys.json"

    made = run(told, "-m", "services.ingest", "keys", "token", path)
    read = run(told, "-c", _READS, path)
    without = run({n: v for n, v in told.items() if "FRAUD_KEYS" not in n}, "-c", _READS, path)
    wrong = tmp_path / "wrong"
    wrong.write_text("00000\n")
    wrong.chmod(0o400)
    refused = run(told | {"FRAUD_KEYS_PKCS11_PIN_FILE": str(wrong)}, "-c", _READS, path)

    assert made.returncode == 0, made.stderr
    assert "fraudstream-kek-1" in path.read_text()
    assert (read.returncode, len(read.stdout.strip())) == (0, 6), read.stderr
    assert "is wrapped under key-encrypting key fraudstream-kek-1" in without.stderr
    assert "expected it to be there and to take the PIN, found PinIncorrect" in refused.stderr
    assert PIN not in refused.stderr


def test_files_move_from_a_file_of_keys_to_the_token_and_to_its_next_key(
    told: dict[str, str], tmp_path: Path
) -> None:
    """`rewrap` with the former file, then with another label: the keys stay the same."""
    path, file = tmp_path / "token-keys.json", kek_file(tmp_path)
    of_file = {n: v for n, v in told.items() if "FRAUD_KEYS" not in n} | file
    run(of_file, "-m", "services.ingest", "keys", "token", path)
    before = run(of_file, "-c", _READS, path).stdout
    second = told | {"FRAUD_KEYS_PKCS11_KEY": "fraudstream-kek-2"}

    moved = keys(told, "rewrap", "--former-kek-file", file["FRAUD_KEYS_KEK_FILE"], path)
    again = keys(told, "kek", "--in-token")
    made = keys(second, "kek", "--in-token")
    rotated = keys(second, "rewrap", path)

    assert moved.returncode == 0, moved.stderr
    assert "has a key fraudstream-kek-1 already" in again.stderr
    assert made.returncode == 0, made.stderr
    assert "from key fraudstream-kek-1 to fraudstream-kek-2" in rotated.stdout
    assert run(told, "-c", _READS, path).stdout == before != ""


def test_changed_file_and_missing_key_are_told_apart(told: dict[str, str], tmp_path: Path) -> None:
    """A swapped label is a key that is not there; a changed content does not open."""
    path = tmp_path / "token-keys.json"
    run(told, "-m", "services.ingest", "keys", "token", path)
    text = path.read_text()
    path.chmod(0o600)

    path.write_text(text.replace("fraudstream-kek-1", "other"))
    absent = run(told, "-c", _READS, path)
    path.write_text(text.replace("token-keys.json", "other-name.json"))
    renamed = path.rename(tmp_path / "other-name.json")
    changed = run(told, "-c", _READS, renamed)

    assert "expected key-encrypting key other, found none" in absent.stderr
    assert "does not open under key-encrypting key fraudstream-kek-1" in changed.stderr
