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


def watch_topics(topics: TopicsAtStart, end: Callable[[int, str], None]) -> None:
    """Look now and then, from a thread of its own.

    Args:
        topics: The topics, as they were at the start.
        end: Ends the process with an exit code, because of what the message says.
    """

    def watch() -> None:
        never = threading.Event()
        while not never.wait(LOOK_S):
            try:
                topics.refuse_changes()
            except BrokerUnavailable as exc:
                _LOG.info("%s", exc)
            except LogReplaced as exc:
                end(EXIT_TEMPORARY, str(exc))

    threading.Thread(target=watch, name="log watch", daemon=True).start()
