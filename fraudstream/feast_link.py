"""The way to the store for Feast: plans of plain commands, run by a blocking or an asyncio client.

No hidden retries; each answer is waited for `FRAUD_REDIS_TIMEOUT_S` at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.settings import RedisSettings

T = TypeVar("T")

Command: TypeAlias = tuple[bytes | str | int, ...]
"""Name, key, further arguments."""

Plan: TypeAlias = Generator[Sequence[Command], list[Any], T]
"""Yields lots of commands, each one round trip; is sent their answers; returns what they mean."""


class StoreLink:
    """Runs plans. One instance a process; the asyncio client belongs to the loop that runs it.

    Raises:
        OnlineStoreUnavailable: The store does not answer in time, or refuses (every method).
    """

    def __init__(self, settings: RedisSettings) -> None:
        """Keep the settings; nothing is connected before the first plan."""
        self._url = settings.url.get_secret_value()
        self._timeout_s = settings.timeout_s
        self._client: redis.Redis | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_client: redis.asyncio.Redis | None = None

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
                commands = plan.send(await self._pipeline_async(commands))
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
        if self._loop_client is not None and self._loop is asyncio.get_running_loop():
            await self._loop_client.aclose()
        self._client = self._loop_client = self._loop = None

    def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        try:
            with self._blocking().pipeline(transaction=False) as pipeline:
                queue: Any = pipeline.execute_command
                for command in commands:
                    queue(*command)
                return pipeline.execute()
        except (redis.RedisError, OSError) as exc:
            raise _unavailable(exc) from exc

    async def _pipeline_async(self, commands: Sequence[Command]) -> list[Any]:
        try:
            async with self._of_loop().pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = await pipeline.execute()
                return answers
        except (redis.RedisError, OSError) as exc:
            raise _unavailable(exc) from exc

    def _blocking(self) -> redis.Redis:
        if self._client is None:
            self._client = redis.Redis.from_url(
                self._url,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        return self._client

    def _of_loop(self) -> redis.asyncio.Redis:
        """Return this loop's client; connections of an earlier loop died with it."""
        loop = asyncio.get_running_loop()
        if self._loop_client is None or self._loop is not loop:
            self._loop = loop
            self._loop_client = redis.asyncio.Redis.from_url(
                self._url,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                retry=AsyncRetry(NoBackoff(), 0),
            )
        return self._loop_client


def _unavailable(error: Exception) -> OnlineStoreUnavailable:
    return OnlineStoreUnavailable(
        f"the online store did not answer in time or refused: {type(error).__name__}"
    )
