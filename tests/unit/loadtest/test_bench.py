"""The benchmark's framework: rounds in turns, medians with intervals, rows, exit codes."""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from fraudstream.broker.clients import OutRecord
from fraudstream.v1.decision_pb2 import Decision
from loadtest.bench.cli import run
from loadtest.bench.cpu import child_sessions, lacking_for_cpu, session_cpu_us
from loadtest.bench.figure import (
    Experiment,
    Figure,
    MeasurementFailed,
    Plan,
    Sample,
    Sides,
    ratio,
    taken,
)
from loadtest.bench.interleave import interval_of, measure, run_rounds
from loadtest.bench.report import json_rows, print_table
from loadtest.figures.line.backlog import BacklogRow
from loadtest.figures.line.drain import check_decisions

RATIO = Figure("ratio", "Slow over fast", "ratio", ratio("slow", "fast", "cost"), must=2.0, aim=5.0)
COST = Figure("cost", "What fast costs", "µs", taken("fast", "cost"), must=3.0, is_cost=True)


class FakeSides:
    """Two sides without any work: the slow one costs ten, the fast one as told."""

    def __init__(self, fast: tuple[float, ...] = (4.0, 2.0, 1.0), lacks: str = "") -> None:
        self.calls: list[str] = []
        self.ended = 0
        self._fast = iter(fast)
        self.experiment = Experiment(
            (RATIO, COST),
            self._open,
            needs=(lambda _: lacks,),
            apart=lambda measured: {"slow cost": measured["slow"]["cost"]},
        )

    def _open(self, _: Plan) -> Iterator[Sides]:
        def slow() -> Sample:
            self.calls.append("slow")
            return {"cost": 10.0}

        def fast() -> Sample:
            self.calls.append("fast")
            return {"cost": next(self._fast)}

        try:
            yield {"slow": slow, "fast": fast}
        finally:
            self.ended += 1


def fake(fast: tuple[float, ...] = (4.0, 2.0, 1.0), lacks: str = "") -> Experiment:
    """Return an experiment of such sides."""
    return FakeSides(fast, lacks).experiment


def plan(runs: int = 3) -> Plan:
    """Return a plan that needs no folder."""
    return Plan(runs, 1.0, Path())


def quiet(_: str) -> None:
    """Take a report and say nothing."""


def test_sides_take_turns_and_each_round_begins_with_another() -> None:
    """No side is always measured first, nor all of its runs together."""
    sides = FakeSides()

    run_rounds(sides.experiment, plan(), quiet)

    assert sides.calls == ["slow", "fast", "fast", "slow", "slow", "fast"]
    assert sides.ended == 1


def test_ratio_is_taken_inside_a_round_and_then_the_median() -> None:
    """A busy moment meets both sides of a ratio: it is formed round by round."""
    ratio, cost = measure(fake(), plan(), quiet)

    assert ratio.values == [2.5, 5.0, 10.0]
    assert ratio.value == 5.0
    assert ratio.spread == (2.5, 10.0)
    assert ratio.apart == {"slow cost": 10.0}
    assert cost.value == 2.0


def test_experiment_that_cannot_run_skips_its_figures_with_the_reason() -> None:
    """What a machine lacks is said by name, and nothing is started."""
    sides = FakeSides(lacks="no Java")

    found = measure(sides.experiment, plan(), quiet)

    assert [measured.skipped for measured in found] == ["no Java", "no Java"]
    assert all(measured.value is None and measured.reaches_must for measured in found)
    assert sides.calls == []


def test_failure_in_a_side_ends_the_experiment() -> None:
    """What was started is ended when a side cannot be measured."""
    sides = FakeSides(fast=())

    with pytest.raises((StopIteration, RuntimeError)):
        run_rounds(sides.experiment, plan(), quiet)

    assert sides.ended == 1


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (1, 1)), (4, (1, 4)), (5, (1, 5)), (7, (1, 7)), (8, (2, 7))]
)
def test_interval_encloses_the_median_in_nine_of_ten_cases(
    count: int, expected: tuple[float, float]
) -> None:
    """Order statistics by the binomial: of eight values the outermost may be left out."""
    values = [float(number) for number in range(count, 0, -1)]

    assert interval_of(values) == expected
    assert expected[0] <= statistics.median(values) <= expected[1]


