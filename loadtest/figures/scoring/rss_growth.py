"""Memory of the service over a hundred thousand calls that their callers gave up, and fifty swaps.

A caller here gives up before the service can answer; what the call holds must go all the same. A
swap is a promotion in the line's repository, over when a decision names the new model. The service
is warm before the first look: a run of the same calls and swaps comes first.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

from fraudstream.models.artefact import read_artefact, sign_artefact, write_artefact
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from harness.model_repository import DEMO_MODEL, REPOSITORY, TwoPeople
from loadtest.bench.figure import MeasurementFailed, Plan, Sample, Sides, experiment, taken
from loadtest.figures.scoring.doors import NEEDS, Door, running_doors
from loadtest.figures.table import figure
from loadtest.generator.calls import Outcome
from training.promotion.gate import GateReport
from training.promotion.ledger_writer import LedgerWriter
from training.promotion.orders import add_artefact, promote, propose

# In each of five rounds.
CALLS: Final = 20_000
SWAPS: Final = 10
# About what two slow cores can take: a call that gRPC drops is not given up by its caller.
_RATE_PER_S: Final = 500.0
_GIVE_UP_MS: Final = 1
_LEAST_CANCELLED: Final = 0.95
_SWAP_S: Final = 60.0
_LOOK_S: Final = 0.1
_KIB: Final = 1_024
_MIB: Final = 1 << 20
_WHY: Final = "the same model once more"


@experiment(
    figure("rss_growth", taken("ours", "growth")),
    needs=NEEDS,
)
def rss_growth(plan: Plan) -> Iterator[Sides]:
    """Start the service, warm it by the same calls and swaps, and end all on leaving."""
    with running_doors(plan) as (ours, _, line):
        seconds, seeds = plan.rows(CALLS) / _RATE_PER_S, count(1)
        promotions = Promotions(line.folder)
        swaps = plan.rows(SWAPS, 2)

        def work() -> tuple[float, int]:
            cancelled = _cancel(ours, seconds, next(seeds))
            _swap(ours, promotions, swaps)
            return cancelled, resident_bytes(ours.process.pid)

        _, warm_bytes = work()

        def run() -> Sample:
            cancelled, now_bytes = work()
            grown = {"growth": now_bytes / warm_bytes, "resident_mib": now_bytes / _MIB}
            return {**grown, "cancelled_calls": cancelled, "swaps": swaps}

        yield {"ours": run}


def _cancel(door: Door, seconds: float, seed: int) -> float:
    """Send calls and give each up; return how many were not answered before that."""
    found = door.open(_RATE_PER_S, seconds, _GIVE_UP_MS, seed)
    if found[Outcome.LATE] < _LEAST_CANCELLED * found["calls"]:
        raise MeasurementFailed(f"every call should be given up, found {found}")
    return found[Outcome.LATE]


def _swap(door: Door, promotions: Promotions, swaps: int) -> None:
    """Promote versions one after another, each when the one before decides."""
    for _ in range(swaps):
        wanted, gives_up_s = promotions.promote_next(), time.monotonic() + _SWAP_S
        while door.decide_one().model_hash != wanted:
            if time.monotonic() > gives_up_s:
                raise MeasurementFailed(f"{_SWAP_S:g} s after its promotion {wanted} is not served")
            time.sleep(_LOOK_S)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process (proc(5), VmRSS)."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    found = next(line for line in lines if line.startswith("VmRSS:"))
    return int(found.split()[1]) * _KIB


class Promotions:
    """Promotes the demo's model again and again in a line's folder, each time a new version."""

    def __init__(self, folder: Path) -> None:
        two = TwoPeople.make(folder)
        repository = ModelRepository(folder / REPOSITORY, two.people, epoch_ms)
        self._trainer = LedgerWriter(repository, two.trainer)
        self._approver = LedgerWriter(repository, two.approver)
        self._two = two
        self._source = folder / "next-model"
        self._version = read_artefact(DEMO_MODEL).manifest.version

    def promote_next(self) -> str:
        """Make the next version champion; return its model hash."""
        demo = read_artefact(DEMO_MODEL)
        self._version += 1
        manifest = demo.manifest.model_copy(update={"version": self._version})
        files = zip((member.file for member in manifest.members), demo.files, strict=True)
        write_artefact(self._source, manifest, dict(files))
        sign_artefact(self._source, self._two.trainer)
        model_hash = read_artefact(self._source).model_hash
        standing = add_artefact(self._trainer, self._source, _WHY)
        shutil.rmtree(self._source)
        name, champion = f"{manifest.name}/{self._version}", str(standing.champion)
        propose(self._trainer, GateReport(name, champion, 0, 0, ()), _WHY)
        promote(self._approver, name, _WHY)
        return model_hash
