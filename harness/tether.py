"""Run a command that ends when the process that started it ends, however that one ended.

Used as a script: `python tether.py PARENT_PID COMMAND...`. It sets Linux's parent-death signal and
becomes the command, so the process id stays the same. Nothing runs between fork and exec of the
parent, which may have threads. Elsewhere than on Linux it only becomes the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

# <linux/prctl.h>
_PR_SET_PDEATHSIG: Final = 1


def tether_to(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends.

    Ends at once where the parent is gone already. The signal survives `exec`.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def main() -> None:
    """Tether this process, then become the command in its arguments."""
    tether_to(int(sys.argv[1]))
    command = sys.argv[2:]
    os.execvp(command[0], command)  # noqa: S606  # the command is the caller's own


if __name__ == "__main__":
    main()
