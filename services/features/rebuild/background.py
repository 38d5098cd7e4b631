"""A worker rebuilds the shards that it owns and finds lost, while its other shards go on."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import FraudStreamError
from fraudstream.store.generations import Switch
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.metrics import SHARDS_REBUILT
from services.features.rebuild.job import Progress
from services.features.rebuild.rebuilder import Rebuilder
from services.features.shards.loss import LossReason, ShardLost

_LOG: Final = logging.getLogger(__name__)

_TICK_S: Final = 1.0


@dataclass(slots=True)
class _Running:
    """One shard that is being rebuilt."""

    reason: LossReason
    task: asyncio.Task[None] | None = None


class BackgroundRebuilds:
    """Rebuilds lost shards in the background, one after the other.

    A producer of decisions may go on trying for some time after a loss. What it still appends must
    be seen by the rebuild, so each shard is left alone for so long first.

    Args:
        store: Where the markers are.
        rebuilder: Does it.
        delivery_timeout_s: How long a producer goes on trying.
        progress: Moves on while anything is done, also while it waits.
    """

    def __init__(
        self,
        store: StateStore,
        rebuilder: Rebuilder,
        delivery_timeout_s: float,
        progress: Progress,
    ) -> None:
        self._store = store
        self._rebuilder = rebuilder
        self._delivery_timeout_s = delivery_timeout_s
        self._progress = progress
        self._running: dict[int, _Running] = {}
        self._one_at_a_time = asyncio.Lock()

    def is_busy(self, partition: int) -> bool:
        """Return whether a shard is being rebuilt."""
        running = self._running.get(partition)
        return running is not None and running.task is not None

    def assigned(self, partitions: set[int]) -> None:
        """Leave shards alone that are another worker's now."""
        for partition in self._running.keys() - partitions:
            running = self._running.pop(partition)
            if running.task is not None:
                running.task.cancel()

    def begin(self, partition: int, lost: ShardLost) -> None:
        """Begin to rebuild a shard, in the background."""
        running = self._running.setdefault(partition, _Running(lost.reason))
        running.reason = lost.reason
        running.task = asyncio.create_task(self._rebuild_guarded(partition, running))
        _LOG.warning(
            "%s. It is rebuilt from the log, %.0f s after the loss was seen",
            lost,
            self._delivery_timeout_s,
        )

    async def _rebuild_guarded(self, partition: int, running: _Running) -> None:
        """Rebuild a shard; where that fails it is found lost again, and begun again."""
        outcome = "failed"
        try:
            await self._wait(partition, running.reason)
            async with self._one_at_a_time:
                outcome = await self._rebuild(partition, running.reason)
            self._running.pop(partition, None)
        except FraudStreamError as exc:
            _LOG.warning("shard %d is not rebuilt yet: %s", partition, exc)
            await asyncio.sleep(_TICK_S)
        except Exception:  # noqa: BLE001  # the outermost frame of a task: nobody else would tell
            _LOG.exception("shard %d could not be rebuilt", partition)
            await asyncio.sleep(_TICK_S)
        finally:
            running.task = None
        SHARDS_REBUILT.labels(running.reason.value, outcome).inc()

    async def _wait(self, partition: int, reason: LossReason) -> None:
        """Wait until no producer of before the loss goes on trying.

        The store keeps when the loss was first seen: a worker that takes over waits for the rest.
        """
        shard = self._rebuilder.shard(partition)
        seen_s = await self._store.note_loss(shard, reason.value) / 1000
        ends_s = time.monotonic() + self._delivery_timeout_s - seen_s
        while (left_s := ends_s - time.monotonic()) > 0:
            self._progress.add(0)
            await asyncio.sleep(min(left_s, _TICK_S))

    async def _rebuild(self, partition: int, reason: LossReason) -> str:
        shard = self._rebuilder.shard(partition)
        # One that stood still is open all the time: what it lacks are records.
        if reason is not LossReason.STOOD_STILL and await self._is_open(partition):
            return Switch.OTHER.value
        is_widened = reason is LossReason.LOG_WIDENED
        started_s, read_before = time.monotonic(), self._progress.rows
        filled = await self._rebuilder.fill(
            partition, self._progress, has_all_partitions=is_widened
        )
        outcome = await self._rebuilder.switch(filled)
        _LOG.warning(
            "shard %s%d: rebuilt from %d records in %.1f s: %s",
            shard.role,
            partition,
            self._progress.rows - read_before,
            time.monotonic() - started_s,
            outcome.value,
        )
        return outcome.value

    async def _is_open(self, partition: int) -> bool:
        marker = await self._store.marker(self._rebuilder.shard(partition))
        return await self._rebuilder.is_open(marker, partition)
