"""The way to the store for Feast: plans of plain commands, run by a blocking or an asyncio client.

No hidden retries; each answer is waited for `FRAUD_REDIS_TIMEOUT_S` at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.settings import RedisSettings
from fraudstream.store.connection import Command
from fraudstream.store.nodes import StoreNodes, addresses_of

T = TypeVar("T")

Plan: TypeAlias = Generator[Sequence[Command], list[Any], T]
"""Yields chunks of commands, each one round trip; is sent their answers; returns what they mean."""


class StoreLink:
    """Runs plans. One instance a process; the asyncio client belongs to the loop that runs it.

    Raises:
        OnlineStoreUnavailable: The store does not answer in time, or refuses (every method).
    """

    def __init__(self, settings: RedisSettings) -> None:
        """Keep the settings; nothing is connected before the first plan."""
        self._settings = settings
        self._client: redis.Redis | redis.RedisCluster | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_nodes: StoreNodes | None = None

    def run(self, plan: Plan[T]) -> T:
        """Run a plan and wait for it."""
        try:
            commands = next(plan)
            while True:
                commands = plan.send(self._pipeline(commands))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # what the generator returned

    async def run_async(self, plan: Plan[T]) -> T:
        """Run a plan within an event loop."""
        try:
            commands = next(plan)
            while True:
                commands = plan.send(await self._of_loop().pipeline(commands))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # what the generator returned

    def drop(self, patterns: Iterable[str]) -> None:
        """Delete all keys that match; costs a walk over the whole store for each pattern."""
        client = self._blocking()
        try:
            for pattern in patterns:
                for key in client.scan_iter(pattern, count=1_000):
                    client.unlink(key)
        except (redis.RedisError, OSError) as exc:
            raise _unavailable(exc) from exc

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()
        if self._loop_nodes is not None and self._loop is asyncio.get_running_loop():
            await self._loop_nodes.close()
        self._client = self._loop_nodes = self._loop = None

    def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        try:
            with self._blocking().pipeline(transaction=False) as pipeline:
                queue: Any = pipeline.execute_command
                for command in commands:
                    queue(*command)
                return pipeline.execute()
        except (redis.RedisError, OSError) as exc:
            raise _unavailable(exc) from exc

    def _blocking(self) -> redis.Redis | redis.RedisCluster:
        if self._client is None:
            addresses = addresses_of(self._settings.address())
            options: dict[str, Any] = {
                "socket_timeout": self._settings.timeout_s,
                "socket_connect_timeout": self._settings.timeout_s,
                "retry": Retry(NoBackoff(), 0),
            }
            if self._settings.is_cluster:
                indices = [urlsplit(address) for address in addresses]
                nodes = [
                    ClusterNode(p.hostname, p.port or 6379)  # type: ignore[no-untyped-call]
                    for p in indices
                ]
                self._client = redis.RedisCluster(url=addresses[0], startup_nodes=nodes, **options)
            else:
                self._client = redis.Redis.from_url(addresses[0], **options)
        return self._client

    def _of_loop(self) -> StoreNodes:
        """Return this loop's clients; connections of an earlier loop died with it."""
        loop = asyncio.get_running_loop()
        if self._loop_nodes is None or self._loop is not loop:
            self._loop = loop
            self._loop_nodes = StoreNodes(self._settings)
        return self._loop_nodes


def _unavailable(error: Exception) -> OnlineStoreUnavailable:
    return OnlineStoreUnavailable(
        f"the online store did not answer in time or refused: {type(error).__name__}"
    )
