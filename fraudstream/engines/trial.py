"""A model's first load and run, in a process of its own with bounded memory and time.

A small file may unfold into gigabytes while it is loaded, or into a graph that never finishes. In
the process that serves, that would end it; here it ends the trial. A model that passes is loaded
again where it serves: a second of a start, most of it the import of ONNX Runtime.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np

from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.protocol import MAX_ROWS, FloatArray, Precision
from fraudstream.errors import ModelNotLoaded, ModelRefused

# The largest model of the catalogue loads in two; a graph that takes longer is none of ours.
_CPU_S: Final = 30
# On a busy machine the process waits for its turn.
_WALL_S: Final = 180.0
# Beside what the model may take: what the runtime itself allocates once it runs.
_SPARE_BYTES: Final = 64 << 20
_MOST_BYTES: Final = 8 << 30
# What a runtime says where its memory is refused.
_NO_MEMORY: Final = ("bad_alloc", "bad allocation", "Failed to allocate", "smaller than requested")
# No variable of ours, which may name secrets, is passed on.
_KEPT_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "HOME", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Member:
    """An ONNX file of a model, and the precision in which it is loaded."""

    file: bytes
    precision: Precision


def try_members(members: Sequence[Member], golden: GoldenRows, growth_bytes: int) -> None:
    """Load members and score one batch in a process of its own; return if all went well.

    Args:
        members: Of one model.
        golden: Rows to score; those of one batch are taken.
        growth_bytes: Memory that loading and scoring may take.

    Raises:
        ModelRefused: `MODEL_CORRUPT` where ONNX Runtime refuses a member or fails on the batch,
            `MODEL_BUDGET` where memory or time is exceeded.
    """
    vectors, sequences = golden.vectors[:MAX_ROWS], golden.sequences[:MAX_ROWS]
    head = {
        "limit": min(growth_bytes + _SPARE_BYTES, _MOST_BYTES),
        "members": [(len(one.file), one.precision.value) for one in members],
        "shapes": [vectors.shape, sequences.shape],
    }
    parts = [json.dumps(head).encode() + b"\n", *(one.file for one in members)]
    parts += [np.ascontiguousarray(rows, "<f4").tobytes() for rows in (vectors, sequences)]
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        done = subprocess.run(  # noqa: S603  # our own module, by our own interpreter
            [sys.executable, "-m", __name__],
            input=b"".join(parts),
            capture_output=True,
            timeout=_WALL_S,
            check=False,
            env={**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired as exc:
        msg = f"its first load and run are not done within {_WALL_S:g} s"
        raise ModelRefused("MODEL_BUDGET", msg) from exc
    _judge(done, growth_bytes)


def _judge(done: subprocess.CompletedProcess[bytes], growth_bytes: int) -> None:
    if done.returncode == os.EX_OK:
        return
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode == os.EX_DATAERR and not any(words in said for words in _NO_MEMORY):
        raise ModelRefused("MODEL_CORRUPT", said)
    how = f"ended by signal {-done.returncode}" if done.returncode < 0 else said
    msg = (
        f"its first load and run, in a process of their own, take more than {growth_bytes >> 20}"
        f" MiB or {_CPU_S} s of CPU: {how or f'code {done.returncode}'}"
    )
    raise ModelRefused("MODEL_BUDGET", msg)


def _run(given: BinaryIO) -> int:
    """Load and score what a parent sends; print why not. Return the exit code."""
    head = json.loads(given.readline())
    files = [Member(given.read(size), Precision(name)) for size, name in head["members"]]
    vectors, sequences = (_rows(given, shape) for shape in head["shapes"])
    from fraudstream.engines.onnx_engine import OnnxEngine

    limit = _held_bytes() + head["limit"]
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for one in files:
            OnnxEngine(one.file, one.precision).score(vectors, sequences)
    except (ModelRefused, ModelNotLoaded) as exc:
        print(exc.args[0].removeprefix("MODEL_CORRUPT: "))
        return os.EX_DATAERR
    return os.EX_OK


def _rows(given: BinaryIO, shape: Sequence[int]) -> FloatArray:
    size = 4 * int(np.prod(shape))
    return np.frombuffer(given.read(size), "<f4").astype(np.float32).reshape(shape)


def _held_bytes() -> int:
    """Return the private memory that this process has asked for, as the limit counts it."""
    with open("/proc/self/statm") as file:  # noqa: PTH123  # no import is worth it here
        return int(file.read().split()[5]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(_run(sys.stdin.buffer))
