"""No label is lost and none is doubled in meaning: crashes and outages around the outbox."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.processes import wait_until
from harness.servers import EmbeddedBroker
from tests.browser.alerts import AlertSpec, make_alert
from tests.browser.console_server import ConsoleServer
from tests.browser.web_client import WebClient

SETTLED_S = 60.0


@pytest.fixture
def outage_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of this test's own, so that it can be taken away."""
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def outage_console(outage_broker: EmbeddedBroker, tmp_path: Path) -> Iterator[ConsoleServer]:
    """A console before that broker, not started."""
    console = ConsoleServer(outage_broker.bootstrap, outage_broker.environment(), tmp_path)
    console.create_topics()
    yield console
    console.process.stop()


def _analyst(console: ConsoleServer) -> WebClient:
    client = WebClient(console.address)
    client.log_in("analyst", "analyst-demo")
    return client


def _unsent(console: ConsoleServer) -> int:
    return int(console.query("SELECT count(*) FROM outbox_label WHERE sent_at_ms = 0")[0][0])


def test_a_publisher_killed_before_marking_sends_the_same_label_again(
    outage_console: ConsoleServer, tmp_path: Path
) -> None:
    """Killed after the acknowledgement: the label is sent again, under the same id and content."""
    console, alert = outage_console, make_alert(AlertSpec(1))
    landed = tmp_path / "crashes"
    crash = {"FRAUD_CRASH_AT": "console.after_label_sent:1", "FRAUD_CRASH_LOG": str(landed)}
    console.process.start(more_environment=crash)
    console.raise_alerts([alert])

    analyst = _analyst(console)
    # The process may die before it has answered: the disposition is stored all the same.
    with contextlib.suppress(http.client.RemoteDisconnected):
        analyst.settle(alert.alert_id, "genuine")
    assert wait_until(landed.exists, SETTLED_S), console.process.log_text()
    console.process.kill()
    unmarked = _unsent(console)
    console.process.start()
    assert wait_until(lambda: _unsent(console) == 0, SETTLED_S), console.process.log_text()

    labels = console.labels_of(alert)
    assert "console.after_label_sent" in landed.read_text()
    assert unmarked == 1
    assert len(labels) >= 2
    assert len({label.SerializeToString(deterministic=True) for label in labels}) == 1


@pytest.mark.slow
def test_settling_goes_on_while_the_broker_is_away(
    outage_broker: EmbeddedBroker, outage_console: ConsoleServer
) -> None:
    """They wait in the outbox; when the broker is back they arrive, and so do new alerts."""
    console = outage_console
    waiting, later = make_alert(AlertSpec(1)), make_alert(AlertSpec(2))
    console.process.start()
    console.raise_alerts([waiting])
    analyst = _analyst(console)

    # Frozen, it answers nobody and keeps what it has; ended, this broker would lose everything.
    outage_broker._process.signal(signal.SIGSTOP)
    status = analyst.settle(waiting.alert_id, "confirmed_fraud")
    gave_up = wait_until(lambda: "wait in the outbox" in console.process.log_text(), SETTLED_S)
    unsent = _unsent(console)
    outage_broker._process.signal(signal.SIGCONT)
    console.raise_alerts([later])

    assert (status, gave_up, unsent) == (302, True, 1)
    assert wait_until(lambda: _unsent(console) == 0, SETTLED_S), console.process.log_text()
    assert len({label.label_id for label in console.labels_of(waiting)}) == 1


def test_the_console_ends_in_time_when_asked(outage_console: ConsoleServer) -> None:
    """SIGTERM ends it with exit code 0, and it was ready and live before."""
    console = outage_console
    console.process.start()
    client = WebClient(console.address)
    probes = [client.get("/livez"), client.get("/readyz")]

    exit_code = console.process.stop(timeout_s=15.0)

    assert all('"ok": true' in probe for probe in probes)
    assert exit_code == 0


def _limit_files(console: ConsoleServer, size_bytes: int) -> None:
    """Let no process of the console write beyond a size of file, as a quota does."""
    master = console.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for pid in (master, *map(int, children)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def _readiness(console: ConsoleServer) -> tuple[int, dict[str, object]]:
    """Return status and content of the readiness probe."""
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_console_whose_database_is_full_says_so_and_loses_nothing(
    outage_console: ConsoleServer,
) -> None:
    """Not ready, in the database's words, and counted; with room again it stores what waited."""
    console = outage_console
    console.process.start()
    console.raise_alerts([make_alert(AlertSpec(1))])
    before = _readiness(console)
    _limit_files(console, 20_000)
    waiting = [make_alert(AlertSpec(number)) for number in range(2, 40)]
    console.publish((a.decision.card_token.encode(), a.SerializeToString(), []) for a in waiting)

    is_told = wait_until(lambda: _readiness(console)[0] == 503, SETTLED_S)
    _, told = _readiness(console)
    failures = console.metric('fraud_console_failures_total{loop="alerts",refused_by="database"}')
    _limit_files(console, resource.RLIM_INFINITY)

    assert before == (200, {"ok": True, "faults": [], "waiting": []})
    assert is_told, console.process.log_text()
    assert told["faults"] == ["alerts: disk I/O error"]
    assert "alerts: disk I/O error; again in" in console.process.log_text()
    assert failures > 0
    assert wait_until(lambda: _readiness(console)[0] == 200, SETTLED_S), console.process.log_text()
    assert console.query("SELECT count(*) FROM alert") == [(39,)]
