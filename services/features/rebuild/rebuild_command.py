"""Command `rebuild`: fill new generations from the log, also while the stream runs, then switch.

All shards are filled before the first is switched: workers of an earlier layout end at the first
shard that they cannot read. What the stream applies meanwhile it applies again afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from fraudstream.broker.topic_info import find_log
from fraudstream.errors import InvalidSettings
from fraudstream.features.warm_up import warm_up
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings, RedisSettings
from fraudstream.store.generations import Switch
from fraudstream.store.shard import Role
from fraudstream.store.shard_store import StateStore
from services.features.rebuild.job import Filled, Progress
from services.features.rebuild.notes import RebuildNotes
from services.features.rebuild.rebuilder import TOPICS, Rebuilder, RebuildParts, rebuilder_of
from services.features.settings import FeaturesSettings

_ROLES: Final = {"card": Role.CARD, "entity": Role.ENTITY}
_TELL_S: Final = 2.0

_ABOUT: Final = """\
Fills a new generation of each shard from the log, also while the stream runs, then points the
shards' markers at it. Use it where the store lost its content, and before a release with new
features starts: the command of the new release makes its layout warm; then start its workers.

A shard that no worker can read is left alone first until no scorer goes on trying to publish
(FRAUD_FEATURES_DELIVERY_TIMEOUT_S). With the --name of an earlier run, which is printed, shards
that were filled are not filled again.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says.

    Attributes:
        roles: Which shards.
        partitions: Partitions of each; empty for all.
        name: Of this run.
        has_all_partitions: Whether keys may lie in other partitions than theirs.
    """

    roles: Sequence[Role]
    partitions: frozenset[int]
    name: str
    has_all_partitions: bool


@dataclass(frozen=True, slots=True)
class _Task:
    """One shard to rebuild."""

    rebuilder: Rebuilder
    partition: int

    @property
    def title(self) -> str:
        """What messages call it."""
        shard = self.rebuilder.shard(self.partition)
        return f"{'card' if shard.role is Role.CARD else 'entity'} shard {self.partition}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _ABOUT
    parser.add_argument(
        "--role", choices=sorted(_ROLES), help="only shards of this role; default: both"
    )
    parser.add_argument(
        "--partitions", default="", metavar="0,3", help="only these partitions; default: all"
    )
    parser.add_argument("--name", default="", help="name of an earlier run that shall go on")
    parser.add_argument(
        "--widened",
        action="store_true",
        help="the topic was given more partitions while its oldest rows were written: read all"
        " partitions for each shard",
    )


def asked_of(arguments: argparse.Namespace) -> Asked:
    """Return what the command line says.

    Raises:
        InvalidSettings: The partitions are no numbers.
    """
    try:
        partitions = frozenset(int(one) for one in arguments.partitions.split(",") if one)
    except ValueError as exc:
        msg = f"expected numbers as 0,3 for --partitions, found {arguments.partitions!r}"
        raise InvalidSettings(msg) from exc
    roles = [_ROLES[arguments.role]] if arguments.role else list(_ROLES.values())
    name = arguments.name or f"r{secrets.token_hex(4)}"
    return Asked(roles, partitions, name, arguments.widened)


def rebuild(asked: Asked) -> int:
    """Rebuild what is asked; return the exit code.

    Raises:
        InvalidSettings: A setting or topic is missing or invalid.
        OnlineStoreUnavailable: The store does not answer.
        BrokerUnavailable: The broker does not.
    """
    warm_up()
    return asyncio.run(_rebuild(asked))


async def _rebuild(asked: Asked) -> int:
    store = StateStore(RedisSettings.read())
    await store.connect()
    try:
        parts = RebuildParts(store, KafkaSettings.read(), epoch_ms)
        tasks = await asyncio.to_thread(_tasks_of, asked, parts)
        _tell(f"run {asked.name}: {len(tasks)} shards; --name {asked.name} goes on with it")
        await _wait_for_producers(tasks, store, FeaturesSettings.read().delivery_timeout_s)
        return await _fill_and_switch(asked, tasks, RebuildNotes(store, asked.name))
    finally:
        await store.close()


def _tasks_of(asked: Asked, parts: RebuildParts) -> list[_Task]:
    tasks = []
    for role in asked.roles:
        rebuilder = rebuilder_of(parts, role, find_log(parts.kafka, TOPICS[role]))
        wanted = asked.partitions or frozenset(range(rebuilder.partitions))
        beyond = sorted(p for p in wanted if p >= rebuilder.partitions)
        if beyond:
            msg = f"expected partitions below {rebuilder.partitions}, found {beyond}"
            raise InvalidSettings(msg)
        tasks += [_Task(rebuilder, partition) for partition in sorted(wanted)]
    return tasks


async def _wait_for_producers(tasks: Sequence[_Task], store: StateStore, timeout_s: float) -> None:
    """Wait out the producers of shards that are closed by a loss."""
    for task in tasks:
        marker = await store.marker(task.rebuilder.shard(task.partition))
        if marker is None or marker.primary != marker.serving:
            _tell(f"{task.title} is closed: waiting {timeout_s:g} s for scorers to give up")
            await asyncio.sleep(timeout_s)
            return


async def _fill_and_switch(asked: Asked, tasks: Sequence[_Task], notes: RebuildNotes) -> int:
    filled = []
    for number, task in enumerate(tasks, start=1):
        each = await notes.find(task.rebuilder.shard(task.partition), task.rebuilder.log)
        if each is None:
            progress = Progress()
            async with _told(f"{task.title} ({number} of {len(tasks)})", progress):
                each = await task.rebuilder.fill(
                    task.partition, progress, has_all_partitions=asked.has_all_partitions
                )
            await notes.keep(each)
        else:
            _tell(f"{task.title} ({number} of {len(tasks)}): filled before")
        filled.append(each)
    failed = await _switch_all(tasks, filled, notes)
    if failed:
        _tell(f"{failed} of {len(tasks)} shards are as they were; run again --name {asked.name}")
        return os.EX_TEMPFAIL
    _tell(f"all {len(tasks)} shards are switched")
    return os.EX_OK


async def _switch_all(tasks: Sequence[_Task], filled: Sequence[Filled], notes: RebuildNotes) -> int:
    """Point all markers at what was filled; return how many could not be switched."""
    failed = 0
    for task, each in zip(tasks, filled, strict=True):
        if each.is_switched:
            continue
        outcome = await task.rebuilder.switch(each)
        if outcome is not Switch.SWITCHED:
            failed += 1
            why = "the store lost some of it" if outcome is Switch.LOST else "its marker is another"
            _tell(f"{task.title} was not switched: {why}")
            await notes.drop(each)
        else:
            _tell(f"{task.title}: {each.states} states, the stream goes on at {each.next_offset}")
    return failed


@asynccontextmanager
async def _told(title: str, progress: Progress) -> AsyncIterator[None]:
    """Tell how far a filling is, every two seconds and at its end."""
    started_s = time.monotonic()

    def tell() -> None:
        rate = progress.rows / max(time.monotonic() - started_s, 1e-3)
        _tell(f"{title}: {progress.rows:,} records, {rate:,.0f} a second")

    async def tell_forever() -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            tell()

    telling = asyncio.create_task(tell_forever())
    try:
        yield
        tell()
    finally:
        telling.cancel()


def _tell(line: str) -> None:
    sys.stderr.write(f"rebuild: {line}\n")
