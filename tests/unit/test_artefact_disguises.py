"""Files that one reader takes for something else than another: refused before any runtime looks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fraudstream.artefact import MANIFEST_FILE, SIGNATURE_FILE, load_artefact, read_artefact
from fraudstream.engines.golden import GoldenRows
from fraudstream.errors import ModelRefused
from fraudstream.manifest import Manifest, golden_text
from tests.tiny_model import (
    lstm_member,
    onnx_bytes,
    some_sequences,
    some_vectors,
    tiny_artefact,
    tiny_manifest,
    tiny_weights,
)
from tests.trust import NOW_MS, PEOPLE, TRAINER

ONNX = onnx_bytes(tiny_weights())
MODEL_FILE = "lstm.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good artefact."""
    tiny_artefact(tmp_path / "tiny")
    return tmp_path / "tiny"


def refusal(folder: Path) -> str:
    """Return the reason for which an artefact is refused where it would serve."""
    with pytest.raises(ModelRefused) as refused:
        load_artefact(folder, PEOPLE, NOW_MS)
    return refused.value.reason


def put(folder: Path, manifest: Manifest, model: bytes) -> None:
    """Put a manifest and a model there that the trainer signs whatever they are."""
    text = manifest.model_dump_json()
    (folder / MODEL_FILE).write_bytes(model)
    (folder / MANIFEST_FILE).write_text(text)
    signature = TRAINER.sign("artefact", hashlib.sha256(text.encode()).hexdigest().encode())
    (folder / SIGNATURE_FILE).write_text(signature.model_dump_json())


def put_model(folder: Path, model: bytes) -> None:
    """Put a model there that a signed manifest vouches for."""
    vouching = tiny_manifest(ONNX).model_copy(update={"members": (lstm_member(model),)})
    put(folder, vouching, model)


def edited(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """Return the tiny model with a change."""
    model = onnx.load_from_string(ONNX)
    change(model)
    return bytes(model.SerializeToString())


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
    alone = tiny_manifest(ONNX).model_copy(update={"golden": golden_text(scored)})
    put(folder, alone, ONNX)

    assert refusal(folder) == "MODEL_GOLDEN"
