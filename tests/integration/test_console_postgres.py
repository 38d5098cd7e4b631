"""The console on PostgreSQL: the same flow, by one setting."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from demo.processes import ChildProcess, free_port, is_port_open, wait_until
from demo.servers import Broker
from tests.browser.alerts import AlertSpec, make_alert
from tests.browser.console_server import ConsoleServer
from tests.browser.web_client import WebClient

READY_S = 45.0


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database; skips where the server is missing or may not be run."""
    programs = shutil.which("postgres")
    folder = Path(programs).resolve().parent if programs else Path()
    if not (folder / "initdb").is_file():
        pytest.skip("no PostgreSQL server (postgres and initdb) on the PATH")
    # The server refuses to run as root.
    other_user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
    if other_user and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="console-postgres-") as name:
        base = Path(name)
        base.chmod(0o777)
        initdb = [*other_user, str(folder / "initdb"), "-D", f"{base}/data", "-A", "trust"]
        subprocess.run([*initdb, "-U", "console"], check=True, capture_output=True, cwd=base)
        serve = [str(folder / "postgres"), "-D", f"{base}/data", "-p", str(port), "-k", name]
        server = ChildProcess(
            "postgres", [*other_user, *serve, "-c", "listen_addresses=127.0.0.1"], base / "log"
        )
        server.start()
        server.wait_ready(lambda: is_port_open(port), READY_S)
        yield f"postgresql://console@127.0.0.1:{port}/postgres"
        server.stop()


def test_an_alert_is_settled_on_postgresql(
    postgres_url: str, broker: Broker, line_env: Mapping[str, str], tmp_path: Path
) -> None:
    """From Kafka to the page, by a form to the outbox, and as a label back to Kafka."""
    console = ConsoleServer(broker.bootstrap, line_env, tmp_path)
    console.create_topics()
    alert = make_alert(AlertSpec(1))
    console.process.start(more_environment={"FRAUD_CONSOLE_DATABASE_URL": postgres_url})
    try:
        analyst = WebClient(console.address)
        analyst.log_in("analyst", "analyst-demo")
        console.publish([(b"key", alert.SerializeToString(), [])])
        assert wait_until(lambda: alert.alert_id in analyst.get("/"), READY_S)

        status = analyst.settle(alert.alert_id, "genuine")
        assert wait_until(lambda: len(console.labels_of(alert)) == 1, READY_S)

        assert status == 302
        assert "Settled by" in analyst.get(f"/alerts/{alert.alert_id}")
    finally:
        console.process.stop()
