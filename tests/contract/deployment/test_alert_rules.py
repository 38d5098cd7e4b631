"""The alert rules are those of the runbook's table, on metrics that exist, and fire as it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry

from fraudstream.telemetry.exported_metrics import EXPORTED, registry_of
from fraudstream.telemetry.metrics import DRIFT_CALIBRATION, DRIFT_PSI
from harness.settings import MachineSettings
from tests.material.documented_metrics import ROOT, named_in

_FOLDER: Final = ROOT / "ops" / "prometheus"
RULES: Final = _FOLDER / "alerts.yaml"
_UNIT_TESTS: Final = sorted(_FOLDER.glob("*_test.yaml"))
_FOREIGN: Final = {"kafka_consumergroup_lag"}
_WRITTEN: Final = (
    (re.compile(r"(\d+) minutes"), lambda found: f"{found}m"),
    (re.compile(r"(\d+) hours"), lambda found: f"{found}h"),
    (re.compile(r"(\d+) %"), lambda found: str(int(found) / 100)),
    (re.compile(r"(\d+\.\d+)"), str),
)


def rules() -> list[dict[str, Any]]:
    """Return all rules: what is recorded, and alerts."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _alerts() -> dict[str, str]:
    """Return each alert's expression and duration, with the recording rules that it names."""
    records = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    found = {}
    for rule in rules():
        if "alert" not in rule:
            continue
        text = f"{rule['expr']} for {rule.get('for', '')}"
        for _ in records:
            text += "".join(expr for name, expr in records.items() if name in text)
        found[rule["alert"]] = text
    return found


def _rows() -> list[tuple[str, list[str], str]]:
    """Return metric, alerts and condition of each row of the runbook's table."""
    page = (ROOT / "docs" / "runbook.md").read_text()
    table = page.partition("| metric | alert | fires | meaning |\n")[2].partition("\n\n")[0]
    cells = [line.strip("|").split(" | ") for line in table.splitlines()[1:]]
    return [(row[0], re.findall(r"`(\w+)`", row[1]), row[2]) for row in cells]


def test_table_of_the_runbook_has_every_alert_and_no_other() -> None:
    """An alert that fires is looked up in the table; a row without a rule never fires."""
    assert sorted(name for _, names, _ in _rows() for name in names) == sorted(_alerts())


@pytest.mark.parametrize(("metric", "alerts", "fires"), _rows())
def test_alert_is_on_the_metric_and_the_numbers_of_its_row(
    metric: str, alerts: list[str], fires: str
) -> None:
    """Metrics, label values, durations and thresholds of a row stand in its rules."""
    text = "".join(_alerts()[alert] for alert in alerts)

    for name, labels in named_in(metric):
        assert name in text
        assert all(f'{label}="{value}"' in text for label, value in labels if value)
    for pattern, written in _WRITTEN:
        for found in pattern.findall(fires):
            assert written(found) in text


def exported_names() -> set[str]:
    """Return the names of all metrics that a service or command of ours exports."""
    registry = CollectorRegistry()
    registry.register(DRIFT_PSI)
    registry.register(DRIFT_CALIBRATION)
    registries = [registry, *map(registry_of, EXPORTED)]
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for one in registries
        for family in one.collect()
    }


def test_alert_is_on_metrics_that_somebody_exports() -> None:
    """A rule on a name that nobody exports never fires, and `promtool` does not say so."""
    named = set(re.findall(r"\b(?:fraud|kafka)_[a-z_]+", RULES.read_text()))

    assert named <= exported_names() | _FOREIGN


def test_every_alert_fires_in_a_unit_test() -> None:
    """A rule that was never seen to fire may be one that cannot."""
    texts = "".join(file.read_text() for file in _UNIT_TESTS)

    assert [name for name in _alerts() if f'alertname="{name}"}}' not in texts] == []


@pytest.fixture
def promtool(machine: MachineSettings) -> Path:
    """Prometheus' own checker; skips where it is missing."""
    if machine.promtool is None:
        pytest.skip("no promtool on the PATH (Debian's package prometheus)")
    return machine.promtool


@pytest.mark.parametrize(
    "arguments",
    [["check", "rules", str(RULES)], ["test", "rules", *map(str, _UNIT_TESTS)]],
    ids=["check", "test"],
)
def test_promtool_takes_the_rules_and_their_unit_tests(
    promtool: Path, arguments: list[str]
) -> None:
    """Prometheus reads the file, and its alerts fire when they should and only then."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
