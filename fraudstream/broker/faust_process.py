"""A Faust app as a process that leaves with exit code 0 when it was asked to leave.

Whatever a stop interrupts (a start, a join, a rebalance, a broker that went away) loses nothing:
what was not committed is given again. So it is no failure, and an operator's tools need not look.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import faust

from fraudstream.errors import FraudStreamError

_LOG: Final = logging.getLogger(__name__)


class StoppableWorker(faust.Worker):
    """Faust's worker, which knows whether it was asked to stop before anything went wrong."""

    is_asked = False

    def _flag_as_shutdown_by_signal(self) -> None:
        self.is_asked = self.is_asked or not self.crashed
        super()._flag_as_shutdown_by_signal()


def leave_when_asked() -> None:
    """Let SIGTERM and SIGINT end this process with 0 from now on; `run_until_asked` takes over."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def run_until_asked(app: faust.App) -> NoReturn:
    """Work until a signal, then end the process.

    Raises:
        FraudStreamError: What ended it, where that is an error of ours.
        SystemExit: 0 where a signal asked for the stop, 70 after another crash.
    """
    leave_when_asked()
    # Faust's spinner would write terminal codes between our lines.
    with Path(os.devnull).open("w") as nowhere:
        worker = StoppableWorker(
            app, override_logging=False, redirect_stdouts=False, stdout=nowhere
        )
        try:
            worker.execute_from_commandline()
        except SystemExit as exc:
            if not exc.code:
                raise
            if not worker.is_asked:
                if isinstance(worker.crash_reason, FraudStreamError):
                    raise worker.crash_reason from None
                sys.exit(os.EX_SOFTWARE)
            _LOG.warning("stopped as asked, though not in order: %s", worker.crash_reason)
            sys.exit(os.EX_OK)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    sys.exit(os.EX_OK)
