"""From a checked artefact to an engine that may serve: golden rows, warm-up and budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fraudstream.engines.golden import (
    GoldenRows,
    check_golden,
    golden_batches,
    rule_of,
    same_alerts,
    within,
)
from fraudstream.engines.onnx_engine import MEMORY_BYTES, OnnxEngine
from fraudstream.engines.protocol import BUCKETS, FloatArray, Precision
from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import Artefact, write_artefact
from fraudstream.models.open_engine import Budget, ready_engine, resident_bytes
from tests.fakes.tiny_model import (
    lstm_member,
    onnx_bytes,
    some_sequences,
    some_vectors,
    tiny_manifest,
    tiny_weights,
)
from tests.worlds.trust import BUDGET

ONNX = onnx_bytes(tiny_weights())


class FakeEngine:
    """Gives each row what a function makes of the golden raw score that its first feature is."""

    version = "fake"
    buckets = BUCKETS
    is_cpu = True

    def __init__(self, change: Callable[[FloatArray], FloatArray]) -> None:
        self._change = change
        self.batches: list[int] = []

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B]."""
        self.batches.append(len(vectors))
        return np.asarray(self._change(vectors[:, 0]), np.float32)

    def close(self) -> None:
        """Hold nothing."""


def golden_of(scores: FloatArray) -> GoldenRows:
    """Return golden rows whose first feature is their score."""
    return GoldenRows(scores[:, None], some_sequences(len(scores)), scores)


GOLDEN = golden_of(np.linspace(0, 1, 256, dtype=np.float32))


@pytest.mark.parametrize("count", [1, 3, 40, 256, 1_000])
def test_every_golden_row_is_scored_and_every_bucket_twice(count: int) -> None:
    """M8: one pass proves all rows and warms all sizes."""
    batches = golden_batches(count)

    assert set(np.concatenate(batches).tolist()) == set(range(count))
    sizes = [len(rows) for rows in batches]
    assert all(sizes.count(bucket) >= 2 for bucket in BUCKETS)
    assert set(sizes) == set(BUCKETS)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda raw: np.where(raw == 0.0, np.nan, raw), id="one NaN"),
        pytest.param(lambda raw: np.where(raw == 1.0, np.inf, raw), id="infinite"),
        pytest.param(lambda raw: raw * 0 + np.float32(0.5), id="constant"),
        pytest.param(lambda raw: -raw, id="negative"),
    ],
)
@pytest.mark.parametrize("precision", list(Precision))
def test_numbers_that_are_no_raw_scores_are_refused(
    change: Callable[[FloatArray], FloatArray], precision: Precision
) -> None:
    """M8: NaN, infinity, numbers outside [0, 1] and constants, whatever the precision."""
    rule = rule_of(precision, lambda raw: raw >= 0.5)

    with pytest.raises(ModelRefused, match="MODEL_GOLDEN"):
        check_golden(FakeEngine(change), GOLDEN, rule)


def test_tolerance_is_that_of_the_precision() -> None:
    """M8: what fp16 may be off, fp32 may not."""
    engine = FakeEngine(lambda raw: np.clip(raw + np.float32(3e-4), 0, 1))
    check_golden(engine, GOLDEN, rule_of(Precision.FP16, lambda raw: raw >= 0.5))

    with pytest.raises(ModelRefused, match=r"3\.00e-04"):
        check_golden(engine, GOLDEN, rule_of(Precision.FP32, lambda raw: raw >= 0.5))


@pytest.mark.parametrize(("moved", "passes"), [(2, True), (3, False)])
def test_int8_is_held_to_the_same_alerts(moved: int, passes: bool) -> None:
    """M8: of 256 golden rows two may change sides of the review threshold, three may not."""
    rule = same_alerts(lambda raw: raw >= 0.5)
    expected = np.linspace(0, 1, 256, dtype=np.float32)
    found = expected.copy()
    found[:moved] = 0.9

    assert (rule(found, expected) == "") is passes
    assert rule(np.clip(expected + np.float32(0.001), 0, 1), expected) == ""


