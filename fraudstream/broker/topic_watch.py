"""Notice that a topic which a group reads was made again, or that the group stands still.

kafka-python 3.0.12 is expelled from its group without a word where the outcome of a join is lost,
as when its topic is deleted and made again: polls return nothing from then on. A worker that reads
nothing therefore asks the broker, which knows better.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition

from fraudstream.broker.clients import broker_faults, kafka_python_options
from fraudstream.broker.topic_info import Log, describe, refuse_another
from fraudstream.errors import BrokerUnavailable, StreamStalled
from fraudstream.settings import KafkaSettings

_LOG: Final = logging.getLogger(__name__)
_LOOK_S: Final = 5.0
_STANDSTILL_S: Final = 60.0


class TopicWatch:
    """Watches one topic for one member of a group.

    Args:
        settings: Where Kafka is.
        consumer: The member; its topic is there.
        name: The topic.
        clock_s: Seconds of a clock that never goes back.

    Raises:
        BrokerUnavailable: The broker does not answer.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        consumer: KafkaConsumer,
        name: str,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._name = name
        self._clock_s = clock_s
        with broker_faults(settings):
            self._admin = KafkaAdminClient(**kafka_python_options(settings))
            self._log = self._find() or Log(name, b"", 0)  # one that comes later is another
        self._looked_s = self._moved_s = self._assigned_s = clock_s()
        self._lag: dict[TopicPartition, int] = {}

    def look(self) -> None:
        """Ask the broker now and then; call it when a poll brought nothing.

        Raises:
            LogReplaced: The topic was made again.
            StreamStalled: The group has left records unread for a minute.
        """
        now_s = self._clock_s()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        try:
            with broker_faults(self._settings, f"watching {self._name}"):
                self._refuse_if_replaced()
                if self._may_be_stalled(now_s):
                    self._refuse_if_stalled(now_s)
        except BrokerUnavailable as exc:
            _LOG.warning("%s", exc)

    def close(self) -> None:
        """Disconnect."""
        self._admin.close()

    def _find(self) -> Log | None:
        """Return the topic; None while it is not there."""
        return describe(self._settings, self._admin, [self._name]).get(self._name)

    def _refuse_if_replaced(self) -> None:
        found = self._find()
        if found is None:
            _LOG.warning("topic %s is not there: it is waited for", self._name)
        else:
            refuse_another(self._log, found)

    def _may_be_stalled(self, now_s: float) -> bool:
        """Return whether the group's positions may be asked for.

        While the member joins, the question waits for the join and takes its time from it: a
        second later the join begins again. A member that has had no partition for a minute joins
        no more: it has none to read, or was expelled.
        """
        if self._consumer.assignment():
            self._assigned_s = now_s
        is_joining = self._assigned_s < now_s <= self._assigned_s + _STANDSTILL_S
        if is_joining:
            self._moved_s = now_s
        return not is_joining

    def _refuse_if_stalled(self, now_s: float) -> None:
        """Compare what the group has committed with where the topic ends."""
        numbers = self._consumer.partitions_for_topic(self._name) or ()
        tps = [TopicPartition(self._name, number) for number in numbers]
        begins, ends = self._consumer.beginning_offsets(tps), self._consumer.end_offsets(tps)
        committed = {tp: self._consumer.committed(tp) or 0 for tp in tps}
        lag = {tp: at for tp, at in committed.items() if max(at, begins[tp]) < ends[tp]}
        if lag != self._lag or not lag:
            self._lag, self._moved_s = lag, now_s
        elif now_s - self._moved_s > _STANDSTILL_S:
            raise StreamStalled(
                f"the group has read nothing of {self._name} for {_STANDSTILL_S:g} s, though it"
                f" holds records behind {_named(lag)}"
            )


def _named(lag: dict[TopicPartition, int]) -> str:
    tps = sorted((tp.partition, at) for tp, at in lag.items())
    return ", ".join(f"offset {at} of partition {number}" for number, at in tps)
