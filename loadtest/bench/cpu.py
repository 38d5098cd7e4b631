"""CPU time of processes, read from /proc before and after a run, and of work in this process.

A process started by `harness.processes` leads a session of its own; its time is that of every
process of the session with all their threads, ended children included. The kernel's grain is 10 ms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from loadtest.bench.figure import Sample

_PROC: Final = Path("/proc")
_US: Final = 1_000_000
_NS_PER_US: Final = 1_000
# Fields after the command name, which may hold blanks (proc(5), /proc/PID/stat from field 3 on).
_PARENT, _SESSION, _TIMES = 1, 3, slice(11, 15)


def lacking_for_cpu(_: object = None) -> str:
    """Return why CPU time cannot be read here, empty where it can."""
    return "" if (_PROC / "self" / "stat").is_file() else "CPU time is read from /proc (Linux)"


def session_cpu_us(leaders: Collection[int]) -> int:
    """Return the user and system time of these sessions so far, microseconds."""
    ticks = sum(
        sum(int(number) for number in fields[_TIMES])
        for fields in _all_stats()
        if int(fields[_SESSION]) in leaders
    )
    return ticks * _US // os.sysconf("SC_CLK_TCK")


def child_sessions() -> set[int]:
    """Return the sessions that children of this process lead."""
    own = str(os.getpid())
    return {int(fields[_SESSION]) for fields in _all_stats() if fields[_PARENT] == own}


def _all_stats() -> list[list[str]]:
    """Return what the kernel says of each process; one that ends meanwhile is left out."""
    found = []
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue
        found.append(text.rpartition(")")[2].split())
    return found


def spent(work: Callable[[], object], count: int) -> Sample:
    """Run some work once; return CPU and wall microseconds for each of `count` items.

    CPU time is that of all threads of this process, user and system: other work on the machine
    adds waiting to the wall time, not to this.

    >>> sorted(spent(lambda: None, 1))
    ['cpu_us', 'wall_us']
    """
    cpu_ns, wall_ns = time.process_time_ns(), time.perf_counter_ns()
    work()
    cpu_ns, wall_ns = time.process_time_ns() - cpu_ns, time.perf_counter_ns() - wall_ns
    return {"cpu_us": cpu_ns / _NS_PER_US / count, "wall_us": wall_ns / _NS_PER_US / count}
