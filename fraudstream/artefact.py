"""The model artefact: a folder with `model.onnx` and `manifest.json`, checked before it serves.

The manifest says what the model needs (features by hash, the sequence's layout), how its raw score
becomes a decision, how it is explained, and gives rows with known raw scores. Nothing is ever
unpickled. Axes: N golden rows, F the model's features, T sequence length, C channels.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from fraudstream.engines.golden import GoldenRows
from fraudstream.errors import ModelRefused
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.manifest import CHANNEL_PREFIX, Manifest
from fraudstream.onnx_declared import KNOWN_OPERATORS, DeclaredTensor, OnnxDeclared, read_declared

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
MAX_MODEL_BYTES: Final = 64 << 20
MAX_MANIFEST_BYTES: Final = 8 << 20

_FLOAT: Final = 1  # TensorProto.FLOAT
_PICKLES: Final = (b"\x80", b"PK\x03\x04", b"\x1f\x8b")  # pickle, zip (PyTorch's), gzip


@dataclass(frozen=True, slots=True)
class Artefact:
    """A checked artefact.

    Attributes:
        manifest: What it is, needs and promises.
        onnx: The model file.
        golden: Rows with known raw scores.
        model_hash: SHA-256 over the manifest, which holds the model file's; hexadecimal.
    """

    manifest: Manifest
    onnx: bytes
    golden: GoldenRows
    model_hash: str

    @property
    def feature_hashes(self) -> tuple[int, ...]:
        """What the vector holds, in order, as 64-bit numbers."""
        return tuple(int(text, 16) for text in self.manifest.feature_hashes)


def write_artefact(folder: Path, manifest: Manifest, onnx: bytes) -> Artefact:
    """Write an artefact, and read it back through all checks.

    Raises:
        ModelRefused: It would not be served.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    (folder / MODEL_FILE).write_bytes(onnx)
    (folder / MANIFEST_FILE).write_text(text)
    return load_artefact(folder)


