"""The feature engine's benchmark: its ratios, its floor, and pandas' version of the features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.state import CARD_STATE, SHARED_STATE
from fraudstream.features.stored_values import CARD_VALUE
from harness.settings import MachineSettings
from loadtest.bench.cpu import spent
from loadtest.bench.figure import MeasurementFailed, Plan, Round, beside
from loadtest.figures.catalogue import experiments
from loadtest.figures.features.batch_agent import batch_agent_vs_stock
from loadtest.figures.features.card_growth import card_growth, purchases, used_state
from loadtest.figures.features.dataset_vs_pandas import dataset_vs_pandas
from loadtest.figures.features.features_floor import features_vs_floor
from loadtest.figures.features.floor_kernel import MovedBytes, touch_bytes, words_of
from loadtest.figures.features.join_vs_feast import check_same, join_vs_feast
from loadtest.figures.features.offline_kernel import offline_kernel
from loadtest.figures.features.online_read import online_read_vs_feast, stored_bytes
from loadtest.figures.features.pandas_features import pandas_features
from loadtest.figures.handbook import lacking_for_handbook


def cost(**sides: float) -> Round:
    """Return a round in which each side cost so much CPU and twice as much wall time."""
    return {name: {"cpu_us": us, "wall_us": 2 * us} for name, us in sides.items()}


def test_work_is_charged_to_each_item() -> None:
    """CPU and wall time are divided by the items, and CPU is spent by work, not by waiting."""
    sample = spent(lambda: sum(range(200_000)), 10)

    assert sample["cpu_us"] > 0
    assert sample["wall_us"] > 0


def test_sides_are_named_beside_a_figure() -> None:
    """A reader sees CPU and wall time of each side."""
    assert beside(cost(ours=2.0)) == {"ours cpu_us": 2.0, "ours wall_us": 4.0}


def test_floor_moves_every_byte_and_nothing_else() -> None:
    """The floor reads whole rows and labels, and writes whole states and outputs."""
    cards, terminals = np.zeros(2, CARD_STATE), np.zeros(1, SHARED_STATE)
    outputs = np.zeros((3, 5), np.float32), np.zeros((3, 7), np.float32)
    card_of, terminal_of = np.array([0, 1, 1]), np.zeros(3, np.int64)

    labels, rows = np.ones(2, SHARED_STATE), np.full((3, 2), 5, np.int32)
    moved = MovedBytes(
        words_of(cards), words_of(terminals), words_of(labels), card_of, terminal_of, rows
    )

    touch_bytes(moved, outputs)

    assert (words_of(cards)[0] == 1).all()
    assert (words_of(cards)[1] == 2).all()
    assert (words_of(terminals) == 3).all()
    assert outputs[0][:, 0].tolist() == [1.0, 1.0, 2.0]
    read = 10 + int(words_of(labels)[1].sum())
    assert outputs[1][2].tolist() == [np.float32(read)] + [3.0] * 6


def test_kernel_ratio_is_the_floors_cost_over_ours() -> None:
    """A kernel as quick as its floor has 1; its rate is rows a second of CPU."""
    values = offline_kernel.values(cost(ours=2.0, floor=0.5))

    assert values["kernel_vs_floor"] == 0.25
    assert values["offline_kernel_rows_per_s"] == 500_000


def test_other_ratios_are_theirs_over_ours() -> None:
    """More is better but for what a stage adds to its floor."""
    assert join_vs_feast.values(cost(feast=30.0, ours=2.0))["join_vs_feast"] == 15.0
    assert batch_agent_vs_stock.values(cost(stock=60.0, batches=2.0)) == {
        "batch_faust_vs_stock": 30.0,
        **beside(cost(stock=60.0, batches=2.0)),
    }
    read = online_read_vs_feast.values(cost(feast=24.0, hot=4.0))
    assert (read["online_read_vs_feast"], read["hot cpu_us"]) == (6.0, 4.0)
    dataset = dataset_vs_pandas.values(cost(pandas=60.0, ours=2.0))
    assert dataset["dataset_vs_pandas"] == 30.0
    floor = features_vs_floor.values(cost(features=3.0, floor=2.0))
    assert floor["features_vs_floor"] == 1.5


def test_growth_is_the_stages_own_cpu() -> None:
    """The features stage keeps no state; what its store spends stands beside it."""
    stage = {
        "few": {"cpu_us": 20.0, "wall_us": 1.0, "store_cpu_us": 5.0},
        "many": {"cpu_us": 22.0, "wall_us": 1.0, "store_cpu_us": 10.0},
    }

    values = card_growth.values(stage)

    assert values["cost_growth_10k_to_1m_cards"] == 1.1
    assert values["many store_cpu_us"] == 10.0


def test_stored_sizes_are_those_of_the_layout(tmp_path: Path) -> None:
    """What is reported is what a value takes in the store, within its bound."""
    experiment = stored_bytes
    with experiment.open(Plan(1, 1.0, tmp_path)) as sides:
        values = experiment.values({name: side() for name, side in sides.items()})

    assert values == {
        "state_bytes_per_card": CARD_VALUE.itemsize,
        "state_bytes_per_shared_entity": SHARED_STATE.itemsize,
    }
    assert all(figure.reaches(values[figure.name], figure.must) for figure in experiment.figures)


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_missing_data_set_is_named(folder: str | None, tmp_path: Path) -> None:
    """A figure that needs the Handbook's rows says which variable to set."""
    machine = MachineSettings(fraud_data_dir=tmp_path / folder if folder else None)

    assert "FRAUD_DATA_DIR" in lacking_for_handbook(machine)
    assert "FRAUD_DATA_DIR" in offline_kernel.lacking(machine)


