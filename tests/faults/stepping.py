"""One event loop in which everybody waits for a turn, and time passes only when nobody can move.

A step is what lies between two turns of one process: one call to the store or one append to a log.
Whoever holds the `Schedule` decides who takes the next one, so a seed, or a test that names the
steps, gives the same interleaving each time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Virtual time of one turn. A shard that failed waits 0.2 s, the sweep 0.3 s: some tens of turns.
TURN_S: Final = 0.01
_MAX_TURNS: Final = 3_000


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing, sockets included: where nobody is ready, the clock jumps to a timer."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Move the clock instead of waiting."""
        if timeout is None:
            msg = "nobody is ready and no timer is set: the run would stand still for ever"
            raise RuntimeError(msg)
        self.now_s += max(timeout, 0.0)
        return []


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return seconds since the loop was made."""
        return self._jumping.now_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run at once what would go to a thread: no other step can come between."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001  # whoever awaits the future raises it
            done.set_exception(exc)
        return done


class Fate(StrEnum):
    """What becomes of one effect."""

    OK = "ok"
    NOT_RUN = "not run"
    ANSWER_LOST = "answer lost"
    LATE = "late"
    PART = "part"


class Process:
    """What crashes as one: its memory is in its tasks, and none of them moves after the crash."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_paused = False
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something for as long as the process lives; its failure fails the run."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    def serve(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a call of somebody else, who sees its failure."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)
        return task

    def raise_failure(self) -> None:
        """Raise what ended a task that should not end."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    def end(self) -> None:
        """Cancel whatever runs."""
        self.is_dead = True
        for task in list(self._tasks):
            task.cancel()


@dataclass(slots=True)
class Step:
    """Somebody who waits for a turn."""

    process: Process
    name: str
    go: asyncio.Future[None]


Chooser = Callable[[Process, str, tuple[Fate, ...]], Fate]


def always_ok(_process: Process, _name: str, _possible: tuple[Fate, ...]) -> Fate:
    """Let every effect happen as it should."""
    return Fate.OK


@dataclass
class Schedule:
    """Who waits, and what becomes of whom.

    Attributes:
        choose: Fate of an effect among the possible ones; asked when it is about to happen.
        network: What is on its way after its sender gave up: moves as a process of its own.
    """

    choose: Chooser = always_ok
    network: Process = field(default_factory=lambda: Process("network"))
    waiting: list[Step] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)

    async def turn(self, process: Process, name: str) -> None:
        """Wait for a turn; a dead process gets none."""
        if process.is_dead:
            raise asyncio.CancelledError
        step = Step(process, name, asyncio.get_running_loop().create_future())
        self.waiting.append(step)
        try:
            await step.go
        finally:
            if step in self.waiting:
                self.waiting.remove(step)

    async def settle(self) -> None:
        """Return when everybody waits for a turn or for a timer."""
        await asyncio.sleep(TURN_S)
        # A deadline that passed in this very moment has cancelled its step already.
        self.waiting = [step for step in self.waiting if not step.go.done()]

    async def release(self, step: Step) -> None:
        """Give a turn, and wait until its taker waits again."""
        self.waiting.remove(step)
        self.trail.append(f"{step.process.name}: {step.name}")
        step.go.set_result(None)
        await self.settle()
        step.process.raise_failure()

    def crash(self, process: Process) -> None:
        """End a process between two of its steps."""
        self.trail.append(f"{process.name} CRASHES")
        process.end()
        for step in [step for step in self.waiting if step.process is process]:
            self.waiting.remove(step)
            step.go.cancel()

    def later(self, name: str, work: Callable[[], object]) -> None:
        """Let something happen at some turn, or never."""

        async def happen() -> None:
            await self.turn(self.network, name)
            work()

        self.network.serve(happen())

    def steps_of(self, process: Process) -> list[Step]:
        """Return the steps at which a process stands."""
        return [step for step in self.waiting if step.process is process]

    async def move(self) -> None:
        """Give a turn to whoever has waited longest and is not paused."""
        step = next((step for step in self.waiting if not step.process.is_paused), None)
        await (self.release(step) if step else self.settle())

    async def run_until(self, is_there: Callable[[], bool], what: str) -> None:
        """Give turns, in order, to all that are not paused, until something is so."""
        await self.settle()
        for _ in range(_MAX_TURNS):
            if is_there():
                return
            await self.move()
        msg = f"{what} never happened; the end: {self.trail[-20:]}"
        raise AssertionError(msg)

    def stands_before(self, process: Process, name: str) -> bool:
        """Return whether a process waits for the step of this name."""
        return any(step.name == name for step in self.steps_of(process))

    async def run(self, process: Process, until: str) -> None:
        """Let a process go on, until it stands before the step of this name, and is held there."""
        process.is_paused = False
        await self.run_until(
            lambda: self.stands_before(process, until), f"{process.name} before {until!r}"
        )
        process.is_paused = True

    async def run_past(self, process: Process, name: str) -> None:
        """Let a process go on, until it has taken the step of this name, and is held there."""
        await self.run(process, name)
        await self.release(next(s for s in self.steps_of(process) if s.name == name))
