"""Memory of the service over a hundred thousand calls that their callers gave up, and fifty swaps.

A caller here gives up before the service can answer; what the call holds must go all the same. A
swap is a promotion in the line's repository, over when a decision names the new model. The service
is warm before the first look: a run of the same calls and swaps comes first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from loadtest.bench.figure import Figure, MeasurementFailed, Plan, Round, Sample, Side
from loadtest.figures.doors import Door, OnDoors, running_doors
from loadtest.figures.promotions import Promotions
from loadtest.generator.calls import Outcome

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


class RssGrowth(OnDoors):
    """Resident memory after cancelled calls and swaps / before them."""

    figures = (
        Figure(
            "rss_growth",
            "Resident memory of scoring, 20,000 cancelled calls and 10 swaps a round: now / warm",
            "ratio",
            must=1.1,
            aim=1.02,
            is_cost=True,
        ),
    )

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start the service, warm it by the same calls and swaps, and end all on leaving."""
        with running_doors(self._kafka, self._machine, plan) as doors:
            seconds, seeds = plan.rows(CALLS) / _RATE_PER_S, count(1)
            promotions = Promotions(doors.stored.line.folder)
            swaps = plan.rows(SWAPS, 2)
            _cancel(doors.ours, seconds, next(seeds))
            _swap(doors.ours, promotions, swaps)
            warm_bytes = resident_bytes(doors.ours.process.pid)

            def run() -> Sample:
                cancelled = _cancel(doors.ours, seconds, next(seeds))
                _swap(doors.ours, promotions, swaps)
                now_bytes = resident_bytes(doors.ours.process.pid)
                return {
                    "growth": now_bytes / warm_bytes,
                    "mib": now_bytes / _MIB,
                    "cancelled": cancelled,
                    "swaps": swaps,
                }

            yield {"ours": run}

    def values(self, measured: Round) -> dict[str, float]:
        """Return the growth since the first look, as of one round."""
        ours = measured["ours"]
        return {
            "rss_growth": ours["growth"],
            "resident_mib": ours["mib"],
            "cancelled_calls": ours["cancelled"],
            "swaps": ours["swaps"],
        }


def _cancel(door: Door, seconds: float, seed: int) -> int:
    """Send calls and give each up; return how many were.

    Raises:
        MeasurementFailed: Too many were answered before that.
    """
    loaded = door.open(_RATE_PER_S, seconds, _GIVE_UP_MS, seed)
    cancelled = loaded.summary.counts[Outcome.LATE]
    if cancelled < _LEAST_CANCELLED * loaded.calls:
        raise MeasurementFailed(f"{loaded.calls} calls should be given up, found {cancelled}")
    return cancelled


def _swap(door: Door, promotions: Promotions, swaps: int) -> None:
    """Promote versions one after another, each when the one before decides.

    Raises:
        MeasurementFailed: One does not decide in time.
    """
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
