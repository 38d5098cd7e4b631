"""The Faust batch agent: whole polls go to one agent behind Faust's own transport hooks.

Faust keeps the group, assignment, rebalance callbacks, flow control, commit timer, the agent and
the shutdown; a record costs a fortieth of what a stock agent's costs. Delivery is at least once,
in the order of each partition: one poll is in flight, only offsets of finished shards are
committed, and a failed poll is given again.

Private names of Faust used here: `Consumer._wait_next_records`, `Consumer._commit_offsets`,
`Fetcher._fetcher`; `faust_thread.py` has its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol, cast

import faust
from aiokafka import ConsumerRecord
from aiokafka.errors import ConsumerStoppedError
from faust.transport.consumer import Fetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from fraudstream.broker.clients import tls_context
from fraudstream.broker.faust_thread import ConsumerThread, ShortPollThread
from fraudstream.broker.wire.record_keys import hold
from fraudstream.errors import FraudStreamError
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.settings import KafkaSettings

_LOG = logging.getLogger(__name__)

POLL_S: Final = 1.0
_POLL_RECORDS: Final = 512
# A fetch of what lies in the broker takes two or three milliseconds.
_TOP_UP_S: Final = 0.005
_BACKOFF_S: Final = (0.1, 0.5, 2.0)
# A stop does not wait for a broker that is away: what is not committed is given again.
_LAST_COMMIT_S: Final = 3.0

Records = Mapping[int, Sequence[ConsumerRecord]]
Finished = Mapping[int, int]


class PollHandler(Protocol):
    """What a service does with a poll."""

    def assigned(self, partitions: set[int]) -> None:
        """Take note of a new assignment: all positions are unknown again."""

    async def handle(self, records: Records) -> Finished:
        """Work on the records of each partition; empty at least once a second when idle.

        Returns:
            For each partition that succeeded, the position after its last finished record; 0 where
            nothing was finished yet.
        """
        ...


@dataclass(slots=True)
class Poll:
    """One poll on its way through the agent."""

    records: Records
    is_begun: bool = False
    done: asyncio.Future[Finished] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class BatchConsumer(driver.Consumer):
    """Faust's consumer, with whole polls instead of single messages."""

    topic: str
    handler: PollHandler
    hand_over: Callable[[Poll], Awaitable[None]]
    is_embedded: bool
    gather_s: float

    def __post_init__(self) -> None:
        """Begin with nothing finished and nothing in flight."""
        self.progress = 0
        self._finished: dict[TP, int] = {}
        # The handler's position at which it had finished all that was given to it.
        self._through: dict[TP, int] = {}
        # Where the client read on when a poll was handed over; not of what was sought since.
        self._read_to: dict[TP, int] = {}
        self._in_flight = asyncio.Lock()
        self._committing = asyncio.Lock()

    def _new_consumer_thread(self) -> ConsumerThread:
        kind = ShortPollThread if self.is_embedded else ConsumerThread
        return kind(self, loop=self.loop, beacon=self.beacon)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's detector watches single messages; our watchdog watches us."""

    def has_lag(self) -> bool:
        """Return whether an assigned partition holds records that are not finished."""
        return any(
            (self.highwater(tp) or 0) > self._finished.get(tp, 0)
            for tp in self.assignment()
            if tp.topic == self.topic
        )

    def end_of(self, partition: int) -> int | None:
        """Return the offset after a partition's last record as last seen; None for not yet."""
        end: int | None = self.highwater(TP(self.topic, partition))
        return end

    def seek_soon(self, partition: int, offset: int) -> None:
        """Read on at `offset` from the next poll on."""
        tp = TP(self.topic, partition)
        self._thread.seek(tp, offset)
        self._through[tp] = offset
        self._read_to.pop(tp, None)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Forget finished offsets: a stale one must not enter a later generation."""
        self._finished.clear()
        self._through.clear()
        self._read_to.clear()
        self.handler.assigned({tp.partition for tp in assigned if tp.topic == self.topic})
        await super().on_partitions_assigned(assigned, generation_id)

    async def wait_empty(self) -> None:
        """Wait for the poll in flight, then commit; called at revocation and at shutdown."""
        async with self._in_flight:
            pass
        try:
            async with asyncio.timeout(_LAST_COMMIT_S if self.app.should_stop else None):
                await self.commit_and_end_transactions()
        except TimeoutError:
            _LOG.warning("stopping without a last commit: the broker does not answer")

    async def commit(  # Faust's signature
        self, topics: Any = None, start_new_transaction: bool = True
    ) -> bool:
        """Commit the positions of finished shards that moved since the last commit.

        One at a time: a revocation waits for the timer's commit, so that none outlives its
        generation.
        """
        del topics  # there is one
        async with self._committing:
            offsets = {
                tp: offset
                for tp, offset in self._finished.items()
                if offset > (self._committed_offset[tp] or 0)
            }
            if not offsets:
                return False
            crash_point("features.before_commit")
            return bool(await self._commit_offsets(offsets, start_new_transaction))

    async def drain(self, fetcher: Service) -> None:
        """Poll, hand over, wait; one poll at a time until the fetcher stops."""
        while not self.should_stop and not fetcher.should_stop:
            found, _ = await self._wait_next_records(POLL_S)
            if found is None or self.should_stop:
                continue
            if not self.flow_active:
                await self.perform_seek()
                continue
            records = {tp.partition: chunk for tp, chunk in found.items() if tp.topic == self.topic}
            await self._in_flight.acquire()
            # Faust cancels the fetcher before it waits for us: the poll goes on without it.
            await asyncio.shield(asyncio.ensure_future(self._hold_and_work_off(records)))

    async def _hold_and_work_off(self, records: dict[int, list[ConsumerRecord]]) -> None:
        """Work a poll off, and only then let go of the lock that `wait_empty` waits for."""
        try:
            if records:
                await self._gather(records)
            await self._work_off(records)
        finally:
            self._in_flight.release()

    async def _gather(self, records: dict[int, list[ConsumerRecord]]) -> None:
        """Add what the broker has by now to a poll.

        The client fetched what lay there when the poll before was taken, and no more of a
        partition until that is taken too: what came during the work of that poll is still away.
        """
        if _rows_of(records) < _POLL_RECORDS // 2:
            await asyncio.sleep(self.gather_s)
        while _rows_of(records) < _POLL_RECORDS and self.flow_active:
            try:
                more, _ = await self._wait_next_records(_TOP_UP_S)
            except ConsumerStoppedError:
                return
            if not more:
                return
            for tp, chunk in more.items():
                if tp.topic == self.topic:
                    records[tp.partition] = [*records.get(tp.partition, ()), *chunk]

    async def _work_off(self, records: Records) -> None:
        """Give a poll to the agent until it succeeds, or a rebalance takes it away."""
        tps = [tp for tp in self.assignment() if tp.topic == self.topic]
        thread = cast(ConsumerThread, self._thread)
        known = {tp: thread.position_of(tp) for tp in tps}
        self._read_to = {tp: at for tp, at in known.items() if at is not None}
        for attempt in range(len(_BACKOFF_S) + 1):
            poll = Poll(records)
            if not await self._is_worked_on(poll):
                return
            try:
                finished = await poll.done
            except Exception as exc:
                if not self.flow_active:
                    return
                if attempt == len(_BACKOFF_S):
                    raise
                # An error of ours says all in its message.
                trace = None if isinstance(exc, FraudStreamError) else exc
                _LOG.error("a poll failed and is given again: %s", exc, exc_info=trace)
                await asyncio.sleep(_BACKOFF_S[attempt])
            else:
                for tp in tps:
                    self._take_note(tp, records.get(tp.partition, ()), finished.get(tp.partition))
                return

    def _take_note(self, tp: TP, given: Sequence[ConsumerRecord], at: int | None) -> None:
        """Take note of how far the handler is in a partition.

        Where it has finished all that it was given, that is where the client reads on: behind the
        last record may lie markers of transactions, aborted records and what cannot be read.
        """
        is_through = at is not None and (
            at > given[-1].offset if given else at == self._through.get(tp, 0)
        )
        read_to = self._read_to.get(tp)
        if read_to is not None and at is not None and is_through:
            self._through[tp] = at
            at = max(at, read_to)
        elif read_to is not None and given:
            self._through.pop(tp, None)
        if at is not None:
            self.progress += self._finished.get(tp, -1) != at
            self._finished[tp] = at

    async def _is_worked_on(self, poll: Poll) -> bool:
        """Hand over and wait; False where a rebalance emptied the queue before the agent began."""
        suspended: asyncio.Future[Any] = asyncio.ensure_future(self.suspend_flow.wait())
        handed: asyncio.Future[Any] = asyncio.ensure_future(self.hand_over(poll))
        try:
            await asyncio.wait({handed, suspended}, return_when=asyncio.FIRST_COMPLETED)
            if not handed.done():
                return False
            await handed
            waits: set[asyncio.Future[Any]] = {poll.done, suspended}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            suspended.cancel()
            handed.cancel()
        if poll.done.done() or poll.is_begun:
            await asyncio.wait({poll.done})
            return True
        return False


def _rows_of(records: Records) -> int:
    return sum(map(len, records.values()))


class BatchFetcher(Fetcher):
    """Runs the consumer's drain; a failure that lasts ends the worker."""

    @Service.task
    async def _fetcher(self) -> None:
        try:
            await cast(BatchConsumer, self.app.consumer).drain(self)
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001  # the outermost loop: whatever it is, it ends us
            _LOG.critical("the stream stops: %s", type(exc).__name__)
            await self.app.crash(exc)
        finally:
            self.set_shutdown()


