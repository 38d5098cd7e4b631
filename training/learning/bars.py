"""Bars of long work on a terminal; elsewhere its lines are enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def with_bar(steps: Sequence[T], what: str) -> Iterable[T]:
    """Return the steps, with a bar on stderr that goes when they are done.

    >>> list(with_bar(range(3), "counting"))
    [0, 1, 2]
    """
    console = Console(stderr=True)
    return track(steps, what, console=console, transient=True, disable=not console.is_terminal)
