"""Dead letters of this service: what is refused leaves its shard only when its letter is safe."""

from __future__ import annotations

from collections.abc import Sequence

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.dead_letters.letter import LetterWriter, source_of
from fraudstream.topics import partition_of
from services.features.rows.accepted_rows import BadRow


class Letters:
    """Writes refused rows to the dead-letter topic.

    Args:
        producer: A started producer.
        writer: Seals them.
        topic: Name and partitions of the dead-letter topic.
    """

    def __init__(
        self, producer: BatchProducer, writer: LetterWriter, topic: tuple[str, int]
    ) -> None:
        self._producer = producer
        self._writer = writer
        self._name, self._partitions = topic

    async def bury(self, rows: Sequence[BadRow]) -> None:
        """Send the letters of refused rows; acknowledged on return.

        Raises:
            BrokerUnavailable: Not all were acknowledged; the rows must be read again.
        """
        out = []
        for row in rows:
            letter = self._writer.letter_of(source_of(row.record), row.reason, row.message)
            partition = partition_of(letter.key, self._partitions)
            out.append(OutRecord(letter.key, letter.value, partition, letter.headers))
        await self._producer.send(self._name, out)
