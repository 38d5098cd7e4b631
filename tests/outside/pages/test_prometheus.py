"""A scrape of the running line, by hand and by a real Prometheus with the shipped rules."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fraudstream.telemetry.exported_metrics import EXPORTED
from harness.line import SERVICES, Line
from harness.processes import PROJECT_FOLDER, ChildProcess, free_port, wait_until
from tests.conftest import environment_of_test
from tests.material.documented_metrics import documented

pytestmark = pytest.mark.slow
# Of `training drift`, which writes a file.
_OF_A_COMMAND = {"fraud_drift_psi", "fraud_drift_calibration_ratio"}
_RULES = PROJECT_FOLDER / "ops" / "prometheus" / "alerts.yaml"
_PROMETHEUS_S = 60.0


class Prometheus:
    """A Prometheus that scrapes some ports of loopback each second.

    Args:
        program: The program.
        folder: For its configuration, database and log.
        targets: Port by job.
    """

    def __init__(self, program: Path, folder: Path, targets: Mapping[str, int]) -> None:
        folder.mkdir(parents=True)
        self._port = free_port()
        scrapes = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for job, port in targets.items()
        ]
        configuration = folder / "prometheus.json"  # JSON is YAML
        intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration.write_text(
            json.dumps(
                {"global": intervals, "rule_files": [str(_RULES)], "scrape_configs": scrapes}
            )
        )
        command = [str(program), f"--config.file={configuration}"]
        command += [f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self._port}"]
        self.process = ChildProcess("Prometheus", command, folder / "prometheus.log")

    def ask(self, path: str) -> Any:
        """Return what its API answers; None while it does not."""
        address = f"http://127.0.0.1:{self._port}/api/v1/{path}"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, ConnectionError):
            return None

    def health(self) -> dict[str, str]:
        """Return how each job's last scrape went."""
        found = self.ask("targets")
        targets = found["activeTargets"] if found else []
        return {one["labels"]["job"]: one["health"] for one in targets}


@pytest.fixture(scope="module")
def metrics_ports(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, int]]:
    """The metrics port of each service of a running line."""
    folder = tmp_path_factory.mktemp("line")
    servers = environment_of_test(
        request.getfixturevalue("broker"), request.getfixturevalue("valkey")
    )
    more = {"FRAUD_ARCHIVE_ROOT": str(folder / "archive")}
    line = Line(folder, servers, more, (*SERVICES, ("services.archive", ())))
    line.prepare()
    ports = {service.name: free_port() for service in line.services}
    try:
        for service in line.services:
            variable = f"FRAUD_{service.name.partition('-')[0].upper()}_METRICS_PORT"
            service.launch({variable: str(ports[service.name])})
        for service in line.services:
            service.wait_ready(120.0)
        yield ports
    finally:
        line.stop()


@pytest.fixture(scope="module")
def scrapes(metrics_ports: Mapping[str, int]) -> Mapping[str, set[str]]:
    """Names of the samples that each running service shows, by service."""
    return {name: _scrape(port) for name, port in metrics_ports.items()}


def _scrape(port: int) -> set[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        sample.name
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("fraud_")
    }


def test_every_documented_metric_is_in_a_scrape(scrapes: Mapping[str, set[str]]) -> None:
    """An operator copies the name from the page into an alarm."""
    shown = set[str]().union(*scrapes.values())
    named = {name for names in documented().values() for name, _ in names}

    assert named - shown - _OF_A_COMMAND == set()


def test_service_shows_only_its_own_metrics(scrapes: Mapping[str, set[str]]) -> None:
    """Whatever else a service imports, its port shows what it counts itself."""
    for name, shown in scrapes.items():
        own = {metric._name for metric in EXPORTED[name.partition("-")[0]]}

        strangers = [sample for sample in shown if not any(sample.startswith(one) for one in own)]

        assert not strangers, name


@pytest.fixture
def watched(
    prometheus: Path, metrics_ports: Mapping[str, int], tmp_path: Path
) -> Iterator[Prometheus]:
    """Prometheus at every service of the line."""
    running = Prometheus(prometheus, tmp_path / "prometheus", metrics_ports)
    running.process.start()
    yield running
    running.process.stop()


def test_prometheus_scrapes_services_and_takes_the_rules(watched: Prometheus) -> None:
    """Every target is up, every rule evaluates, and no alert of a healthy line fires."""
    assert wait_until(
        lambda: set(watched.health().values()) == {"up"}, _PROMETHEUS_S, poll_s=0.5
    ), watched.process.log_text()

    def evaluated() -> list[dict[str, Any]]:
        groups = (watched.ask("rules") or {"groups": []})["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def all_evaluated() -> bool:
        return bool(evaluated()) and all(rule["health"] != "unknown" for rule in evaluated())

    assert wait_until(all_evaluated, _PROMETHEUS_S, poll_s=0.5)
    faulty = [
        (rule["name"], rule.get("lastError")) for rule in evaluated() if rule["health"] != "ok"
    ]
    firing = [rule["name"] for rule in evaluated() if rule.get("state") == "firing"]
    assert faulty == []
    assert firing == []
