"""A PostgreSQL server of a test's own, where the machine has one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.processes import ChildProcess, free_port, is_port_open
from tests.servers.tls_files import Leaf

READY_S = 45.0


@dataclass(frozen=True)
class PostgresServer:
    """One that runs.

    Attributes:
        port: On 127.0.0.1.
        folder: Of its socket; whoever comes by it is trusted.
        superuser: A name for that.
    """

    port: int
    folder: Path
    superuser: str


@contextmanager
def postgres_server(superuser: str, tls: Leaf | None = None) -> Iterator[PostgresServer]:
    """Start an empty server; skips where there is none or it may not be run.

    Args:
        superuser: Its first role.
        tls: Its certificate: over TCP only TLS and passwords are taken. None trusts everyone.
    """
    program = shutil.which("postgres")
    programs = Path(program).resolve().parent if program else Path()
    if not (programs / "initdb").is_file():
        pytest.skip("no PostgreSQL server (postgres and initdb) on the PATH")
    # The server refuses to run as root.
    other_user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
    if other_user and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="console-postgres-") as name:
        base = Path(name)
        base.chmod(0o777)
        initdb = [*other_user, str(programs / "initdb"), "-D", f"{base}/data", "-A", "trust"]
        subprocess.run([*initdb, "-U", superuser], check=True, capture_output=True, cwd=base)
        serve = [str(programs / "postgres"), "-D", f"{base}/data", "-p", str(port), "-k", name]
        serve += ["-c", "listen_addresses=127.0.0.1", *(_tls_options(base, tls) if tls else ())]
        server = ChildProcess("postgres", [*other_user, *serve], base / "log")
        server.start()
        server.wait_ready(lambda: is_port_open(port), READY_S)
        yield PostgresServer(port, base, superuser)
        server.stop()


def _tls_options(base: Path, tls: Leaf) -> Sequence[str]:
    """Hand the server its certificate, and return what makes it ask for TLS and passwords."""
    rules, cert, key = base / "hba.conf", base / "server.pem", base / "server.key"
    rules.write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
    shutil.copy(tls.cert, cert)
    shutil.copy(tls.key, key)
    key.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(key, "nobody")
    told = {"hba_file": rules, "ssl": "on", "ssl_cert_file": cert, "ssl_key_file": key}
    return [word for name, value in told.items() for word in ("-c", f"{name}={value}")]
