"""Reading as a member of a group: what the client leaves out of its errors is said."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from kafka.errors import BrokerResponseError, CorruptRecordError, UnknownError
from kafka.structs import TopicPartition

from fraudstream.broker.group_reading import poll_group


@dataclass
class FakeConsumer:
    """A consumer of two partitions whose broker cannot read its log."""

    error: BrokerResponseError

    def poll(self, timeout_ms: int) -> None:
        """Fail as kafka-python does."""
        raise self.error

    def assignment(self) -> list[TopicPartition]:
        """Return the two."""
        return [TopicPartition("raw", 1), TopicPartition("raw", 4)]

    def position(self, place: TopicPartition, timeout_ms: int) -> int:
        """Return where reading goes on."""
        return int(place.partition) * 10


@pytest.mark.parametrize("error", [CorruptRecordError, UnknownError])
def test_log_that_its_broker_cannot_read_is_named_with_its_offsets(
    error: type[BrokerResponseError],
) -> None:
    """A damaged disk is looked for there; the client says only that a fetch failed."""
    consumer = FakeConsumer(error("Unexpected error while fetching data"))

    with pytest.raises(error, match="offset 10 of partition 1, offset 40 of partition 4"):
        poll_group(consumer, 0)
