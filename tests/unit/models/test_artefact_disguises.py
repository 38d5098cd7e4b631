"""Files that one reader takes for something else than another: refused before any runtime looks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from fraudstream.engines.golden import GoldenRows
from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import MANIFEST_FILE, read_artefact
from fraudstream.models.manifest import golden_text
from tests.fakes.tiny_model import some_sequences, some_vectors, tiny_artefact
from tests.worlds.artefact_world import (
    MODEL_FILE,
    ONNX,
    change_manifest,
    edited,
    put_model,
    refusal,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good artefact."""
    tiny_artefact(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_onnx_that_is_the_runtimes_own_format_too_is_refused(folder: Path) -> None:
    """M1: ONNX Runtime would read its own format there, and run what nobody checked."""
    name_of_producer = b"\x12\x06\x00\x00ORTM"
    put_model(folder, name_of_producer + ONNX)

    assert refusal(folder) == "MODEL_FORMAT"


@pytest.mark.parametrize("higher_bit", [32, 33])
def test_field_whose_number_is_cut_by_protobuf_is_refused(folder: Path, higher_bit: int) -> None:
    """M3: protobuf keeps 32 bits of a tag, so what is stepped over here is read there."""
    graph_again = (7 << 3 | 2) | 1 << higher_bit
    tag = bytes(graph_again >> 7 * place & 0x7F | 0x80 for place in range(4))
    put_model(folder, ONNX + tag + bytes([graph_again >> 28, 0]))

    assert refusal(folder) == "MODEL_CORRUPT"


def test_sparse_constant_that_fills_memory_is_refused(folder: Path) -> None:
    """M9: a hundred bytes can stand for a gigabyte of zeros."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    place = helper.make_tensor("place", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(one, place, [1 << 28])
    node = helper.make_node("Constant", [], ["zeros"], sparse_value=sparse)
    put_model(folder, edited(lambda model: model.graph.node.append(node)))

    assert refusal(folder) == "MODEL_OPS"


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE])
def test_pipe_in_place_of_a_file_is_refused_at_once(folder: Path, name: str) -> None:
    """Reading it would wait for a writer for ever."""
    (folder / name).unlink()
    os.mkfifo(folder / name)

    with pytest.raises(ModelRefused, match="MODEL_FORMAT"):
        read_artefact(folder)


def test_one_golden_row_proves_nothing(folder: Path) -> None:
    """M8: a model that always says the same would pass it."""
    scored = GoldenRows(some_vectors(1), some_sequences(1), np.array([0.5], np.float32))
    change_manifest(folder, lambda it: it.update(golden=golden_text(scored).model_dump()))

    assert refusal(folder) == "MODEL_GOLDEN"
