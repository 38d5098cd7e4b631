"""Memory of the service over a hundred thousand calls that their callers gave up.

A caller here gives up before the service can answer; what the call holds must go all the same. The
service is warm before the first look: a run of the same calls comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from loadtest.bench.figure import Figure, MeasurementFailed, Plan, Round, Sample, Side
from loadtest.figures.doors import Door, OnDoors, running_doors
from loadtest.generator.calls import Outcome

# In each of five rounds.
CALLS: Final = 20_000
_RATE_PER_S: Final = 1_000.0
_GIVE_UP_MS: Final = 1
_LEAST_CANCELLED: Final = 0.95
_KIB: Final = 1_024
_MIB: Final = 1 << 20


class RssGrowth(OnDoors):
    """Resident memory after cancelled calls / before them."""

    figures = (
        Figure(
            "rss_growth",
            "Resident memory of scoring after 20,000 cancelled calls a round: now / warm",
            "ratio",
            must=1.1,
            aim=1.02,
            is_cost=True,
        ),
    )

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start the service, warm it by the same calls, and end all on leaving."""
        with running_doors(self._kafka, self._machine, plan) as doors:
            seconds, seeds = plan.rows(CALLS) / _RATE_PER_S, count(1)
            _cancel(doors.ours, seconds, next(seeds))
            warm_bytes = resident_bytes(doors.ours.process.pid)

            def run() -> Sample:
                cancelled = _cancel(doors.ours, seconds, next(seeds))
                now_bytes = resident_bytes(doors.ours.process.pid)
                return {
                    "growth": now_bytes / warm_bytes,
                    "mib": now_bytes / _MIB,
                    "cancelled": cancelled,
                }

            yield {"ours": run}

    def values(self, measured: Round) -> dict[str, float]:
        """Return the growth since the first look, as of one round."""
        ours = measured["ours"]
        return {
            "rss_growth": ours["growth"],
            "resident_mib": ours["mib"],
            "cancelled_calls": ours["cancelled"],
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


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process (proc(5), VmRSS)."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    found = next(line for line in lines if line.startswith("VmRSS:"))
    return int(found.split()[1]) * _KIB
