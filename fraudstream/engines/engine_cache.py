"""Plans that were built once, kept in a folder: `KEY.plan`, and `KEY.json` that says what it is.

A plan is machine code, so the folder belongs to the service alone, and what is found there is
refused and built again unless the JSON beside it fits: the key's fields, and the plan's length and
SHA-256. Files appear whole or not at all, and the JSON last. TensorRT-RTX adds `KEY.jit`, the
kernels that it compiled at the first run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fraudstream.engines.engine_kinds import EngineKind
from fraudstream.engines.protocol import Precision
from fraudstream.engines.tensorrt_build import Plan, RowProfile, TensorSpec
from fraudstream.errors import InvalidSettings

MAX_PLAN_BYTES: Final = 1 << 30
_MAX_JSON_BYTES: Final = 1 << 20
_DIGEST_BYTES: Final = 32

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that decides what a plan is.

    Attributes:
        model_sha256: Of the ONNX file that was signed.
        precision: In which it computes.
        library: What built it.
        library_version: Its version.
        gpu_name: The GPU that it was built on, and for.
        compute_capability: Of the GPU.
        profiles: Batch sizes.
    """

    model_sha256: str
    precision: Precision
    library: EngineKind
    library_version: str
    gpu_name: str
    compute_capability: tuple[int, int]
    profiles: tuple[RowProfile, ...]

    def fields(self) -> dict[str, Any]:
        """Return the key as JSON gives it back."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return fields

    @property
    def name(self) -> str:
        """Return the name of its files, 32 hexadecimal digits.

        >>> key = PlanKey("00", Precision.FP16, EngineKind.TENSORRT, "11.4", "a GPU", (9, 0), ())
        >>> len(key.name)
        32
        """
        text = json.dumps(self.fields(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class EngineCache:
    """A folder of plans."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing.

        Raises:
            InvalidSettings: Others may write into it, or nobody can.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.stat()
        except OSError as exc:
            raise InvalidSettings(f"no folder for engines at {folder}: {exc.strerror}") from exc
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            msg = f"{folder} holds machine code: expected it to be ours and mode 0700"
            raise InvalidSettings(f"{msg}, found mode {stat.S_IMODE(found.st_mode):04o}")
        self._folder = folder

    def load(self, key: PlanKey) -> Plan | None:
        """Return the plan of a key; None where there is none that can be trusted."""
        description = self._folder / f"{key.name}.json"
        if not description.exists():
            return None
        try:
            return self._read(key, description)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
            _LOG.warning("engine %s is not as it was written, it is built again: %r", key.name, exc)
            return None

    def _read(self, key: PlanKey, description: Path) -> Plan:
        found = json.loads(_read_plain(description, _MAX_JSON_BYTES))
        if found["key"] != key.fields():
            msg = "the plan file does not match its key file"
            raise ValueError(msg)
        content = _read_plain(self._folder / f"{key.name}.plan", MAX_PLAN_BYTES)
        if [len(content), _sha256(content)] != [found["bytes"], found["sha256"]]:
            msg = "the plan has another length or SHA-256"
            raise ValueError(msg)
        return Plan(content, tuple(_tensor_of(tensor) for tensor in found["tensors"]), key.profiles)

    def store(self, key: PlanKey, plan: Plan) -> None:
        """Keep a plan; a full disk costs a build at the next start, not this one."""
        description = {
            "key": key.fields(),
            "bytes": len(plan.content),
            "sha256": _sha256(plan.content),
            "tensors": [asdict(tensor) for tensor in plan.tensors],
        }
        self._write(f"{key.name}.plan", plan.content)
        self._write(f"{key.name}.json", json.dumps(description, indent=1).encode())

    def load_kernels(self, key: PlanKey) -> bytes:
        """Return the kernels that TensorRT-RTX compiled for a key; empty for none."""
        try:
            content = _read_plain(self._folder / f"{key.name}.jit", MAX_PLAN_BYTES)
        except (OSError, ValueError):
            return b""
        digest, kernels = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return kernels if hashlib.sha256(kernels).digest() == digest else b""

    def store_kernels(self, key: PlanKey, kernels: bytes) -> None:
        """Keep them, behind their SHA-256."""
        self._write(f"{key.name}.jit", hashlib.sha256(kernels).digest() + kernels)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file so that it is whole or absent, for us alone."""
        try:
            handle, path = tempfile.mkstemp(dir=self._folder)  # mode 0600
        except OSError as exc:
            _LOG.warning("engine file %s was not kept: %s", name, exc.strerror)
            return
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(path).replace(self._folder / name)
        except OSError as exc:
            Path(path).unlink(missing_ok=True)
            _LOG.warning("engine file %s was not kept: %s", name, exc.strerror)


def _read_plain(path: Path, limit_bytes: int) -> bytes:
    """Read one plain file; a link could lead out of the folder."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        msg = f"expected at most {limit_bytes} bytes"
        raise ValueError(msg)
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tensor_of(found: Mapping[str, Any]) -> TensorSpec:
    row_shape = tuple(int(size) for size in found["row_shape"])
    return TensorSpec(str(found["name"]), bool(found["is_input"]), str(found["dtype"]), row_shape)
