"""The artefact's loader: what was written comes back, and every fault has its own refusal."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fraudstream.artefact import (
    MANIFEST_FILE,
    MAX_MODEL_BYTES,
    MODEL_FILE,
    load_artefact,
    write_artefact,
)
from fraudstream.calibration import Calibration, Thresholds
from fraudstream.engines.golden import GoldenRows
from fraudstream.errors import ModelRefused
from fraudstream.features.catalogue import (
    CATALOGUE,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.manifest import Manifest, ReasonGroup, golden_text
from fraudstream.onnx_declared import read_declared
from tests.tiny_model import FEATURES, onnx_bytes, some_sequences, some_vectors, tiny_weights

HASHES = {feature.name: f"{feature.hash:016x}" for feature in CATALOGUE}
ONNX = onnx_bytes(tiny_weights())
GOLDEN = GoldenRows(some_vectors(8), some_sequences(8), np.linspace(0, 1, 8, dtype=np.float32))


def tiny_manifest(model: bytes = ONNX) -> Manifest:
    """Return a good manifest for a model file."""
    return Manifest(
        name="tiny",
        version=1,
        created_from="0" * 64,
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        feature_hashes=tuple(HASHES[name] for name in FEATURES),
        feature_names=FEATURES,
        sequence_hash=SEQUENCE_HASH,
        sequence_length=SEQUENCE_LENGTH,
        sequence_channels=SEQUENCE_CHANNELS,
        opset=17,
        calibration=Calibration(kind="platt", a=1.0, b=1.0, c=0.0),
        thresholds=Thresholds(challenge=0.2, review=0.5, decline=0.9),
        reason_baseline={"amount": 2_000.0, "sequence.amount_minor": 2_000.0},
        reason_groups=(
            ReasonGroup(
                code="R01", text="Unusual amount", features=("amount",), channels=("amount_minor",)
            ),
        ),
        golden=golden_text(GOLDEN),
        metrics={"ap": 0.5},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good artefact."""
    write_artefact(tmp_path / "tiny", tiny_manifest(), ONNX)
    return tmp_path / "tiny"


def refusal(folder: Path) -> str:
    """Return the reason for which an artefact is refused."""
    with pytest.raises(ModelRefused) as refused:
        load_artefact(folder)
    return refused.value.reason


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit a manifest in place."""
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def put_model(folder: Path, model: bytes) -> None:
    """Replace the model by another that the manifest vouches for."""
    (folder / MODEL_FILE).write_bytes(model)
    change_manifest(folder, lambda it: it.update(onnx_sha256=hashlib.sha256(model).hexdigest()))


def edited(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """Return the tiny model with a change."""
    model = onnx.load_from_string(ONNX)
    change(model)
    return bytes(model.SerializeToString())


def test_what_was_written_comes_back(folder: Path) -> None:
    """Manifest, model and golden rows survive the round trip to the bit."""
    artefact = load_artefact(folder)

    assert artefact.manifest == tiny_manifest()
    assert artefact.onnx == ONNX
    assert artefact.golden.vectors.tobytes() == GOLDEN.vectors.tobytes()
    assert artefact.golden.sequences.tobytes() == GOLDEN.sequences.tobytes()
    assert artefact.golden.raw_scores.tobytes() == GOLDEN.raw_scores.tobytes()
    assert artefact.feature_hashes[0] == int(HASHES["card_count_1h"], 16)


def test_hash_of_a_model_covers_its_manifest(folder: Path) -> None:
    """Other thresholds are another model, though the weights are the same."""
    before = load_artefact(folder).model_hash
    change_manifest(folder, lambda it: it["thresholds"].update(decline=0.95))

    assert load_artefact(folder).model_hash != before


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda model: model[: len(model) // 2], id="truncated"),
        pytest.param(lambda model: model[:500] + bytes([model[500] ^ 1]) + model[501:], id="bit"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_damaged_model_is_corrupt(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    """Other bytes than those that were written never reach the runtime."""
    (folder / MODEL_FILE).write_bytes(damage(ONNX))

    assert refusal(folder) == "MODEL_CORRUPT"


@pytest.mark.parametrize("model", [b"\x08\x07", b"\xff" * 40, b"hello, this is no model"])
def test_bytes_that_are_no_onnx_are_corrupt(folder: Path, model: bytes) -> None:
    """A manifest that vouches for nonsense does not make it a model."""
    put_model(folder, model)

    assert refusal(folder) == "MODEL_CORRUPT"


@pytest.mark.parametrize("head", [pickle.dumps({"weights": [1.0]}), b"PK\x03\x04zip"])
def test_pickle_or_archive_is_never_opened(folder: Path, head: bytes) -> None:
    """Only ONNX is read; a pickle could run code."""
    put_model(folder, head)

    assert refusal(folder) == "MODEL_FORMAT"


def test_link_is_refused(folder: Path, tmp_path: Path) -> None:
    """A link could lead out of the folder."""
    elsewhere = tmp_path / "elsewhere.onnx"
    (folder / MODEL_FILE).rename(elsewhere)
    (folder / MODEL_FILE).symlink_to(elsewhere)

    assert refusal(folder) == "MODEL_FORMAT"


@pytest.mark.parametrize("name", [MODEL_FILE, MANIFEST_FILE])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    """The message says which file is expected."""
    (folder / name).unlink()

    with pytest.raises(ModelRefused, match=name):
        load_artefact(folder)


def test_size_is_bounded_before_anything_is_parsed(folder: Path) -> None:
    """A file of 64 MiB and a byte is not read further than that."""
    with (folder / MODEL_FILE).open("r+b") as file:
        file.truncate(MAX_MODEL_BYTES + 1)

    assert refusal(folder) == "MODEL_SIZE"


def test_weights_in_another_file_are_refused(folder: Path) -> None:
    """External tensors could name any path."""

    def outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../somewhere")

    put_model(folder, edited(outside))

    assert refusal(folder) == "MODEL_FORMAT"


def with_operator(name: str, domain: str) -> bytes:
    """Return the tiny model with one more node."""
    return edited(
        lambda model: model.graph.node.append(
            helper.make_node(name, ["vector"], ["more"], domain=domain)
        )
    )


@pytest.mark.parametrize(("name", "domain"), [("NonZero", ""), ("Relu", "com.example")])
def test_operator_that_is_not_listed_is_refused(folder: Path, name: str, domain: str) -> None:
    """Custom operators and domains run code of somebody's choice."""
    put_model(folder, with_operator(name, domain))

    assert refusal(folder) == "MODEL_OPS"


