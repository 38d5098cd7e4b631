"""Ends the process when a topic that its shards follow is not as the process found it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from fraudstream.broker.topics_at_start import LOOK_S, TopicsAtStart
from fraudstream.errors import BrokerUnavailable, LogReplaced
from services.features.process.watchdog import EXIT_TEMPORARY

_LOG: Final = logging.getLogger(__name__)


class LogWatch:
    """Looks now and then, from a thread of its own.

    Args:
        topics: The topics, as they were at the start.
        end: Ends the process with an exit code, because of what the message says.
    """

    def __init__(self, topics: TopicsAtStart, end: Callable[[int, str], None]) -> None:
        self._topics = topics
        self._end = end
        self._never = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="log watch", daemon=True).start()

    def _watch(self) -> None:
        while not self._never.wait(LOOK_S):
            try:
                self._topics.refuse_changes()
            except BrokerUnavailable as exc:
                _LOG.info("%s", exc)
            except LogReplaced as exc:
                self._end(EXIT_TEMPORARY, str(exc))
