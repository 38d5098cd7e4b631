"""From a checked artefact to an engine that is ready to serve: golden rows, warm-up, budget.

The order: a trial in a process of its own, whose memory and time are bounded; then sessions, then
every golden row once in batches of all sizes, which warms each size twice and times a full batch.
Nothing is served before all of it has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraudstream.engines.golden import check_golden, rule_of
from fraudstream.engines.members import MembersEngine
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import MAX_ROWS, Engine
from fraudstream.engines.trial import Member, try_members
from fraudstream.errors import ModelNotLoaded, ModelRefused
from fraudstream.models.artefact import Artefact

_MEMORY_FILE: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Budget:
    """What a model may cost where it serves.

    Attributes:
        batch_ms: Time of a full batch of 64 rows once it is warm.
        growth_bytes: Memory that the process gains by loading and warming it.
    """

    batch_ms: float
    growth_bytes: int


def open_engine(artefact: Artefact) -> Engine:
    """Return the engine of an artefact's members on the CPU, neither checked nor warm.

    Raises:
        ModelRefused: `MODEL_CORRUPT`: ONNX Runtime does not load a member.
    """
    members = zip(artefact.files, artefact.manifest.members, strict=True)
    engines = [OnnxEngine(file, member.precision) for file, member in members]
    return MembersEngine(engines, artefact.manifest.formula)


def ready_engine(artefact: Artefact, budget: Budget) -> Engine:
    """Return the engine of an artefact: its golden rows hold, it is warm and inside its budget.

    Raises:
        ModelRefused: `MODEL_CORRUPT` where a session cannot be made or fails on a batch,
            `MODEL_GOLDEN` where golden rows come out otherwise, `MODEL_BUDGET` where a batch takes
            too long or the process grows too much.
    """
    try_members(
        [
            Member(file, member.precision)
            for file, member in zip(artefact.files, artefact.manifest.members, strict=True)
        ],
        artefact.golden,
        budget.growth_bytes,
    )
    before = resident_bytes()
    engine = open_engine(artefact)
    try:
        _check(engine, artefact, budget, before)
    except BaseException:
        engine.close()
        raise
    return engine


def _check(engine: Engine, artefact: Artefact, budget: Budget, before: int) -> None:
    manifest = artefact.manifest
    rule = rule_of(manifest.precision, manifest.is_alert)
    try:
        took_ms = check_golden(engine, artefact.golden, rule)
    except ModelNotLoaded as exc:
        raise ModelRefused("MODEL_CORRUPT", f"the golden rows cannot be scored: {exc}") from exc
    if took_ms > budget.batch_ms:
        msg = f"{MAX_ROWS} rows take {took_ms:.1f} ms, at most {budget.batch_ms:g} ms is expected"
        raise ModelRefused("MODEL_BUDGET", msg)
    growth = resident_bytes() - before
    if growth > budget.growth_bytes:
        msg = f"the process grew by {growth >> 20} MiB, at most {budget.growth_bytes >> 20} MiB"
        raise ModelRefused("MODEL_BUDGET", f"{msg} is expected")


def resident_bytes() -> int:
    """Return the memory that this process holds now; 0 where the kernel does not say (no Linux).

    >>> resident_bytes() >= 0
    True
    """
    if not _MEMORY_FILE.is_file():
        return 0
    return int(_MEMORY_FILE.read_text().split()[1]) * _PAGE_BYTES
