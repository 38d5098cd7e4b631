"""What stands in a model's graph: each thing that must not has its own refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from fraudstream.errors import ModelRefused
from fraudstream.models.onnx_reader import read_declared
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.artefact_world import ONNX, change_manifest, edited, load, put_model, refusal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good artefact."""
    tiny_artefact(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("place", ["../../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_weights_in_another_file_are_refused(folder: Path, place: str) -> None:
    """M3: external tensors could name any path, or a link or a hard link to it."""

    def outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    put_model(folder, edited(outside))

    assert refusal(folder) == "MODEL_EXTERNAL"


def test_weights_larger_than_any_file_are_refused(folder: Path) -> None:
    """M9: 4 GiB that are declared and not there would still be made room for."""

    def swell(model: onnx.ModelProto) -> None:
        model.graph.initializer.add(name="swollen", data_type=TensorProto.FLOAT, dims=[1 << 30])

    put_model(folder, edited(swell))

    assert refusal(folder) == "MODEL_SIZE"


def as_member(folder: Path, **change: str) -> None:
    """Change what the manifest says of the one member."""
    change_manifest(folder, lambda it: it["members"][0].update(change))


@pytest.mark.parametrize(
    ("name", "domain", "version", "change"),
    [
        ("TreeEnsembleRegressor", "ai.onnx.ml", 3, {"kind": "boosting"}),
        ("DynamicQuantizeLSTM", "com.microsoft", 1, {"precision": "int8"}),
    ],
)
def test_operators_of_other_domains_need_their_kind_of_member(
    folder: Path, name: str, domain: str, version: int, change: dict[str, str]
) -> None:
    """M6: trees only in boosting, quantised operators only in int8, no newer domain than known."""
    put_model(folder, with_domain(name, domain, version))
    before = refusal(folder)
    as_member(folder, **change)
    load(folder)
    put_model(folder, with_domain(name, domain, 99))

    assert (before, refusal(folder)) == ("MODEL_OPS", "MODEL_OPS")


def with_domain(name: str, domain: str, version: int) -> bytes:
    """Return the tiny model with one more node and the domain that it is from."""
    model = onnx.load_from_string(with_operator(name, domain))
    model.opset_import.append(helper.make_opsetid(domain, version))
    return bytes(model.SerializeToString())


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
