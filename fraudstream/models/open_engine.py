"""From a checked artefact to an engine that is ready to serve: golden rows, warm-up, budget.

The order: a trial in a process of its own, whose memory and time are bounded; then sessions, then
every golden row once in batches of all sizes, which warms each size twice and times a full batch.
Nothing is served before all of it has passed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fraudstream.engines.onnx_engine  # noqa: F401  # its library is no part of a model's memory
from fraudstream.engines.engine_kinds import FIRST, EngineOrder
from fraudstream.engines.golden import check_golden, rule_of
from fraudstream.engines.members import MembersEngine
from fraudstream.engines.protocol import MAX_ROWS, Engine, Precision
from fraudstream.engines.trial import Member, try_members
from fraudstream.errors import ModelNotLoaded, ModelRefused
from fraudstream.models.artefact import Artefact
from fraudstream.models.manifest import Member as ManifestMember
from fraudstream.models.manifest import MemberKind

_MEMORY_FILE: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = 4096
_NETWORKS: Final = frozenset({MemberKind.LSTM, MemberKind.TRANSFORMER})


@dataclass(frozen=True, slots=True)
class Budget:
    """What a model may cost where it serves.

    Attributes:
        batch_ms: Time of a full batch of 64 rows once it is warm.
        growth_bytes: Memory that the process gains by loading and warming it.
    """

    batch_ms: float
    growth_bytes: int


def open_engine(artefact: Artefact, order: EngineOrder | None = None) -> Engine:
    """Return the engine of an artefact's members, neither checked nor warm.

    Args:
        artefact: Whose members.
        order: Which engine computes its networks in fp32; None for the one that serves first, which
            computes trees and int8 in any case.

    Raises:
        EngineFailed: The ordered engine cannot be opened now.
        ModelRefused: A library does not load a member.
    """
    manifest = artefact.manifest
    with ExitStack() as opened:
        engines: list[Engine] = []
        for file, member in zip(artefact.files, manifest.members, strict=True):
            first = EngineOrder(FIRST, member.precision)
            wanted = order if order and _is_fp32_network(member) else first
            engines.append(wanted.open(file))
            opened.callback(engines[-1].close)
        opened.pop_all()
    return MembersEngine(engines, manifest.formula)


def open_ordered(artefact: Artefact, order: EngineOrder) -> Engine:
    """Return an artefact's engine as ordered, held to its golden rows and warm.

    Raises:
        EngineFailed: It cannot be opened now.
        ModelRefused: It cannot serve this model.
    """
    manifest = artefact.manifest
    if not any(_is_fp32_network(member) for member in manifest.members):
        raise ModelRefused("MODEL_GPU", "no member is a network in fp32: a GPU has nothing to do")
    coarsest = max(manifest.precision, order.precision, key=list(Precision).index)
    engine = open_engine(artefact, order)
    with ExitStack() as failing:
        failing.callback(engine.close)
        check_golden(engine, artefact.golden, rule_of(coarsest, manifest.is_alert))
        failing.pop_all()
    return engine


def _is_fp32_network(member: ManifestMember) -> bool:
    return member.kind in _NETWORKS and member.precision is Precision.FP32


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
    with ExitStack() as failing:
        failing.callback(engine.close)
        _check(engine, artefact, budget, before)
        failing.pop_all()
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
