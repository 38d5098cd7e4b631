"""The model artefact: a folder with a signed manifest and one ONNX file for each of its members.

The manifest says what the model needs (features by hash, the sequence's layout), how its members
make one raw score, how that becomes a decision, how it is explained, and gives rows with known raw
scores. A person signs the manifest's SHA-256, which is the model's hash; the manifest holds the
hashes of all other files, so the signature covers them. Nothing is ever unpickled, and no runtime
sees a file before all is checked.
Axes: N golden rows, F the model's features, T sequence length, C channels.
"""

from __future__ import annotations

import binascii
import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.protocol import FloatArray
from fraudstream.errors import ModelRefused, SignatureRefused
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.models.allowed_operators import check_graph
from fraudstream.models.manifest import CHANNEL_PREFIX, Manifest, Member
from fraudstream.models.onnx_reader import read_declared
from fraudstream.signing import People, Signature, Signer, SignerRole

MANIFEST_FILE: Final = "manifest.json"
SIGNATURE_FILE: Final = "signature.json"
MAX_MODEL_BYTES: Final = 64 << 20
MAX_MANIFEST_BYTES: Final = 8 << 20
_MAX_SIGNATURE_BYTES: Final = 4 << 10
_PURPOSE: Final = "artefact"

_PICKLES: Final = (b"\x80", b"PK\x03\x04", b"\x1f\x8b")  # pickle, zip (PyTorch's), gzip
# At bytes 4 to 8 of ONNX Runtime's own format, which it prefers even where the bytes are ONNX too:
# it would run another graph than the one that was checked.
_RUNTIME_FORMAT: Final = b"ORTM"
# What other servers read settings from, some of them by building any Python object they name.
_SETTINGS_SUFFIXES: Final = frozenset((".yaml", ".yml", ".pbtxt"))


@dataclass(frozen=True, slots=True)
class Artefact:
    """A checked artefact.

    Attributes:
        manifest: What it is, needs and promises.
        files: The ONNX file of each member, in their order.
        golden: Rows with known raw scores.
        model_hash: SHA-256 over the manifest, which holds the model files'; hexadecimal.
        trainer: Who signed it, where that was checked; else empty.
    """

    manifest: Manifest
    files: tuple[bytes, ...]
    golden: GoldenRows
    model_hash: str
    trainer: str = ""

    @property
    def feature_hashes(self) -> tuple[int, ...]:
        """What the vector holds, in order, as 64-bit numbers."""
        return tuple(int(text, 16) for text in self.manifest.feature_hashes)


