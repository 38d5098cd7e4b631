"""The console on PostgreSQL: the same flow, by one setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.processes import wait_until
from harness.servers import Broker
from tests.browser.alerts import AlertSpec, make_alert
from tests.browser.console_server import ConsoleServer
from tests.browser.web_client import WebClient
from tests.servers.postgres_server import READY_S, postgres_server


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database; skips where the server is missing or may not be run."""
    with postgres_server("console") as server:
        yield f"postgresql://console@127.0.0.1:{server.port}/postgres"


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
