"""The gate on ratios: worse beyond interval and margin fails, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fraudstream.errors import InvalidSettings
from loadtest.bench.cli import run
from loadtest.bench.figure import Figure
from loadtest.bench.gate import Verdict, gate, has_failed, ratios_of, read_rows
from tests.unit.test_bench import COST, RATIO, FakeExperiment

CHEAP = Figure("cheap", "Ours over theirs", "ratio", is_cost=True)


def row(name: str, value: float | None, unit: str = "ratio") -> dict[str, Any]:
    """Return a row as the benchmark writes it, its interval a tenth to each side."""
    spread = None if value is None else [value * 0.9, value * 1.1]
    return {"name": name, "value": value, "unit": unit, "spread": spread}


def committed(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    """Return a file of results as it is kept."""
    path = tmp_path / "committed.json"
    path.write_text(json.dumps({"date": "2026-11-27", "rows": rows}))
    return path


def measured(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    """Return a file as `--json` writes it."""
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (2.0, Verdict.HOLDS),
        (1.6, Verdict.HOLDS),  # 1.8 / 1.15 = 1.565 is the least
        (1.5, Verdict.WORSE),
        (2.5, Verdict.HOLDS),
        (2.6, Verdict.BETTER),
        (None, Verdict.MISSING),
    ],
)
def test_ratio_is_worse_beyond_interval_and_margin(found: float | None, verdict: Verdict) -> None:
    """The committed 2.0 has the interval 1.8 to 2.2; fifteen percent more are let pass."""
    known = ratios_of([row("ratio", 2.0)])

    (gated,) = gate([RATIO], known, {} if found is None else {"ratio": found})

    assert gated.verdict is verdict


def test_of_a_cost_more_is_worse() -> None:
    """The direction is the figure's."""
    known = ratios_of([row("cheap", 2.0)])

    assert gate([CHEAP], known, {"cheap": 2.6})[0].verdict is Verdict.WORSE
    assert gate([CHEAP], known, {"cheap": 1.5})[0].verdict is Verdict.BETTER


def test_times_and_skipped_figures_are_not_compared() -> None:
    """A time is another machine's, and what was skipped has no value."""
    known = ratios_of([row("cost", 5.0, unit="µs"), row("ratio", None)])

    assert gate([RATIO, COST], known, {"ratio": 1.0, "cost": 500.0}) == []


def test_gate_that_sees_nothing_fails() -> None:
    """A run without one committed figure must not pass for a good one."""
    assert has_failed([])
    assert has_failed(gate([RATIO], ratios_of([row("ratio", 2.0)]), {}))


@pytest.mark.parametrize(("value", "code"), [(1.9, 0), (1.0, 1)])
def test_command_gates_rows_that_were_measured_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, code: int
) -> None:
    """Exit code and table come without a measurement."""
    experiment = FakeExperiment()
    known = committed(tmp_path, row("ratio", 2.0), row("of another release", 1.0))
    run_rows = measured(tmp_path, row("ratio", value))

    found = run(["--gate", str(known), "--measured", str(run_rows)], [experiment])

    assert found == code
    assert ("worse" if code else "holds") in capsys.readouterr().out
    assert experiment.calls == []


def test_command_measures_the_committed_ratios(tmp_path: Path) -> None:
    """Without rows the figures of the file are measured; 2.5, 5 and 10 are 5."""
    assert (
        run(
            ["--gate", str(committed(tmp_path, row("ratio", 5.0))), "--runs", "3"],
            [FakeExperiment()],
        )
        == 0
    )
    assert (
        run(
            ["--gate", str(committed(tmp_path, row("ratio", 9.0))), "--runs", "3"],
            [FakeExperiment()],
        )
        == 1
    )


def test_file_that_holds_no_rows_is_named(tmp_path: Path) -> None:
    """The message says what was expected."""
    path = tmp_path / "odd.json"
    path.write_text('{"figures": []}')

    with pytest.raises(InvalidSettings, match=r"odd\.json: expected rows of the benchmark"):
        read_rows(path)
