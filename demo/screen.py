"""What the demo shows: a live table on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

from typing import Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.tally import Snapshot
from fraudstream.transaction.actions import ACTION_WORDS

PLAIN_EVERY_S: Final = 5.0


class Screen(Protocol):
    """Shows snapshots and messages."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """End, and leave the terminal as it was."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand."""
        ...

    def say(self, message: str) -> None:
        """Show one message."""
        ...


def decided_words(snapshot: Snapshot) -> str:
    """Return the decisions by action, in a fixed order.

    >>> from demo.tally import Tally
    >>> decided_words(Tally(0).snapshot(0))
    'approve 0, challenge 0, review 0, decline 0'
    """
    return ", ".join(f"{name} {snapshot.decided.get(name, 0):,}" for name in ACTION_WORDS)


class PlainScreen:
    """Prints lines; for a pipe, a log or a dumb terminal."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def show(self, snapshot: Snapshot) -> None:
        """Print one line, at most every few seconds."""
        if snapshot.elapsed_s < self._next_s:
            return
        self._next_s = snapshot.elapsed_s + PLAIN_EVERY_S
        self.say(
            f"{snapshot.elapsed_s:5.0f} s | sent {sum(snapshot.sent.values()):,} |"
            f" {snapshot.per_s:.0f} decisions/s: {decided_words(snapshot)} |"
            f" alerts {snapshot.alerts:,} | p50 {snapshot.p50_ms} ms, p99 {snapshot.p99_ms} ms |"
            f" lag {snapshot.lag:,} | fraud caught {snapshot.caught}, missed {snapshot.missed} |"
            f" dead-lettered {snapshot.dead_lettered}"
        )

    def say(self, message: str) -> None:
        """Print a message."""
        print(message, flush=True)


class LiveScreen:
    """Redraws one table on a terminal.

    Args:
        heading: Lines above the table: broker, console address, logins.
    """

    def __init__(self, heading: str) -> None:
        self._heading = heading
        self._live = Live(console=Console(), refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last table standing."""
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Draw the table again."""
        table = Table(box=None, show_header=False, padding=(0, 2))
        table.add_column(style="bold")
        for name, words in _table_rows(snapshot):
            table.add_row(name, words)
        parts = Group(Text(self._heading), table, Text("Ctrl-C ends everything.", style="dim"))
        self._live.update(Panel(parts, title="fraudstream", expand=False))

    def say(self, message: str) -> None:
        """Print a message above the table."""
        self._live.console.print(message, markup=False)


def _table_rows(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return the rows of the live table."""
    sent = ", ".join(f"{name} {number:,}" for name, number in snapshot.sent.items())
    frauds = snapshot.caught + snapshot.missed
    share = f" ({snapshot.caught / frauds:.0%})" if frauds else ""
    return [
        ("running", f"{snapshot.elapsed_s:.0f} s"),
        ("sent", sent),
        ("decisions", decided_words(snapshot)),
        ("decisions/s", f"{snapshot.per_s:.0f}"),
        ("raw to decision", f"p50 {snapshot.p50_ms} ms, p99 {snapshot.p99_ms} ms"),
        ("lag", f"{snapshot.lag:,} sent and not decided yet"),
        ("alerts", f"{snapshot.alerts:,}"),
        ("fraud", f"caught {snapshot.caught}{share}, missed {snapshot.missed}"),
        ("dead-lettered", f"{snapshot.dead_lettered:,}"),
    ]
