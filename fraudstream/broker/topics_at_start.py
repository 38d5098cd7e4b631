"""Notice that topics are not as a process found them: made again, or given more partitions.

A card's partition follows from the partition count. A process that goes on with another count than
its neighbours puts one card into two partitions, where one transaction may get two decisions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from kafka.admin import KafkaAdminClient

from fraudstream.broker.clients import broker_faults, kafka_python_options
from fraudstream.broker.topic_info import Log, describe, refuse_another
from fraudstream.errors import LogReplaced
from fraudstream.settings import KafkaSettings

LOOK_S: Final = 10.0
"""Time between two looks, seconds."""


class TopicsAtStart:
    """Remembers some topics as they are now. Blocks: use from one thread at a time.

    Args:
        settings: Where Kafka is.
        names: The topics, in this deployment's names.

    Raises:
        BrokerUnavailable: The broker does not answer (every method).
    """

    def __init__(self, settings: KafkaSettings, names: Collection[str]) -> None:
        self._settings = settings
        self._names = list(names)
        with broker_faults(settings):
            self._admin = KafkaAdminClient(**kafka_python_options(settings))
        self._found = self._describe()

    def refuse_changes(self) -> None:
        """Compare the topics with what they were; one that is not there is waited for.

        Raises:
            LogReplaced: A topic was made again or given more partitions.
        """
        now = self._describe()
        for name, log in self._found.items():
            if name in now:
                refuse_another(log, now[name])
        self._refuse_growth(now)

    def refuse_growth(self) -> None:
        """Compare partition counts alone: for a process that reads none of the topics.

        Raises:
            LogReplaced: A topic has another partition count.
        """
        self._refuse_growth(self._describe())

    def _refuse_growth(self, now: Mapping[str, Log]) -> None:
        for name, log in self._found.items():
            if name in now and now[name].partitions != log.partitions:
                raise LogReplaced(
                    f"topic {name} has {now[name].partitions} partitions now, and had"
                    f" {log.partitions} when this"
                    " process started: with both counts at work a card lies in two partitions."
                    " Stop ingest, features and scoring, give every topic of the card the same"
                    " count, and start them"
                )

    def close(self) -> None:
        """Disconnect."""
        self._admin.close()

    def _describe(self) -> Mapping[str, Log]:
        return describe(self._settings, self._admin, self._names)