def test_graph_inside_a_node_is_refused(folder: Path) -> None:
    """A walk over one level must not miss what hides on the next."""
    inner = helper.make_graph([], "inner", [], [])
    node = helper.make_node("Identity", ["vector"], ["more"], body=inner)
    put_model(folder, edited(lambda model: model.graph.node.append(node)))

    assert refusal(folder) == "MODEL_OPS"


def test_newer_opset_than_declared_is_refused(folder: Path) -> None:
    """Manifest and file must agree on the operator set."""
    put_model(folder, edited(lambda model: setattr(model.opset_import[0], "version", 23)))

    assert refusal(folder) == "MODEL_OPS"


def rename_input(model: onnx.ModelProto) -> None:
    """Give the vector another name."""
    model.graph.input[0].name = "features"


def widen_input(model: onnx.ModelProto) -> None:
    """Give the vector one more column."""
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1


def fix_batch(model: onnx.ModelProto) -> None:
    """Fix the batch to one row."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def double_input(model: onnx.ModelProto) -> None:
    """Ask for float64."""
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


@pytest.mark.parametrize("change", [rename_input, widen_input, fix_batch, double_input])
def test_other_inputs_than_agreed_are_refused(
    folder: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    """Names, types and shapes of inputs and outputs are the contract with scoring."""
    put_model(folder, edited(change))

    assert refusal(folder) == "MODEL_CONTRACT"


CONTRACT_BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown feature": lambda it: it["feature_hashes"].__setitem__(0, "0" * 16),
    "fewer names": lambda it: it["feature_names"].pop(),
    "repeated hash": lambda it: it["feature_hashes"].__setitem__(0, it["feature_hashes"][1]),
    "other sequence": lambda it: it.update(sequence_hash="0" * 16),
    "other length": lambda it: it.update(sequence_length=16),
    "unknown key": lambda it: it.update(pickle="model.pt"),
    "missing key": lambda it: it.pop("thresholds"),
    "wrong type": lambda it: it.update(version="1"),
    "threshold order": lambda it: it["thresholds"].update(challenge=0.95),
    "falling calibration": lambda it: it["calibration"].update(a=-1.0, b=-1.0),
    "reason about nothing": lambda it: it["reason_groups"][0].update(features=["shoe_size"]),
    "reason without baseline": lambda it: it["reason_baseline"].pop("amount"),
}


@pytest.mark.parametrize("name", CONTRACT_BREAKS)
def test_manifest_that_breaks_the_contract_is_refused(folder: Path, name: str) -> None:
    """What the manifest promises must be complete, known and possible."""
    change_manifest(folder, CONTRACT_BREAKS[name])

    assert refusal(folder) == "MODEL_CONTRACT"


@pytest.mark.parametrize("text", ["", "{", '{"name": 1, "name": 2}', "[" * 100_000])
def test_manifest_that_is_no_json_is_corrupt(folder: Path, text: str) -> None:
    """A manifest is JSON with each key once."""
    (folder / MANIFEST_FILE).write_text(text)

    assert refusal(folder) == "MODEL_CORRUPT"


GOLDEN_FAULTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "not base64": lambda golden: golden.update(vectors_b64="!!!"),
    "half a row": lambda golden: golden.update(vectors_b64=golden["vectors_b64"][:-8]),
    "out of range": lambda golden: golden["raw_scores"].__setitem__(0, 1.5),
    "constant": lambda golden: golden.update(raw_scores=[0.5] * 8),
}


@pytest.mark.parametrize("name", GOLDEN_FAULTS)
def test_golden_rows_that_prove_nothing_are_refused(folder: Path, name: str) -> None:
    """Golden rows are whole, finite, in [0, 1] and not all the same."""
    change_manifest(folder, lambda it: GOLDEN_FAULTS[name](it["golden"]))

    assert refusal(folder) == "MODEL_GOLDEN"


def test_no_truncation_escapes_the_walk_untyped() -> None:
    """Any prefix of a model is read or refused, and never crashes the reader."""
    reasons = {_reason_of_prefix(size) for size in range(0, len(ONNX), 211)}

    assert reasons == {"MODEL_CORRUPT"}


def _reason_of_prefix(size: int) -> str:
    try:
        read_declared(ONNX[:size])
    except ModelRefused as refused:
        return refused.reason
    return ""
