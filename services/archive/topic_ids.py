"""Which incarnation of each topic there is: a topic made again has another id."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from kafka.admin import KafkaAdminClient

from fraudstream.broker.clients import broker_faults, kafka_python_options
from fraudstream.broker.topic_info import describe
from fraudstream.errors import BrokerUnavailable, InvalidSettings, LogReplaced
from fraudstream.settings import KafkaSettings
from services.archive.streams import STREAMS

_LOG: Final = logging.getLogger(__name__)
_LOOK_S: Final = 5.0


class TopicIds:
    """The ids that the archived topics had at the start, and whether they have them still.

    Args:
        settings: Where Kafka is.

    Raises:
        InvalidSettings: A topic is not there.
        BrokerUnavailable: The broker does not answer.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._names = {stream.noun: settings.topic(stream.topic) for stream in STREAMS}
        self._settings = settings
        self._looked_s = time.monotonic()
        with broker_faults(settings):
            self._admin = KafkaAdminClient(**kafka_python_options(settings))
        try:
            self._known = self._read()
        except (InvalidSettings, BrokerUnavailable):
            self._admin.close()
            raise

    def of(self, noun: str) -> str:
        """Return the id of a noun's topic, hexadecimal."""
        return self._known[noun]

    def confirm(self) -> None:
        """Check that no topic was made again: so all that was read before is of the logs known.

        Raises:
            LogReplaced: One was.
            BrokerUnavailable: The broker does not say.
        """
        try:
            found = self._read()
        except InvalidSettings as exc:
            raise LogReplaced(str(exc)) from exc
        for noun, topic_id in self._known.items():
            if found[noun] != topic_id:
                msg = (
                    f"topic {self._names[noun]} was made again: it had id {topic_id} at the start,"
                    f" now {found[noun]}. What was read and is not in a file yet is left out"
                )
                raise LogReplaced(msg)

    def look(self) -> None:
        """Confirm now and then; call it when a poll brought nothing, for it may be for that.

        Raises:
            LogReplaced: A topic was made again.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        try:
            self.confirm()
        except BrokerUnavailable as exc:
            _LOG.warning("%s", exc)

    def close(self) -> None:
        """Disconnect."""
        self._admin.close()

    def _read(self) -> Mapping[str, str]:
        logs = describe(self._settings, self._admin, list(self._names.values()))
        for name in self._names.values():
            if name not in logs:
                msg = f"topic {name} is not there; `fraudstream ingest topics create`"
                raise InvalidSettings(msg)
        return {noun: logs[name].topic_id.hex() for noun, name in self._names.items()}
