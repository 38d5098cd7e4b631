"""Key-encrypting keys for tests: a file, and a token of software that works as an HSM does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from fraudstream.keys.cli import main
from fraudstream.keys.secret_files import write_new

PIN: Final = "48291"
_LIBRARIES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


def kek_file(folder: Path) -> dict[str, str]:
    """Make a file of key-encrypting keys; return the settings that name it."""
    path = folder / "kek.json"
    assert main(["kek", str(path)]) == 0
    return {"FRAUD_KEYS_KEK_FILE": str(path)}


def soft_token(folder: Path) -> dict[str, str]:
    """Make a SoftHSM token; return the settings that name it. Skips where SoftHSM is not there.

    SoftHSM reads `SOFTHSM2_CONF` once in a process: what uses the token is a process of its own.
    """
    library = next(filter(lambda name: Path(name).exists(), _LIBRARIES), None)
    if library is None or shutil.which("softhsm2-util") is None:
        pytest.skip("no SoftHSM (Debian: softhsm2)")
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    (folder / "tokens").mkdir()
    told = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
    Path(told["SOFTHSM2_CONF"]).write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n"
    )
    write_new(folder / "pin", f"{PIN}\n")
    subprocess.run(
        f"softhsm2-util --init-token --free --label fraudstream --pin {PIN} --so-pin 9817".split(),
        env=told | {"PATH": "/usr/bin:/usr/local/bin"},
        check=True,
        capture_output=True,
    )
    return told | {
        "FRAUD_KEYS_PKCS11_MODULE": library,
        "FRAUD_KEYS_PKCS11_PIN_FILE": str(folder / "pin"),
    }
