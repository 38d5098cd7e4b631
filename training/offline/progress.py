"""How far a training set is: a bar on a terminal, a line for each stage elsewhere; on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

STAGES = ("read", "order", "cards", "entities", "join")


class Progress(Protocol):
    """Told of stages and of rows that are done."""

    def begin(self, stage: str, rows: int) -> None:
        """A stage of so many rows begins."""
        ...

    def advance(self, rows: int) -> None:
        """So many rows of the stage are done."""
        ...


class _Bar:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None)

    def begin(self, stage: str, rows: int) -> None:
        self._bars.reset(self._task, description=stage, total=rows)

    def advance(self, rows: int) -> None:
        self._bars.advance(self._task, rows)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, stage: str, rows: int) -> None:
        number = STAGES.index(stage) + 1
        self._console.print(f"{number}/{len(STAGES)} {stage}: {rows} rows", highlight=False)

    def advance(self, rows: int) -> None:
        pass


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield what shows progress on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        yield _Bar(bars)
