"""The benchmark's figures about models: their ratios, and how work is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraudstream.models.artefact import read_artefact
from harness.processes import PROJECT_FOLDER
from loadtest.bench.figure import Plan
from loadtest.figures.models.artefact_load import artefact_load
from loadtest.figures.models.engine_vs_sgemm import engine_vs_sgemm, flop_of_row, sgemm_rate
from loadtest.figures.models.int8_vs_fp32 import int8_vs_fp32, some_rows
from training.dataset import Examples

DEMO = PROJECT_FOLDER / "models" / "demo"


def test_load_is_divided_by_the_bare_session() -> None:
    """The figure is the first score's CPU time."""
    sides = {"ours": 13.0, "bare": 10.0}
    round_of = {name: {"cpu_us": us, "wall_us": us} for name, us in sides.items()}

    values = artefact_load.values(round_of)
    assert values["artefact_load_vs_session"] == 1.3


def test_int8_is_the_geometric_mean_of_three_batch_sizes() -> None:
    """8, 1 and 1 times as fast are 2 times."""
    fp32 = {"us_1": 8.0, "us_8": 1.0, "us_32": 1.0, "ap": 0.7}
    int8 = {"us_1": 1.0, "us_8": 1.0, "us_32": 1.0, "ap": 0.699}

    values = int8_vs_fp32.values({"fp32": fp32, "int8": int8})
    assert values["int8_vs_fp32"] == pytest.approx(2.0)
    assert (values["AP fp32"], values["AP int8"]) == (0.7, 0.699)


def test_engine_is_divided_by_the_largest_product() -> None:
    """The share is of the machine's best, the geometric mean of both batch sizes."""
    values = engine_vs_sgemm.values(
        {"engine": {"batch 32": 45.0, "batch 64": 80.0}, "sgemm": {"GFLOP/s": 100.0}}
    )
    assert values["engine_vs_sgemm"] == pytest.approx(0.6)
    assert values["batch 32"] == pytest.approx(0.45)


def test_flops_are_two_for_each_weight_and_step() -> None:
    """The demo's LSTM 2 x 64, counted here by hand: 21 inputs of a step, 84 features."""
    steps = 32 * (256 * (21 + 64) + 256 * (64 + 64))
    dense = 15 * 84 * 64 + 128 * 64 + 64

    assert flop_of_row(read_artefact(DEMO).files[0]) == 2.0 * (steps + dense)


def test_product_has_a_rate() -> None:
    """However small it is."""
    assert sgemm_rate(8, scale=1e-6) > 0


def test_some_rows_are_spread_over_all() -> None:
    """A sample for bounds must not come from one day."""
    numbers = np.arange(100, dtype=np.int64)
    examples = Examples(
        np.zeros((100, 2), np.float32),
        np.zeros((100, 3, 6), np.float32),
        numbers > 0,
        numbers,
        numbers,
        numbers,
        numbers,
    )

    assert some_rows(examples, 10).row.tolist() == list(range(0, 100, 10))


def test_demo_model_loads_and_becomes_ready_in_the_benchmark(tmp_path: Path) -> None:
    """Every way from the folder to a score runs."""
    with artefact_load.open(Plan(1, 0.01, tmp_path)) as sides:
        measured = {name: side() for name, side in sides.items()}

    assert all(sample["cpu_us"] > 0 for sample in measured.values())
