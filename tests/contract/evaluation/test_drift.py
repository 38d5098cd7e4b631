"""The drift command: what moved is found and alarmed on, what did not is not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.archive.batches import LogRows, decision_batch
from fraudstream.archive.files import file_path
from fraudstream.features.catalogue import FEATURE_NAMES, FEATURE_SET_HASH
from fraudstream.models.psi import DriftLevel
from fraudstream.v1.decision_pb2 import Decision
from tests.worlds.training_files import simulated_transactions, transactions_table
from training.cli import run
from training.drift.measure import measure_drift
from training.drift.observed import Observed
from training.evaluation.figures.bootstrap import Truth
from training.offline.build import make_dataset
from training.offline.plan import Request
from training.simulator.simulate import Simulated, SimulationSettings, simulate

DAY_MS = 86_400_000
SETTINGS = SimulationSettings(seed=5, cards=40, days=40, fraud_share=0.02)
MODEL = Path("models/demo")


def _make_set(folder: Path, simulated: Simulated, days: tuple[int, int]) -> Path:
    transactions = simulated_transactions(simulated)
    table = transactions_table(transactions, simulated.label_arrival_ms)
    source = folder.with_suffix(".parquet")
    pq.write_table(table, source)
    begin_ms, until_ms = (SETTINGS.start_ms + day * DAY_MS for day in days)
    request = Request(str(source), "canonical", "", begin_ms, until_ms, -1, 1, 32)
    make_dataset(request, folder, 1)
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training sets: some weeks, the weeks after, and those with all amounts five times as high."""
    root = tmp_path_factory.mktemp("drift")
    simulated = simulate(SETTINGS)
    _make_set(root / "before", simulated, (8, 24))
    _make_set(root / "after", simulated, (24, 40))
    rows = simulated.rows.copy()
    is_late = rows["event_time_ms"] >= SETTINGS.start_ms + 24 * DAY_MS
    rows["amount_reference_minor"] *= np.where(is_late, 5, 1)
    _make_set(root / "dearer", replace(simulated, rows=rows), (24, 40))
    return root


def test_later_weeks_of_the_same_cards_have_a_stable_amount(sets: Path, tmp_path: Path) -> None:
    """Amount, hour and kind of day of one population do not move."""
    out = tmp_path / "drift.json"

    run(["drift", f"--reference={sets}/before", f"--current={sets}/after", f"--json={out}"])

    found = json.loads(out.read_text())["quantities"]
    assert len(found) == len(FEATURE_NAMES)
    assert {found[name]["level"] for name in ("amount", "is_night", "is_weekend")} == {"stable"}


