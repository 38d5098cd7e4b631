"""The platform protocol on a training set: the same rows, labels and figures as by the history."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fraudstream.features.catalogue import SEQUENCE_LENGTH
from tests.evaluation_world import SETTINGS
from tests.training_files import simulated_transactions, transactions_table
from training.command import run
from training.evaluation.material import dataset_material, simulator_material
from training.offline.build import make_dataset
from training.offline.plan import Request
from training.simulate import SimulationSettings, simulate

pytestmark = pytest.mark.slow

SMALL = replace(SETTINGS, cards=60, fraud_share=SimulationSettings().fraud_share)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set of the whole history, made in two shards."""
    folder = tmp_path_factory.mktemp("set")
    simulated = simulate(SMALL)
    source = folder / "history.parquet"
    table = transactions_table(simulated_transactions(simulated), simulated.label_arrival_ms)
    pq.write_table(table, source)
    request = Request(str(source), "canonical", "", 0, 1 << 62, -1, 2, SEQUENCE_LENGTH)
    make_dataset(request, folder / "set", 1)
    return folder / "set"


def test_rows_are_in_time_order_with_the_labels_arrival(dataset: Path) -> None:
    """The set lies in shards; what is evaluated is in time order, as by the history itself."""
    found, expected = dataset_material(dataset), simulator_material(SMALL, SEQUENCE_LENGTH)

    times = found.examples.event_time_ms
    assert (np.diff(times) >= 0).all()
    assert np.array_equal(times, expected.examples.event_time_ms)
    assert sorted(found.label_arrival_ms) == sorted(expected.label_arrival_ms)
    assert np.array_equal(found.label_arrival_ms >= 0, found.examples.is_fraud)


def test_past_transactions_of_a_card_are_counted_up_to_the_sequence(dataset: Path) -> None:
    """Enough to tell cards with fewer than 5 and 20 from the rest."""
    found, expected = dataset_material(dataset), simulator_material(SMALL, SEQUENCE_LENGTH)

    capped = np.minimum(expected.past_transactions, SEQUENCE_LENGTH - 1)
    assert sorted(found.past_transactions) == sorted(capped)


def test_cards_known_as_compromised_are_known_from_the_labels_arrival_on(dataset: Path) -> None:
    """Not from the fraud on: the bank learns of it later."""
    found = dataset_material(dataset)
    card, times = found.examples.card, found.examples.event_time_ms

    for row in np.flatnonzero(found.is_card_known)[:50]:
        mine = (card == card[row]) & (found.label_arrival_ms >= 0)
        assert found.label_arrival_ms[mine].min() < times[row]


def test_a_training_set_is_evaluated_like_the_simulator(dataset: Path, tmp_path: Path) -> None:
    """The same history by both ways gives the same average precision of every fold."""
    arguments = ["evaluate", "--protocol=platform", "--warm-days=10", "--rounds=20"]
    simulator = [
        "--source=simulator",
        f"--cards={SMALL.cards}",
        f"--days={SMALL.days}",
        f"--simulator-seed={SMALL.seed}",
    ]
    models = ["--models", "boosting"]
    by_set, by_simulator = tmp_path / "set.json", tmp_path / "simulator.json"

    run([*arguments, f"--data={dataset}", f"--json={by_set}", *models])
    run([*arguments, *simulator, f"--json={by_simulator}", *models])

    found = json.loads(by_set.read_text())["models"]["boosting"]
    other = json.loads(by_simulator.read_text())["models"]["boosting"]
    assert found["folds"] == other["folds"]
    assert {trait["trait"] for trait in found["segments"]} <= {
        trait["trait"] for trait in other["segments"]
    }
    assert found["schemes"] == []