def test_used_state_leaves_nothing_empty() -> None:
    """A million cards in memory are as full as cards in use."""
    state = used_state()[0]

    assert state["rows"] == 100
    assert (state["ring_event_ms"] > 0).all()
    assert (purchases(4)["amount"] > 0).all()


def joined(numbers: list[float]) -> pd.DataFrame:
    """Return a join of three rows of one card, whose features are all these numbers."""
    times = pd.to_datetime([1, 2, 3], unit="s", utc=True)
    features = {name: np.array(numbers, np.float32) for name in FEATURE_NAMES}
    return pd.DataFrame({"card_token": ["a"] * 3, "event_timestamp": times, **features})


def test_joins_that_agree_are_measured() -> None:
    """Missing equals missing."""
    check_same(joined([1.0, np.nan, 3.0]), joined([1.0, np.nan, 3.0]))


def test_join_that_found_other_features_is_not_measured() -> None:
    """A side that does other work is not quick."""
    with pytest.raises(MeasurementFailed):
        check_same(joined([1.0, 2.0, 3.0]), joined([1.0, 9.0, 3.0]))


def transactions() -> pd.DataFrame:
    """Return a card's three purchases at one terminal, the first a fraud, over ten days."""
    times = pd.to_datetime(["2018-04-01 10:00", "2018-04-01 10:30", "2018-04-11 10:00"])
    return pd.DataFrame(
        {
            "card": [1, 1, 1],
            "terminal": [7, 7, 7],
            "time": times.astype("datetime64[ns]"),
            "amount": [10.0, 20.0, 30.0],
            "is_fraud": [True, False, False],
        }
    )


def test_pandas_computes_windows_that_slide() -> None:
    """A card's windows hold the row itself; a terminal's hold what came before it."""
    found = pandas_features(transactions())

    assert found["card_count_1h"].tolist() == [1.0, 2.0, 1.0]
    assert found["card_sum_30d"].tolist() == [10.0, 30.0, 60.0]
    assert found["card_amount_to_mean_30d"].tolist()[1:] == [2.0, 2.0]
    assert found["terminal_count_30d"].fillna(0.0).tolist() == [0.0, 1.0, 2.0]
    assert found["card_is_new_terminal"].tolist() == [1.0, 0.0, 0.0]


def test_pandas_knows_a_label_seven_days_later() -> None:
    """Frauds count when they are settled, not when they happen."""
    found = pandas_features(transactions())

    assert found["terminal_fraud_count_7d"].tolist() == [0.0, 0.0, 1.0]
    assert found["terminal_fraud_share_30d"].tolist() == [0.0, 0.0, 0.5]


def test_figures_have_bounds_in_the_right_order() -> None:
    """An aim is never easier than its must."""
    figures = [figure for experiment in experiments() for figure in experiment.figures]

    assert all(f.reaches(f.aim, f.must) for f in figures if f.aim is not None)
    assert len({figure.name for figure in figures}) == len(figures)
