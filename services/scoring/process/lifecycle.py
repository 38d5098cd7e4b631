"""The running service: start in order, stop so that nothing in flight is lost."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from fraudstream.broker.clients import BatchProducer
from fraudstream.broker.topics_at_start import LOOK_S, TopicsAtStart
from fraudstream.errors import BrokerUnavailable
from fraudstream.telemetry.spans import Telemetry
from services.scoring.inference.batcher import Batcher
from services.scoring.inference.ledger_follower import ModelFollower
from services.scoring.publishing.decision_backlog import PublishBacklog
from services.scoring.rpc.server import RpcServer
from services.scoring.shards.sealed_store import SealedStore

_DRAIN_S: Final = 5.0
_CANCEL_AGAIN_S: Final = 0.5
_CLOSE_S: Final = 10.0

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workers:
    """What works in the background.

    Attributes:
        batcher: In front of the engine thread.
        follower: Keeps the models at what the ledger says; None where there is none.
        backlog: Publishes what callers were answered.
        others: What else runs for as long as the service does.
    """

    batcher: Batcher
    follower: ModelFollower | None
    backlog: PublishBacklog
    others: Sequence[Callable[[], Coroutine[Any, Any, None]]]

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs for as long as the service does."""
        following = [self.follower.follow_forever] if self.follower else []
        work = (*following, self.batcher.score_forever, self.backlog.work_forever, *self.others)
        return [begin() for begin in work]

    async def close(self) -> None:
        """Close the engines and their thread, after the tasks have ended."""
        if self.follower is not None:
            with suppress(TimeoutError):  # a call that does not end does not hold up the end
                await asyncio.wait_for(self.follower.close(), _CLOSE_S)
        self.batcher.close()


async def watch_topics(topics: TopicsAtStart) -> None:
    """Look now and then, in a thread, whether a topic was given more partitions.

    Raises:
        LogReplaced: One has another partition count.
    """
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            await asyncio.to_thread(topics.refuse_growth)
        except BrokerUnavailable as exc:
            _LOG.info("%s", exc)


@dataclass(frozen=True, slots=True)
class Connections:
    """What the service is connected to, open already.

    Attributes:
        store: The online store, as the stream and the workers in the background wait for it.
        door_store: The same, as callers wait for it: not for long.
        producer: Writes to the log.
        topics: What its topics were at the start.
        telemetry: Metrics and spans.
    """

    store: SealedStore
    door_store: SealedStore
    producer: BatchProducer
    topics: TopicsAtStart
    telemetry: Telemetry

    async def close(self) -> None:
        """Send what waits, then disconnect."""
        await self.producer.stop()
        await self.store.close()
        await self.door_store.close()
        await asyncio.to_thread(self.topics.close)
        self.telemetry.close()


class ScoringService:
    """Two servers and the workers behind them."""

    def __init__(
        self,
        servers: tuple[RpcServer, RpcServer],
        workers: Workers,
        connections: Connections,
        grace_s: float,
    ) -> None:
        self._servers = servers
        self._workers = workers
        self._connections = connections
        self._grace_s = grace_s
        self._stop = asyncio.Event()

    @property
    def ports(self) -> tuple[int, int]:
        """Return the ports of `Scoring` and `InternalScoring`."""
        return self._servers[0].port, self._servers[1].port

    def stop_on_signals(self) -> None:
        """Stop at SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def stop(self) -> None:
        """Begin to stop."""
        self._stop.set()

    async def run(self, announce: Callable[[], None]) -> None:
        """Serve until told to stop; a worker that fails ends the service.

        Args:
            announce: Called when both doors are open.
        """
        tasks = [asyncio.create_task(work) for work in self._workers.tasks()]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            for server in self._servers:
                await server.start()
            announce()
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await self._close_doors()
            for task in done - {stopping}:
                task.result()
        finally:
            await self._end([stopping, *tasks])

    async def _close_doors(self) -> None:
        """Take no new call, let those in flight end, publish what they left."""
        await asyncio.gather(*(server.stop(self._grace_s) for server in self._servers))
        await self._workers.backlog.drain(_DRAIN_S)

    async def _end(self, tasks: list[asyncio.Task[Any]]) -> None:
        left = set(tasks)
        while left:
            # A cancellation inside redis-py 8.1 is sometimes lost; the second one is not.
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
        await self._workers.close()
        await self._connections.close()
