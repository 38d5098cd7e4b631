"""A good artefact in a folder, and ways to put something else there that the trainer signs.

All changes but the named one are signed, so that a refusal is about that one alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import onnx
import pytest

from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import MANIFEST_FILE, SIGNATURE_FILE, Artefact, load_artefact
from tests.fakes.tiny_model import onnx_bytes, tiny_weights
from tests.worlds.trust import NOW_MS, PEOPLE, TRAINER

MODEL_FILE: Final = "lstm.onnx"
ONNX: Final = onnx_bytes(tiny_weights())


def load(folder: Path) -> Artefact:
    """Load an artefact as scoring does."""
    return load_artefact(folder, PEOPLE, NOW_MS)


def refusal(folder: Path) -> str:
    """Return the reason for which an artefact is refused."""
    with pytest.raises(ModelRefused) as refused:
        load(folder)
    return refused.value.reason


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit a manifest in place, and sign what comes out whatever it is."""
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    change(manifest)
    put_manifest(folder, json.dumps(manifest))


def put_manifest(folder: Path, text: str) -> None:
    """Replace the manifest by a text that the trainer signs."""
    (folder / MANIFEST_FILE).write_text(text)
    signature = TRAINER.sign("artefact", hashlib.sha256(text.encode()).hexdigest().encode())
    (folder / SIGNATURE_FILE).write_text(signature.model_dump_json())


def put_model(folder: Path, model: bytes) -> None:
    """Replace the model by another that the manifest vouches for."""
    (folder / MODEL_FILE).write_bytes(model)
    sha256 = hashlib.sha256(model).hexdigest()
    change_manifest(folder, lambda it: it["members"][0].update(sha256=sha256))


def edited(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """Return the tiny model with a change."""
    model = onnx.load_from_string(ONNX)
    change(model)
    return bytes(model.SerializeToString())
