"""What a piece of work spends: CPU time of this process, and wall time beside it."""

from __future__ import annotations

import time
from collections.abc import Callable

from loadtest.bench.figure import Sample

_NS_PER_US = 1_000


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