def test_dearer_purchases_raise_the_alarm(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the table says which features moved; the weekend did not."""
    out = tmp_path / "drift.json"

    code = run(["drift", f"--reference={sets}/before", f"--current={sets}/dearer", f"--json={out}"])

    found = json.loads(out.read_text())
    assert (code, found["level"]) == (1, "alarm")
    assert found["quantities"]["amount"]["level"] == "alarm"
    assert found["quantities"]["is_weekend"]["level"] == "stable"
    printed = capsys.readouterr().out
    assert "amount " in printed
    assert printed.rstrip().endswith("in all: alarm")


def test_a_model_adds_its_score_and_its_calibration(sets: Path, tmp_path: Path) -> None:
    """Scores of both sets are compared, and those of matured rows with their labels."""
    out = tmp_path / "drift.json"

    run(
        [
            "drift",
            f"--reference={sets}/before",
            f"--current={sets}/after",
            f"--model={MODEL}",
            f"--json={out}",
        ]
    )

    found = json.loads(out.read_text())
    assert "score" in found["quantities"]
    assert found["calibration"]["rows"] < found["current"]["rows"]
    assert found["calibration"]["frauds"] > 0


def test_gauges_can_be_read_by_a_textfile_collector(sets: Path, tmp_path: Path) -> None:
    """One gauge for each quantity, with its unit in the description."""
    out = tmp_path / "drift.prom"

    run(["drift", f"--reference={sets}/before", f"--current={sets}/dearer", f"--metrics={out}"])

    text = out.read_text()
    assert 'fraud_drift_psi{quantity="amount"}' in text
    assert "# HELP fraud_drift_psi" in text
    assert text.count("fraud_drift_psi{") == len(FEATURE_NAMES)


def _archive(root: Path, scores: np.ndarray, is_stand_in: np.ndarray) -> Path:
    vector = np.arange(len(FEATURE_NAMES), dtype=np.float32)
    decisions = [
        Decision(
            score=float(score),
            stand_in=bool(stand_in),
            feature_set_hash=FEATURE_SET_HASH if number else "another",
            vector=(vector + number % 7).tobytes(),
        )
        for number, (score, stand_in) in enumerate(zip(scores, is_stand_in, strict=True))
    ]
    rows = LogRows(0, range(len(decisions)), [1_767_571_200_000] * len(decisions))
    path = file_path(root / "decisions", "0a", date(2026, 1, 5), (0, 0, len(decisions) - 1))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(decision_batch(decisions, rows)), path)
    return root


def test_two_archives_are_compared_by_their_decisions(tmp_path: Path) -> None:
    """Features as they were decided on; scores of stand-ins and other catalogues do not count."""
    rng = np.random.default_rng(1)
    low, high = rng.beta(1, 50, 2_000), rng.beta(2, 10, 2_000)
    stand_in = np.arange(2_000) % 4 == 0
    before = _archive(tmp_path / "before", np.where(stand_in, 0.0, low), stand_in)
    after = _archive(tmp_path / "after", np.where(stand_in, 1.0, low), stand_in)
    risen = _archive(tmp_path / "risen", high, stand_in)
    out = tmp_path / "drift.json"

    assert run(["drift", f"--reference={before}", f"--current={after}", f"--json={out}"]) == 0
    assert json.loads(out.read_text())["current"]["rows"] == 1_999
    assert run(["drift", f"--reference={before}", f"--current={risen}", f"--json={out}"]) == 1
    assert json.loads(out.read_text())["quantities"]["score"]["level"] == "alarm"


def test_days_without_decisions_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty comparison would look like a stable one."""
    root = _archive(tmp_path / "a", np.full(10, 0.1), np.zeros(10, np.bool_))

    code = run(["drift", f"--reference={root}", f"--current={root}", "--from=2027-01-01"])

    assert code == 78
    assert "found none" in capsys.readouterr().err


def test_a_folder_that_is_no_set_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what a set is and how to make one."""
    assert run(["drift", f"--reference={tmp_path}", f"--current={tmp_path}"]) == 78
    assert "fraudstream training dataset" in capsys.readouterr().err


def _observed(score: np.ndarray, is_fraud: np.ndarray) -> Observed:
    rows = len(score)
    return Observed(
        name="rows",
        vectors=np.zeros((rows, len(FEATURE_NAMES)), np.float32),
        score=score,
        truth=Truth(is_fraud, np.arange(rows)),
        is_matured=np.arange(rows) < rows // 2,
    )


def test_scores_twice_as_high_as_the_frauds_are_an_alarm() -> None:
    """Matured rows promise 2 in 100 and 1 in 100 came; what has not matured is not looked at."""
    rng = np.random.default_rng(2)
    came = rng.random(40_000) < 0.01
    came[20_000:] = False
    good, high = _observed(np.full(40_000, 0.01), came), _observed(np.full(40_000, 0.02), came)

    sound, off = measure_drift(good, good).calibration, measure_drift(good, high).calibration

    assert sound is not None
    assert off is not None
    assert (sound.level, off.level) == (DriftLevel.STABLE, DriftLevel.ALARM)
    assert off.rows == 20_000
    assert off.ratio.estimate == pytest.approx(20_000 * 0.02 / off.frauds)


def test_few_frauds_do_not_make_a_calibration_alarm() -> None:
    """Three frauds where five were promised may be chance: the interval says so."""
    came = np.arange(1_000) < 3

    found = measure_drift(
        _observed(np.full(1_000, 0.01), came), _observed(np.full(1_000, 0.01), came)
    ).calibration

    assert found is not None
    assert found.ratio.estimate == pytest.approx(5 / 3)
    assert found.level is DriftLevel.STABLE