def test_rows_have_the_promised_keys() -> None:
    """Other programs read these names."""
    rows = json.loads(json_rows(measure(fake(), plan(), quiet), ["--runs", "3"]))

    assert rows[0] == {
        "name": "ratio",
        "value": 5.0,
        "unit": "ratio",
        "must": 2.0,
        "aim": 5.0,
        "runs": 3,
        "spread": [2.5, 10.0],
        "command": "python -m loadtest.bench --only ratio --runs 3",
        "apart": {"slow cost": 10.0},
    }
    assert rows[1]["aim"] is None


def test_table_names_what_was_skipped_and_what_fails() -> None:
    """A reader of the table needs no other source."""
    said = io.StringIO()
    console = Console(file=said, width=200)

    print_table(measure(fake(fast=(9.0,)), plan(1), quiet), console)
    print_table(measure(fake(lacks="no Java"), plan(), quiet), console)

    assert "below must" in said.getvalue()
    assert "above must" in said.getvalue()
    assert "skipped ratio: no Java" in said.getvalue()


def test_command_measures_only_what_was_asked_for(tmp_path: Path) -> None:
    """`--only` chooses figures, and the rows go to the file."""
    path = tmp_path / "rows.json"

    code = run(["--only", "cost", "--runs", "3", "--json", str(path)], [fake()])

    assert code == 0
    assert [row["name"] for row in json.loads(path.read_text())] == ["cost"]


def test_figure_below_its_must_exits_1() -> None:
    """A gate can be built on the exit code."""
    assert run(["--only", "ratio", "--runs", "1"], [fake(fast=(9.0,))]) == 1


def test_unknown_figure_is_a_usage_error() -> None:
    """A mistyped name measures nothing."""
    with pytest.raises(SystemExit) as ended:
        run(["--only", "speed"], [fake()])

    assert ended.value.code == 64


def test_list_names_every_figure_and_measures_none(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` is safe to ask at any time."""
    sides = FakeSides()

    assert run(["--list"], [sides.experiment]) == 0

    assert "ratio" in capsys.readouterr().out
    assert sides.calls == []


@pytest.mark.skipif(bool(lacking_for_cpu()), reason=lacking_for_cpu() or "there is /proc")
def test_cpu_time_of_a_session_holds_its_ended_children() -> None:
    """A process that lets children work is charged for them."""
    burn = "while os.times().user < 0.06: sum(range(10_000))"
    script = f"import os, sys\nif not os.fork():\n {burn}\n os._exit(0)\nos.wait()\n"
    script += "print('done', flush=True)\nsys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()

        assert process.pid in child_sessions()
        assert session_cpu_us({process.pid}) >= 40_000
        assert session_cpu_us(set()) == 0
        process.communicate()
    assert os.getpid() not in child_sessions()


def row(number: int) -> BacklogRow:
    """Return one row of a backlog."""
    return BacklogRow("bank", f"t-{number}", OutRecord(b"", b"", 0))


def decision(number: int, *, stand_in: bool = False) -> Decision:
    """Return the decision of a row."""
    return Decision(bank_id="bank", transaction_id=f"t-{number}", stand_in=stand_in)


def test_run_whose_decisions_are_complete_counts() -> None:
    """One decision of the model for each transaction, in any order."""
    check_decisions([row(1), row(2)], [decision(2), decision(1)])


@pytest.mark.parametrize(
    "decisions",
    [
        [decision(1)],
        [decision(1), decision(2), decision(2)],
        [decision(1), decision(3)],
        [decision(1), decision(2, stand_in=True)],
    ],
    ids=["missing", "doubled", "strange", "stand-in"],
)
def test_run_that_did_other_work_does_not_count(decisions: list[Decision]) -> None:
    """A side that skips work is not fast; it is not measured."""
    with pytest.raises(MeasurementFailed):
        check_decisions([row(1), row(2)], decisions)