def load_artefact(folder: Path) -> Artefact:
    """Read an artefact and check everything that can be checked without running it.

    Raises:
        ModelRefused: `MODEL_FORMAT` for what is not ONNX with a manifest, `MODEL_SIZE`,
            `MODEL_CORRUPT` for bytes that are not those that were written, `MODEL_OPS`,
            `MODEL_CONTRACT` for other inputs, outputs or features, `MODEL_GOLDEN` for golden rows
            that prove nothing. That the model reproduces them is for the engine to check.
    """
    manifest_bytes = _read(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    onnx = _read(folder / MODEL_FILE, MAX_MODEL_BYTES)
    if onnx.startswith(_PICKLES):
        raise _refused("FORMAT", "expected an ONNX file, found a pickle or an archive")
    manifest = _parse_manifest(manifest_bytes)
    found = hashlib.sha256(onnx).hexdigest()
    if found != manifest.onnx_sha256:
        msg = f"{MODEL_FILE} has SHA-256 {found[:12]}, the manifest says "
        raise _refused("CORRUPT", msg + manifest.onnx_sha256[:12])
    declared = read_declared(onnx)
    _check_operators(declared, manifest)
    _check_features(manifest)
    _check_tensors(declared, manifest)
    golden = _golden_rows(manifest)
    return Artefact(manifest, onnx, golden, hashlib.sha256(manifest_bytes).hexdigest())


def _refused(reason: str, message: str) -> ModelRefused:
    return ModelRefused(f"MODEL_{reason}", message)


def _read(path: Path, limit_bytes: int) -> bytes:
    """Read one plain file of at most `limit_bytes`; links could lead out of the folder."""
    if path.is_symlink() or not path.is_file():
        raise _refused("FORMAT", f"expected a folder with the plain file {path.name}, found none")
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as exc:
        raise _refused("CORRUPT", f"{path.name} cannot be read: {exc.strerror}") from exc
    if len(content) > limit_bytes:
        raise _refused("SIZE", f"expected at most {limit_bytes} bytes in {path.name}, found more")
    if not content:
        raise _refused("CORRUPT", f"{path.name} is empty")
    return content


def _parse_manifest(content: bytes) -> Manifest:
    try:
        json.loads(content, object_pairs_hook=_refuse_repeated)
        return Manifest.model_validate_json(content)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _refused("CONTRACT", f"{MANIFEST_FILE}: {where}: {first['msg']}") from exc
    except (ValueError, RecursionError) as exc:
        raise _refused("CORRUPT", f"{MANIFEST_FILE} is not JSON with each key once") from exc


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key stands twice"
        raise ValueError(msg)
    return found


def _check_operators(declared: OnnxDeclared, manifest: Manifest) -> None:
    if declared.has_external:
        raise _refused("FORMAT", "expected one ONNX file, found tensors in other files")
    if declared.has_subgraphs:
        raise _refused("OPS", "expected a plain graph, found subgraphs or functions")
    unknown = sorted(declared.operators - KNOWN_OPERATORS)
    if unknown:
        raise _refused("OPS", f"operators {unknown[:5]} are not on the list of known ones")
    if declared.opsets != {"": manifest.opset}:
        msg = f"expected only ONNX's own opset {manifest.opset}, found {declared.opsets}"
        raise _refused("OPS", msg)


def _check_features(manifest: Manifest) -> None:
    """Compare what the model needs with what this release computes."""
    known = {f"{number:016x}" for number in FEATURE_HASHES}
    needed = dict(zip(manifest.feature_hashes, manifest.feature_names, strict=False))
    if not len(needed) == len(manifest.feature_names) == len(manifest.feature_hashes):
        raise _refused("CONTRACT", "expected one name for each feature hash, each hash once")
    missing = [name for number, name in needed.items() if number not in known]
    if missing:
        msg = f"the model needs features that this release does not compute: {missing[:5]}"
        raise _refused("CONTRACT", msg)
    layout = (manifest.sequence_hash, manifest.sequence_length, manifest.sequence_channels)
    expected = (SEQUENCE_HASH, SEQUENCE_LENGTH, SEQUENCE_CHANNELS)
    if layout != expected:
        raise _refused("CONTRACT", f"the model reads sequence {layout}, here it is {expected}")
    _check_reasons(manifest)


def _check_reasons(manifest: Manifest) -> None:
    for group in manifest.reason_groups:
        channels = {CHANNEL_PREFIX + channel for channel in group.channels}
        strangers = set(group.features) - set(manifest.feature_names)
        strangers |= set(group.channels) - set(manifest.sequence_channels)
        strangers |= (set(group.features) | channels) - manifest.reason_baseline.keys()
        if strangers or not (group.features or group.channels):
            msg = f"reason {group.code} names what the model does not read or has no baseline for"
            raise _refused("CONTRACT", f"{msg}: {sorted(strangers)[:5]}")


def _check_tensors(declared: OnnxDeclared, manifest: Manifest) -> None:
    steps, channels = manifest.sequence_length, len(manifest.sequence_channels)
    expected = {
        "vector": (len(manifest.feature_hashes),),
        "sequence": (steps, channels),
        "raw_score": (),
    }
    tensors = declared.inputs + declared.outputs
    named = {tensor.name: tensor for tensor in tensors}
    if len(tensors) != len(expected) or named.keys() != expected.keys():
        msg = f"expected inputs vector and sequence, output raw_score, found {sorted(named)[:5]}"
        raise _refused("CONTRACT", msg)
    for name, shape in expected.items():
        if not _fits(named[name], shape):
            msg = f"expected {name} float32 [batch, {shape}], found {named[name]}"
            raise _refused("CONTRACT", msg)
    if {tensor.name for tensor in declared.outputs} != {"raw_score"}:
        raise _refused("CONTRACT", "expected the one output raw_score")


def _fits(tensor: DeclaredTensor, row_shape: tuple[int, ...]) -> bool:
    return tensor.element_type == _FLOAT and tensor.dimensions == (-1, *row_shape)


def _golden_rows(manifest: Manifest) -> GoldenRows:
    golden = manifest.golden
    count, features = len(golden.raw_scores), len(manifest.feature_hashes)
    shape = (count, manifest.sequence_length, len(manifest.sequence_channels))
    try:
        rows = GoldenRows(
            _floats(golden.vectors_b64).reshape(count, features),
            _floats(golden.sequences_b64).reshape(shape),
            np.array(golden.raw_scores, np.float32),
        )
    except (ValueError, binascii.Error) as exc:
        raise _refused("GOLDEN", f"the golden rows are not {count} whole rows") from exc
    scores = rows.raw_scores
    if not ((scores >= 0) & (scores <= 1)).all() or not np.isfinite(rows.sequences).all():
        raise _refused("GOLDEN", "expected golden raw scores in [0, 1] and finite sequences")
    if count > 1 and np.ptp(scores) == 0:
        raise _refused("GOLDEN", "all golden raw scores are equal: the model says nothing")
    return rows


def _floats(text: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
