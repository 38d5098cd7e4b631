"""Which core does what, so that the server under load has one to itself.

The servers that are compared share a core, one of them at a time; the generator has another. Broker
and store get the rest, or the generator's core where there are but two: the generator's share of it
is reported beside the figures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the server under load, the load, and broker and store have."""

    server: frozenset[int]
    generator: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def of_this_process(cls) -> Self:
        """Return who gets which of the cores that this process may use, at least two."""
        server, generator, *rest = sorted(os.sched_getaffinity(0))
        return cls(frozenset({server}), frozenset({generator}), frozenset(rest or {generator}))


def lacking_for_cores(_: object = None) -> str:
    """Return why server and load cannot have a core each, empty where they can."""
    if not hasattr(os, "sched_getaffinity"):
        return "processes cannot be bound to cores here (Linux)"
    count = len(os.sched_getaffinity(0))
    return "" if count > 1 else f"server and load need a core each, found {count}"


@contextmanager
def bound_to(cores: Set[int]) -> Iterator[None]:
    """Bind this process, and those that it starts meanwhile, to some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