def _broker_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return Faust's settings for the broker, as they were measured."""
    options: dict[str, Any] = {
        "broker": [f"kafka://{address}" for address in settings.bootstrap.split(",")],
        "broker_max_poll_records": _POLL_RECORDS,
        "broker_commit_interval": 0.25,
        "broker_session_timeout": 10,
        "broker_heartbeat_interval": 2,
        "broker_request_timeout": 30,
        "broker_check_crcs": True,
    }
    context = tls_context(settings)
    if settings.security_protocol.startswith("SASL"):
        options["broker_credentials"] = faust.SASLCredentials(
            mechanism=settings.sasl_mechanism,
            username=settings.sasl_username,
            password=settings.password(),
            ssl_context=context,
        )
    elif context is not None:
        options["broker_credentials"] = faust.SSLCredentials(context)
    return options


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How a batch agent runs.

    Attributes:
        group: Consumer group, which is also the Faust app's id.
        topic: The one topic it reads.
        instance_id: Stable name of this worker for static membership; empty for none.
        state_dir: Where Faust may write; its parent must exist.
        gather_s: How long a small poll waits for more; what nobody waits for costs less in bulk.
    """

    group: str
    topic: str
    instance_id: str
    state_dir: str
    gather_s: float = 0.0


def batch_app(kafka: KafkaSettings, agent: AgentSettings, handler: PollHandler) -> faust.App:
    """Return a Faust app whose one agent gives whole polls to `handler`.

    Tables are refused: states live in the store, and nothing here depends on a changelog.

    Raises:
        InvalidSettings: The keys of what it reads are not as they must be.
    """
    hold(kafka)
    options = _broker_options(kafka)
    if agent.instance_id and not kafka.is_embedded:
        options["consumer_group_instance_id"] = agent.instance_id
    app = faust.App(
        agent.group,
        datadir=agent.state_dir,
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        stream_recovery_delay=0,
        topic_disable_leader=True,
        web_enabled=False,
        **options,
    )
    channel = app.channel()

    class Consumer(BatchConsumer):
        """The consumer of this app."""

    async def give(poll: Poll) -> None:
        await channel.send(value=poll)

    Consumer.topic = agent.topic
    Consumer.handler = handler
    Consumer.hand_over = staticmethod(give)
    Consumer.is_embedded = kafka.is_embedded
    Consumer.gather_s = agent.gather_s

    class Transport(driver.Transport):
        """The driver's transport with our consumer and fetcher."""

        Consumer: ClassVar[Any]
        Fetcher: ClassVar[Any] = BatchFetcher

    Transport.Consumer = Consumer
    app.transport = Transport(app.conf.broker_consumer, app)
    app.topics.add(app.topic(agent.topic))

    @app.agent(channel)
    async def work(polls: Any) -> None:
        async for poll in polls:
            poll.is_begun = True
            try:
                poll.done.set_result(await handler.handle(poll.records))
            except Exception as exc:  # noqa: BLE001  # the fetcher decides; mode must not see it
                poll.done.set_exception(exc)

    return app
