"""Which incarnation of each topic there is: a topic made anew has another id."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from fraudstream.bus import kafka_python_options
from fraudstream.errors import BrokerUnavailable, InvalidSettings, LogReplaced
from fraudstream.settings import KafkaSettings
from services.archive.streams import STREAMS


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
        try:
            self._admin = KafkaAdminClient(**kafka_python_options(settings))
        except KafkaError as exc:
            msg = f"the broker at {settings.bootstrap} does not answer: {type(exc).__name__}"
            raise BrokerUnavailable(msg) from exc
        try:
            self._known = self._read()
        except (InvalidSettings, BrokerUnavailable):
            self._admin.close()
            raise

    def of(self, noun: str) -> str:
        """Return the id of a noun's topic, hexadecimal."""
        return self._known[noun]

    def confirm(self) -> None:
        """Check that no topic was made anew: so all that was read before is of the logs known.

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
                    f"topic {self._names[noun]} was made anew: it had id {topic_id} at the start,"
                    f" now {found[noun]}. What was read and is not in a file yet is left out"
                )
                raise LogReplaced(msg)

    def close(self) -> None:
        """Disconnect."""
        self._admin.close()

    def _read(self) -> Mapping[str, str]:
        try:
            answer = self._admin.describe_topics(list(self._names.values()))
        except KafkaError as exc:
            msg = f"the broker tells no topic ids: {type(exc).__name__}"
            raise BrokerUnavailable(msg) from exc
        by_name = {one["name"]: one for one in answer}
        found = {}
        for noun, name in self._names.items():
            if by_name[name]["error_code"]:
                msg = f"topic {name} is not there; `python -m services.ingest topics create`"
                raise InvalidSettings(msg)
            found[noun] = uuid.UUID(str(by_name[name]["topic_id"])).hex
        return found