def write_artefact(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Artefact:
    """Write an artefact, still unsigned, and read it back through all other checks.

    Args:
        folder: Where to.
        manifest: What it is.
        files: The members' ONNX files by file name.

    Raises:
        ModelRefused: It would not be served.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        json.dumps(manifest.model_dump(mode="json", exclude_none=True), indent=1, sort_keys=True)
        + "\n"
    )
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / MANIFEST_FILE).write_text(text)
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)  # it stood under what was there before
    return read_artefact(folder)


def sign_artefact(folder: Path, signer: Signer) -> Artefact:
    """Check an artefact and put a person's signature under it.

    Raises:
        ModelRefused: It would not be served even if signed.
    """
    artefact = read_artefact(folder)
    signature = signer.sign(_PURPOSE, artefact.model_hash.encode())
    (folder / SIGNATURE_FILE).write_text(signature.model_dump_json() + "\n")
    return artefact


def load_artefact(folder: Path, people: People, at_ms: int) -> Artefact:
    """Read an artefact that is to be served, and check everything short of running it.

    Args:
        folder: Where it is.
        people: Whose signatures count.
        at_ms: When they must count, epoch milliseconds: now.

    Raises:
        ModelRefused: `MODEL_UNTRUSTED` for a signature that is missing, wrong or counts no more,
            and for a file that is not the one that was signed; else as `read_artefact`.
    """
    content = _read(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    model_hash = hashlib.sha256(content).hexdigest()
    trainer = _check_signature(folder, model_hash, people, at_ms)
    return _checked(folder, content, model_hash, trainer)


def read_artefact(folder: Path) -> Artefact:
    """Read an artefact whoever signed it, to measure, sign or change it; never to serve it.

    Raises:
        ModelRefused: `MODEL_FORMAT` for what is not ONNX with a manifest, `MODEL_CONFIG` for other
            settings beside it, `MODEL_SIZE`, `MODEL_CORRUPT` for bytes that cannot be read,
            `MODEL_UNTRUSTED` for a file with another hash than the manifest's, `MODEL_EXTERNAL`
            for links and weights elsewhere, `MODEL_OPS`, `MODEL_CONTRACT` for other inputs,
            outputs or features, `MODEL_GOLDEN` for golden rows that prove nothing. That the model
            reproduces them is for the engine to check.
    """
    content = _read(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    try:
        # Whoever signs must read what a loader will: a signed manifest is not looked at for it.
        json.loads(content, object_pairs_hook=_refuse_repeated)
    except (ValueError, RecursionError) as exc:
        raise _refused("CORRUPT", f"{MANIFEST_FILE} is not JSON with each key once") from exc
    return _checked(folder, content, hashlib.sha256(content).hexdigest())


def _checked(folder: Path, content: bytes, model_hash: str, trainer: str = "") -> Artefact:
    _refuse_settings(folder)
    manifest = _parse_manifest(content)
    _check_features(manifest)
    files = tuple(_member_file(folder, member, manifest) for member in manifest.members)
    return Artefact(manifest, files, _golden_rows(manifest), model_hash, trainer)


def _refused(reason: str, message: str) -> ModelRefused:
    return ModelRefused(f"MODEL_{reason}", message)


def _read(path: Path, limit_bytes: int) -> bytes:
    """Read one plain file of at most `limit_bytes`; a link could lead out, a pipe never end."""
    missing = f"expected a folder with the plain file {path.name}, found none"
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _refused("FORMAT", missing)
            size = found.st_size
            content = file.read(size + 1) if size <= limit_bytes else b""
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
        raise _refused("FORMAT", missing) from exc
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            msg = f"expected the plain file {path.name}, found a link"
            raise _refused("EXTERNAL", msg) from exc
        raise _refused("CORRUPT", f"{path.name} cannot be read: {exc.strerror}") from exc
    if max(size, len(content)) > limit_bytes:
        raise _refused("SIZE", f"expected at most {limit_bytes} bytes in {path.name}, found more")
    if not content:
        raise _refused("CORRUPT", f"{path.name} is empty")
    return content


def _check_signature(folder: Path, model_hash: str, people: People, at_ms: int) -> str:
    """Return who signed an artefact."""
    try:
        content = _read(folder / SIGNATURE_FILE, _MAX_SIGNATURE_BYTES)
        signature = Signature.model_validate_json(content)
    except (ModelRefused, ValidationError) as exc:
        msg = f"expected a person's signature in {SIGNATURE_FILE}, found none"
        raise _refused("UNTRUSTED", f"{msg}: sign it by fraudstream training sign") from exc
    try:
        role = SignerRole.TRAINER
        return people.check(signature, _PURPOSE, model_hash.encode(), role, at_ms).name
    except SignatureRefused as exc:
        raise _refused("UNTRUSTED", str(exc)) from exc


def _refuse_settings(folder: Path) -> None:
    found = sorted(entry.name for entry in os.scandir(folder) if _is_settings(entry.name))
    if found:
        msg = f"a model's settings stand in {MANIFEST_FILE} alone, found {found[:5]}"
        raise _refused("CONFIG", msg)


def _is_settings(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _SETTINGS_SUFFIXES  # noqa: PTH122  # a name only


def _member_file(folder: Path, member: Member, manifest: Manifest) -> bytes:
    """Read and check one ONNX file.

    A file that was cut short or damaged in its structure is corrupt. One that reads well and has
    another hash is not the one that was signed, whether a bit flipped or somebody put it there.
    """
    content = _read(folder / member.file, MAX_MODEL_BYTES)
    if content.startswith(_PICKLES) or content[4:8] == _RUNTIME_FORMAT:
        msg = f"{member.file}: expected an ONNX file, found a pickle, an archive or another format"
        raise _refused("FORMAT", msg)
    declared = read_declared(content)
    found = hashlib.sha256(content).hexdigest()
    if found != member.sha256:
        msg = f"{member.file} has SHA-256 {found[:12]}, the manifest says {member.sha256[:12]}"
        raise _refused("UNTRUSTED", msg)
    check_graph(declared, member, manifest)
    return content


def _parse_manifest(content: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise _refused("CORRUPT", f"{MANIFEST_FILE} is not JSON") from exc
        where = ".".join(str(part) for part in first["loc"])
        raise _refused("CONTRACT", f"{MANIFEST_FILE}: {where}: {first['msg']}") from exc


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key stands twice"
        raise ValueError(msg)
    return found


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
    if np.ptp(scores) == 0:  # so of one row too: a model that says nothing would pass it
        raise _refused("GOLDEN", "all golden raw scores are equal: the model says nothing")
    return rows


def _floats(text: str) -> FloatArray:
    # a2b_base64 is what base64.b64decode ends in, without its search for foreign characters first
    content = binascii.a2b_base64(text, strict_mode=True)
    return np.frombuffer(content, "<f4").astype(np.float32, copy=False)
