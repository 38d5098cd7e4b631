"""How a service says that it is ready."""

from __future__ import annotations


def say_ready() -> None:
    """Print `ready`, the one line that starters wait for.

    In one write: where stdout is unbuffered and shares a file with the log, `print` would let
    another thread's line in before the end of this one.
    """
    print("ready\n", end="", flush=True)
