"""Grafana's dashboard asks for metrics that somebody exports, in queries that are understood."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations, product
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from harness.settings import MachineSettings
from tests.contract.deployment.test_alert_rules import RULES, exported_names, rules
from tests.material.documented_metrics import ROOT, named_in

_FILE: Final = ROOT / "ops" / "grafana" / "fraudstream.json"
_WIDTH: Final = 24
_OF_HISTOGRAMS: Final = re.compile(r"_(bucket|sum|count)$")


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(_FILE.read_text())["panels"]
    return panels


def _queries() -> list[str]:
    return [target["expr"] for panel in _panels() for target in panel["targets"]]


def test_panels_ask_for_metrics_that_somebody_exports() -> None:
    """A panel on another name stays empty, and nobody notices."""
    named = {name for query in _queries() for name, _ in named_in(query)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}

    assert {_OF_HISTOGRAMS.sub("", name) for name in named} <= exported_names()
    assert set(re.findall(r"\bfraud:\w+", " ".join(_queries()))) <= recorded


def test_every_count_that_is_an_alarm_when_it_rises_is_on_one_panel() -> None:
    """Whoever opens the page at night sees at a glance what should not be."""
    (panel,) = [one for one in _panels() if one["title"] == "What stays at 0"]
    shown = {name for target in panel["targets"] for name, _ in named_in(target["expr"])}
    alarm = re.compile(r"^ *expr: sum\b.*increase\((fraud_\w+_total)[\[{]", re.MULTILINE)
    alarms = alarm.findall(RULES.read_text())

    assert len(alarms) >= 10
    assert set(alarms) <= shown


def test_panels_are_laid_out_side_by_side() -> None:
    """Each says what it shows, and none lies over another one."""
    panels = _panels()

    assert all(panel["title"] and panel["description"] for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [_cells(panel["gridPos"]) for panel in panels]
    assert all(x < _WIDTH for place in places for x, _ in place)
    assert not any(one & other for one, other in combinations(places, 2))


def _cells(place: dict[str, int]) -> set[tuple[int, int]]:
    columns = range(place["x"], place["x"] + place["w"])
    return set(product(columns, range(place["y"], place["y"] + place["h"])))


def test_reader_chooses_the_data_source() -> None:
    """No panel names a Prometheus of somebody's own."""
    (variable,) = json.loads(_FILE.read_text())["templating"]["list"]
    sources = [one["datasource"] for panel in _panels() for one in (panel, *panel["targets"])]

    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert {source["uid"] for source in sources} == {f"${{{variable['name']}}}"}


def test_prometheus_understands_the_queries(machine: MachineSettings, tmp_path: Path) -> None:
    """As rules, which its own checker reads."""
    if machine.promtool is None:
        pytest.skip("no promtool on the PATH (Debian's package prometheus)")
    recording = [{"record": f"panel:{n}", "expr": query} for n, query in enumerate(_queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recording}]}))

    done = subprocess.run(
        [machine.promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
