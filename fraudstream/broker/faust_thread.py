"""The thread that the batch agent's Kafka client lives in, fit for rebalances and stops.

Faust takes an error in here for a crash of the worker. Three are none, and happen only now and
then, when a member joins or leaves while a request is under way:

- Partitions that are sought or committed move to another member meanwhile: they are left out.
- The client does not close in order: aiokafka raises what it cancelled itself, or waits for a group
  that waits for others. What matters was committed before, so closing has a time limit.

It reads what transactions committed, and says what retention took: Faust has no setting for either.

Private names of Faust used here: `AIOKafkaConsumerThread._commit`, `_create_worker_consumer` and
`_fetch_records`; of aiokafka's consumer `_isolation_level`, `_auto_offset_reset`, `_subscription`
and, for the embedded broker, `_fetch_max_wait_ms`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from fraudstream.broker.clients import EMBEDDED_FETCH_WAIT_MS, ISOLATION
from fraudstream.broker.group_reading import note_lost

_LOG: Final = logging.getLogger(__name__)

# A join that is under way is waited for: 5 s on the embedded broker. A member that goes without a
# word costs its group a session, 10 s.
_CLOSE_S: Final = 7.0


class ConsumerThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, for which a moved partition and a late close are no crash."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition that has a committed position to it, and return those."""
        found: Mapping[TP, int] = await self.call_thread(self._seek_assigned)
        return found

    async def on_thread_stop(self) -> None:
        """Close the client, within the limit."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await super().on_thread_stop()
        except (asyncio.CancelledError, KafkaError, TimeoutError) as exc:
            _LOG.warning("the Kafka client did not close in order: %s", type(exc).__name__)

    def highwater(self, tp: TP) -> int:
        """Return where what may be read ends: at an open transaction, or with the log."""
        consumer: Any = self._ensure_consumer()
        stable = consumer.last_stable_offset(tp)
        found: int = consumer.highwater(tp) if stable is None else stable
        return found

    def position_of(self, tp: TP) -> int | None:
        """Return where the client reads on; None where it does not know yet. Asks nobody."""
        consumer: Any = self._ensure_consumer()
        subscription = consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        if tp not in subscription.assignment.tps:
            return None
        state = subscription.assignment.state_value(tp)
        return int(state.position) if state.has_valid_position else None

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = ISOLATION
        consumer._auto_offset_reset = "none"
        return consumer

    async def _fetch_records(self, consumer: Any, *arguments: Any, **options: Any) -> Any:
        """Fetch; go on at the beginning of a log where the position is none of it."""
        try:
            return await super()._fetch_records(consumer, *arguments, **options)
        except NoOffsetForPartitionError as exc:
            await consumer.seek_to_beginning(*exc.args)
        except OffsetOutOfRangeError as exc:
            wanted = exc.args[0]
            begins = await consumer.beginning_offsets(list(wanted))
            for tp, offset in wanted.items():
                note_lost(tp, offset, begins[tp])
                consumer.seek(tp, begins[tp])
        return {}

    async def _seek_assigned(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        found: dict[TP, int] = {}
        for tp in self.assignment():
            offset = await consumer.committed(tp)
            if offset and tp in self.assignment():
                consumer.seek(tp, offset)
                found[tp] = offset
        return found

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        assigned = self.assignment()
        ours = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        return bool(ours) and bool(await super()._commit(ours))


class ShortPollThread(ConsumerThread):
    """The same with short fetches, for the embedded broker, which isolates no transactions."""

    def highwater(self, tp: TP) -> int:
        """Return where the log ends."""
        consumer: Any = self._ensure_consumer()
        found: int = consumer.highwater(tp)
        return found

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = EMBEDDED_FETCH_WAIT_MS
        return consumer