def made(folder: Path, model: bytes, golden_from: bytes) -> Artefact:
    """Return an artefact of one model with the golden rows of another."""
    manifest = tiny_manifest(golden_from).model_copy(update={"members": (lstm_member(model),)})
    return write_artefact(folder / "model", manifest, {"lstm.onnx": model})


def test_good_model_becomes_ready(tmp_path: Path) -> None:
    """A model that answers as it did in training, quickly and in little memory, serves."""
    engine = ready_engine(made(tmp_path, ONNX, ONNX), BUDGET)

    assert engine.score(some_vectors(8), some_sequences(8)).shape == (8,)


def test_model_with_anothers_golden_rows_is_refused(tmp_path: Path) -> None:
    """M8: the file is sound and the hash is right, and yet it is not what was trained."""
    other = onnx_bytes(tiny_weights(bias=1.01))

    with pytest.raises(ModelRefused, match="MODEL_GOLDEN"):
        ready_engine(made(tmp_path, other, ONNX), BUDGET)


def test_model_that_is_too_slow_is_refused(tmp_path: Path) -> None:
    """M10: a full batch has a budget."""
    with pytest.raises(ModelRefused, match=r"MODEL_BUDGET: 64 rows take"):
        ready_engine(made(tmp_path, ONNX, ONNX), Budget(batch_ms=1e-4, growth_bytes=1 << 30))


def large_model(columns: int) -> bytes:
    """Return the tiny model with a detour of so many columns, four bytes each a row."""
    model = onnx.load_from_string(ONNX)
    graph = model.graph
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1, columns], np.int64), "large"),
            numpy_helper.from_array(np.array([1], np.int64), "columns"),
            numpy_helper.from_array(np.array([0.0], np.float32), "nothing"),
        ]
    )
    last = graph.node[-1]
    last.output[0] = "score"
    graph.node.extend(
        [
            helper.make_node("Unsqueeze", ["score", "columns"], ["column"]),
            helper.make_node("Expand", ["column", "large"], ["expanded"]),
            helper.make_node("ReduceMax", ["expanded"], ["raw_score"], axes=[1], keepdims=0),
        ]
    )
    onnx.checker.check_model(model, full_check=True)
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    return bytes(model.SerializeToString())


def test_model_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    """M10: memory that a batch needs counts, as the process keeps it."""
    artefact = made(tmp_path, large_model(columns=3 << 18), ONNX)  # 192 MiB in a batch of 64

    with pytest.raises(ModelRefused, match=r"MODEL_BUDGET: .* more than 64 MiB"):
        ready_engine(artefact, Budget(batch_ms=60_000.0, growth_bytes=64 << 20))


def test_model_that_takes_all_memory_is_refused_before_it_has_it(tmp_path: Path) -> None:
    """M10: 256 GiB for a batch would kill the process that serves."""
    artefact = made(tmp_path, large_model(columns=1 << 30), ONNX)
    before = resident_bytes()

    with pytest.raises(ModelRefused, match=r"MODEL_BUDGET: .* more than 64 MiB"):
        ready_engine(artefact, Budget(batch_ms=60_000.0, growth_bytes=64 << 20))

    assert resident_bytes() - before < MEMORY_BYTES


def test_golden_rule_says_how_far_off() -> None:
    """The message names the distance, for whoever looks for the cause."""
    assert "2.50e-01" in within(1e-5)(np.array([0.25]), np.array([0.5]))


def test_fp16_weights_load_and_score() -> None:
    """ONNX Runtime dies on some fp16 graphs with all optimisations; the engine leaves those out."""
    model = onnx.load_from_string(ONNX)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    half = numpy_helper.from_array(numpy_helper.to_array(head).astype(np.float16), "half")
    head.name = "unused"
    model.graph.initializer.append(half)
    model.graph.node.insert(0, helper.make_node("Cast", ["half"], ["head"], to=TensorProto.FLOAT))
    engine = OnnxEngine(bytes(model.SerializeToString()), Precision.FP16)
    full = OnnxEngine(ONNX).score(some_vectors(8), some_sequences(8))

    assert np.max(np.abs(engine.score(some_vectors(8), some_sequences(8)) - full)) <= 5e-4
