"""How a service that is built settles down, and says that it is ready."""

from __future__ import annotations

import gc


def keep_what_lives() -> None:
    """Tell the collector that what lives now lives to the end: it need not be walked again."""
    gc.collect()
    gc.freeze()


def say_ready() -> None:
    """Print `ready`, the one line that starters wait for.

    In one write: where stdout is unbuffered and shares a file with the log, `print` would let
    another thread's line in before the end of this one.
    """
    print("ready\n", end="", flush=True)
