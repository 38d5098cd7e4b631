"""What a rebuild fills: the job, its progress, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fraudstream.broker.topic_info import Log
from fraudstream.store.shard import Marker, ShardKeys, ShardRef


@dataclass(slots=True)
class Progress:
    """How far a rebuild is; `ticks` moves on while anything does, also while it waits."""

    ticks: int = 0
    rows: int = 0

    def add(self, rows: int) -> None:
        """Count records that were read."""
        self.ticks += 1
        self.rows += rows


@dataclass(frozen=True, slots=True)
class Job:
    """One shard to fill.

    Attributes:
        shard: The shard, in its new generation.
        log: The log that it follows.
        read: Its marker before, None for none.
        begin: First offset that the log still holds.
        other_partitions: Partitions besides its own that may hold rows of its keys: those of a log
            that was given more partitions.
        is_log_cut: The log lost records, so its offsets say nothing of what was applied.
        progress: Where to count.
    """

    shard: ShardRef
    log: Log
    read: Marker | None
    begin: int
    other_partitions: Sequence[int] = ()
    is_log_cut: bool = False
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True, slots=True)
class Filled:
    """A generation that is ready to be switched to.

    Attributes:
        job: What was asked.
        next_offset: First offset that it does not hold.
        states: How many states it has.
        keys: Names of what a generation of this shard holds, to free those of an earlier one.
        is_switched: The marker names it already.
    """

    job: Job
    next_offset: int
    states: int
    keys: Callable[[ShardKeys], Iterable[str]]
    is_switched: bool = False


class Filler(Protocol):
    """Fills generations of one role."""

    async def fill(self, job: Job) -> Filled:
        """Fill a generation from the log.

        Raises:
            OnlineStoreUnavailable: The store did not answer, over several attempts.
            BrokerUnavailable: The broker did not.
        """
        ...
