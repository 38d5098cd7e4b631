"""LSTM layers in int8: nearly the same scores, and each of its own row alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import BUCKETS, Precision, pad_rows, score_rows
from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import read_artefact
from fraudstream.models.open_engine import open_engine, ready_engine
from harness.processes import PROJECT_FOLDER
from tests.fakes.tiny_model import onnx_bytes, some_sequences, some_vectors, tiny_weights
from tests.worlds.trust import BUDGET
from training.compression.int8_artefact import input_bounds, make_int8
from training.compression.quantise import outer_inputs, quantise_lstm
from training.dataset import Examples

DEMO = PROJECT_FOLDER / "models" / "demo"
F = 84


def some_examples(rows: int, seed: int) -> Examples:
    """Return rows of plausible size, one in ten a fraud."""
    numbers = np.arange(rows, dtype=np.int64)
    vectors, sequences = some_vectors(rows, F, seed), some_sequences(rows, seed)
    return Examples(vectors, sequences, numbers % 10 == 0, numbers, numbers, numbers, numbers)


@pytest.fixture(scope="module")
def demo_int8() -> OnnxEngine:
    """The demo's two layers in int8, their bounds from its golden rows."""
    artefact = read_artefact(DEMO)
    golden = artefact.golden
    numbers = np.arange(len(golden.raw_scores), dtype=np.int64)
    rows = Examples(
        golden.vectors, golden.sequences, numbers > 0, numbers, numbers, numbers, numbers
    )
    return OnnxEngine(quantise_lstm(artefact.files[0], input_bounds(artefact.files[0], rows)))


@pytest.mark.parametrize("bucket", BUCKETS)
def test_int8_score_depends_on_neither_place_nor_neighbours(
    demo_int8: OnnxEngine, bucket: int
) -> None:
    """Ranges are the same for every batch, so a row has one score to the bit in all of one size."""
    vectors, sequences = some_vectors(bucket + 1, F), some_sequences(bucket + 1)
    alone = demo_int8.score(pad_rows(vectors[-1:], bucket), pad_rows(sequences[-1:], bucket))[0]

    for place in {0, bucket // 2, bucket - 1}:
        crowd, steps = vectors[:bucket].copy(), sequences[:bucket].copy()
        crowd[place], steps[place] = vectors[-1], sequences[-1]
        assert demo_int8.score(crowd, steps)[place].tobytes() == alone.tobytes()


def test_int8_keeps_the_alerts_of_the_golden_rows(demo_int8: OnnxEngine) -> None:
    """Of the demo's golden rows one in a hundred at most changes sides; scores move by little."""
    artefact = read_artefact(DEMO)
    golden, is_alert = artefact.golden, artefact.manifest.is_alert
    found = score_rows(demo_int8, golden.vectors, golden.sequences)

    assert np.sum(is_alert(found) != is_alert(golden.raw_scores)) <= 2
    assert np.median(np.abs(found - golden.raw_scores)) < 1e-3


def test_weights_leave_no_kernel_room_to_saturate() -> None:
    """Two products of a weight and an 8-bit input fit 16 bits, so processors agree."""
    artefact = read_artefact(DEMO)
    bounds = {name: np.ones(21, np.float32) for name in outer_inputs(artefact.files[0])}
    model = onnx.load_from_string(quantise_lstm(artefact.files[0], bounds))
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 3
    ]

    assert len(weights) == 4
    assert max(2 * 255 * int(np.abs(each.astype(int)).max()) for each in weights) < 2**15


def test_layer_whose_last_state_is_read_keeps_its_width() -> None:
    """Whatever reads the states of a layer finds as many units as before."""
    content = onnx_bytes(tiny_weights())
    bounds = {name: np.full(6, 40.0, np.float32) for name in outer_inputs(content)}
    vectors, sequences = some_vectors(16), some_sequences(16)

    found = OnnxEngine(quantise_lstm(content, bounds)).score(vectors, sequences)
    assert np.max(np.abs(found - OnnxEngine(content).score(vectors, sequences))) < 0.1


def test_graph_without_lstm_is_not_quantised() -> None:
    """There is nothing to gain, and the command says so."""
    model = onnx.load_from_string(onnx_bytes(tiny_weights()))
    kept = [node for node in model.graph.node if node.op_type != "LSTM"]
    del model.graph.node[:]
    model.graph.node.extend(kept)

    with pytest.raises(ModelRefused, match="MODEL_OPS"):
        quantise_lstm(model.SerializeToString(), {})


def test_int8_artefact_loads_with_its_promises(tmp_path: Path) -> None:
    """The new artefact says int8, passes every check of the loader, and keeps the calibration."""
    artefact = read_artefact(DEMO)
    made, found = make_int8(
        artefact, tmp_path / "int8", some_examples(300, 1), some_examples(300, 2)
    )

    assert made.manifest.precision is Precision.INT8
    assert made.manifest.calibration == artefact.manifest.calibration
    assert made.manifest.golden == artefact.manifest.golden
    assert ready_engine(made, BUDGET).version.startswith("onnxruntime")
    assert found.model_bytes["int8"] < found.model_bytes["fp32"]
    assert set(found.agreement) == {"challenge", "review", "decline"}


def test_int8_that_ranks_worse_is_refused_and_not_left_to_be_signed(tmp_path: Path) -> None:
    """The one fraud is the row that int8 moves down most: AP falls by more than 0.002."""
    artefact, rows = read_artefact(DEMO), some_examples(300, 2)
    made, _ = make_int8(artefact, tmp_path / "good", some_examples(300, 1), rows)
    ranks = [
        np.argsort(np.argsort(-open_engine(form).score(rows.vectors, rows.sequences)))
        for form in (artefact, made)
    ]
    lost = 1 / (1 + ranks[0]) - 1 / (1 + ranks[1])
    unlucky = replace(rows, is_fraud=np.arange(len(rows)) == np.argmax(lost))

    with pytest.raises(ModelRefused, match="MODEL_GATE"):
        make_int8(artefact, tmp_path / "int8", some_examples(300, 1), unlucky)

    assert not (tmp_path / "int8").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_quantise_command_prints_a_table_and_writes_an_artefact(tmp_path: Path) -> None:
    """AP, alerts, size and speed of both forms, side by side."""
    out = tmp_path / "int8"
    command = [sys.executable, "-m", "training", "quantise", str(DEMO), "--out", str(out)]
    done = subprocess.run(
        [*command, "--cards", "400", "--days", "40"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    for line in ("average precision", "bytes", "rows/s, batch 32", "same rows at review"):
        assert line in done.stdout
    assert json.loads((out / "manifest.json").read_text())["members"][0]["precision"] == "int8"
