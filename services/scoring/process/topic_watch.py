"""Ends the service when a topic of the card is given more partitions."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fraudstream.broker.topics_at_start import LOOK_S, TopicsAtStart
from fraudstream.errors import BrokerUnavailable

_LOG: Final = logging.getLogger(__name__)


class TopicWatch:
    """Looks now and then, in a thread."""

    def __init__(self, topics: TopicsAtStart) -> None:
        """Keep the topics, as they were at the start."""
        self._topics = topics

    async def watch_forever(self) -> None:
        """Look, wait, look.

        Raises:
            LogReplaced: A topic has another partition count.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await asyncio.to_thread(self._topics.refuse_growth)
            except BrokerUnavailable as exc:
                _LOG.info("%s", exc)
