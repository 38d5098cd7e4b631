"""The platform protocol on a training set: the same rows, labels and figures as by the history."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fraudstream.features.catalogue import SEQUENCE_LENGTH
from fraudstream.models.artefact import read_artefact
from tests.worlds.evaluation_world import SETTINGS
from tests.worlds.training_files import simulated_transactions, transactions_table
from training.cli import run
from training.evaluation.material import dataset_material, simulator_material
from training.metrics import DAY_MS
from training.offline.build import make_dataset
from training.offline.plan import Request
from training.simulator.simulate import SimulationSettings, simulate

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


def test_own_columns_divide_the_tested_rows_and_are_no_features(
    dataset: Path, tmp_path: Path
) -> None:
    """An attribute that a bank may test by, and nobody learns from."""
    table = pq.read_table(dataset.parent / "history.parquet")
    region = ["north" if number % 3 else "south" for number in range(table.num_rows)]
    pq.write_table(table.append_column("region", [region]), tmp_path / "rows.parquet")
    out, json_file = tmp_path / "set", tmp_path / "figures.json"
    made = ["dataset", f"--source={tmp_path}/rows.parquet", f"--out={out}", "--processes=1"]
    assert run([*made, "--segments", "region"]) == 0

    arguments = ["evaluate", "--protocol=platform", "--warm-days=10", "--rounds=20"]
    run([*arguments, f"--data={out}", f"--json={json_file}", "--models", "boosting"])

    segments = json.loads(json_file.read_text())["models"]["boosting"]["segments"]
    assert {each["label"] for each in segments if each["trait"] == "region"} == {"north", "south"}
    found, plain = dataset_material(out).examples, dataset_material(dataset).examples
    assert found.vectors.tobytes() == plain.vectors.tobytes()


def test_a_week_without_frauds_is_left_out_of_the_means_and_named(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Average precision of no frauds is no number: the other weeks still have a mean."""
    table = pq.read_table(dataset.parent / "history.parquet")
    times = table["event_time_ms"].to_numpy()
    is_late = times >= times.max() // DAY_MS * DAY_MS - 7 * DAY_MS
    for name, genuine in (("is_fraud", False), ("label_arrival_time_ms", None)):
        column = pc.if_else(pa.array(is_late), pa.scalar(genuine, table[name].type), table[name])
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, tmp_path / "rows.parquet")
    made = [f"--source={tmp_path}/rows.parquet", f"--out={tmp_path}/set", "--processes=1"]
    assert run(["dataset", *made]) == 0
    json_file, card = tmp_path / "figures.json", tmp_path / "card.md"

    arguments = ["--protocol=platform", "--warm-days=10", "--rounds=20", "--models=boosting"]
    results = [f"--json={json_file}", f"--card={card}"]
    run(["evaluate", *arguments, f"--data={tmp_path}/set", *results])

    found = json.loads(json_file.read_text())["models"]["boosting"]
    of_frauds = [fold for fold in found["folds"] if fold["frauds"]]
    empty = [fold["fold"] for fold in found["folds"] if not fold["frauds"]]
    assert of_frauds
    assert empty
    for figure in ("ap", "auc"):
        mean = sum(fold[figure] for fold in of_frauds) / len(of_frauds)
        assert found[figure] == pytest.approx(mean, abs=1e-6)
    assert (
        f"without frauds, so left out of the means: {', '.join(empty)}" in capsys.readouterr().out
    )
    assert "has an average precision of 0." in card.read_text().replace("\\", "")


def test_served_weights_know_all_rows_and_the_manifest_says_what_was_measured(
    dataset: Path, tmp_path: Path
) -> None:
    """Fitted to all, calibrated on what the measured weights had not seen, and told so."""
    out = tmp_path / "own"
    arguments = ["train", "--model=boosting", f"--source={dataset}", "--track=off"]

    assert run([*arguments, f"--out={out}"]) == 0
    assert run([*arguments, f"--out={tmp_path / 'kept'}", "--no-refit"]) == 0

    manifest = read_artefact(out).manifest
    kept = read_artefact(tmp_path / "kept").manifest
    made, times = manifest.provenance, dataset_material(dataset).examples.event_time_ms
    assert made is not None
    assert kept.provenance is not None
    assert (made.fitted.first_ms, made.fitted.last_ms) == (times.min(), times.max())
    assert made.fitted.rows == len(times)
    assert made.measured_fit.last_ms < made.calibrated.first_ms
    assert made.calibrated == made.measured
    assert manifest.metrics == kept.metrics
    assert kept.provenance.fitted == kept.provenance.measured_fit
    assert made.command.startswith("python -m training train --model=boosting")
    assert manifest.reference_currency == "EUR"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--protocol=handbook", "--data={set}"], "expected the Handbook's rows, found another"),
        (["--protocol=platform", "--data={empty}"], "expected labelled transactions, found none"),
        (["--protocol=platform", "--data={file}"], "fraudstream training dataset makes a training"),
        (["--protocol=platform", "--data={none}"], "fraudstream training dataset makes a training"),
        (["--protocol=platform", "--data={set}", "--warm-days=33"], "fewer"),
        (
            ["--protocol=platform", "--data={set}", "--report={out}.html", "--card={out}.md"],
            "expected a name whose page .*out.html is no other result's, such as out-card.md",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_named(
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    """Exit code 78 and what to do instead; 1 means that a leakage check failed."""
    source = dataset.parent / "history.parquet"
    request = Request(str(source), "canonical", "", 0, 1, -1, 1)
    make_dataset(request, tmp_path / "empty", 1)
    places = {
        "set": dataset,
        "empty": tmp_path / "empty",
        "file": source,
        "none": tmp_path / "none.parquet",
        "out": tmp_path / "out",
    }

    code = run(["evaluate", "--models=boosting", *(each.format(**places) for each in arguments)])

    assert code == 78
    assert re.search(expected, capsys.readouterr().err)


def test_a_training_set_is_evaluated_like_the_simulator(dataset: Path, tmp_path: Path) -> None:
    """The same history by both ways gives the same average precision of every fold.

    By a model that has the same settings for both, as trees have not.
    """
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

    found = json.loads(by_set.read_text())["models"]["logistic regression"]
    other = json.loads(by_simulator.read_text())["models"]["logistic regression"]
    assert found["folds"] == other["folds"]
    assert {trait["trait"] for trait in found["segments"]} <= {
        trait["trait"] for trait in other["segments"]
    }
    assert found["schemes"] == []
