"""Looks now and then whether the topics of ingest are still as it found them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from fraudstream.broker.topic_watch import TopicWatch
from fraudstream.broker.topics_at_start import LOOK_S, TopicsAtStart
from fraudstream.errors import BrokerUnavailable

_LOG: Final = logging.getLogger(__name__)


class TopicLooks:
    """Watches what ingest reads and what it writes by partition count.

    Args:
        read: The raw topics, which may be given more partitions.
        written: The accepted topic, as it was when its partitions were counted.
    """

    def __init__(self, read: Sequence[TopicWatch], written: TopicsAtStart) -> None:
        self._read = read
        self._written = written
        self._looked_s = time.monotonic()

    def look(self, is_idle: bool) -> None:
        """Ask the broker where it is time to; call it after every poll.

        Raises:
            LogReplaced: A raw topic was made again, or the accepted one has more partitions.
            StreamStalled: The group has left records unread for a minute.
        """
        if is_idle:
            for watch in self._read:
                watch.look()
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            self._written.refuse_growth()
        except BrokerUnavailable as exc:
            _LOG.info("%s", exc)
