"""Topics, layouts and entities that change under a line: who rebuilds, who ends, who is told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import redis.asyncio as redis

from fraudstream.features.catalogue import Entity
from fraudstream.features.state import SHARED_STATE
from fraudstream.store.shard import Role, ShardRef
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, RESCORES, SHADOWED, STAND_INS
from harness.servers import ApacheKafka, ValkeyServer
from harness.service_process import ServiceProcess
from tests.conftest import create_topics, environment_of_test
from tests.worlds.shard_line import (
    CARDS,
    ShardLine,
    ShardRole,
    eventually,
    rows_of_cards,
    shard_line,
)

pytestmark = pytest.mark.slow
_ROWS = rows_of_cards(0, 120)


@pytest.fixture
async def line(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ShardLine]:
    """A line on the shared servers."""
    async with shard_line(topics, tmp_path) as made:
        yield made


async def _apply(line: ShardLine, cards: ShardRole) -> dict[str, bytes | None]:
    """Take all rows through the stream, in several batches a shard; return the cards' values."""
    for begin in range(0, len(_ROWS), 40):
        await line.accept(_ROWS[begin : begin + 40])
        await line.settle(cards, begin + 40)
    return await line.card_values(CARDS)


async def _ends(role: ShardRole) -> int:
    """Poll until the worker wants to end; return its exit code."""

    async def has_ended() -> bool:
        await role.poll()
        return bool(role.ended)

    await eventually(has_ended)
    return role.ended[0][0]


async def test_topic_made_anew_is_followed_from_its_beginning(
    line: ShardLine, caplog: pytest.LogCaptureFixture
) -> None:
    """What the new log does not hold is gone from the states, and said so; decisions stay."""
    async with line.role(Role.CARD) as cards:
        await _apply(line, cards)
        await line.make_topics_anew([ACCEPTED])
    async with line.role(Role.CARD) as cards:
        with caplog.at_level(logging.WARNING):
            await line.settle(cards, 0)
        await line.accept([*_ROWS[:10], *rows_of_cards(500, 520)])
        await line.settle(cards, 30)

        assert "made again" in caplog.text
        assert await line.counted_rows(CARDS) == 30
        made = [each.transaction_id for each in await line.decisions()]
        assert len(made) == len(set(made)) == 140


async def test_worker_of_an_earlier_log_ends_to_look_again(line: ShardLine) -> None:
    """It must not rebuild a shard for a log that is no more."""
    async with line.role(Role.CARD) as outdated:
        await line.settle(outdated, 0)
        await line.make_topics_anew([ACCEPTED])
        async with line.role(Role.CARD) as cards:
            await line.settle(cards, 0)
            outdated.owner.positions.forget_all()

            assert await _ends(outdated) == 75


@pytest.mark.kafka
async def test_widened_topic_keeps_every_card(
    kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Cards whose partition is another now bring their rows and decisions along."""
    topics = environment_of_test(kafka_broker, valkey)
    create_topics(topics, tmp_path)
    async with shard_line(topics, tmp_path) as line, line.role(Role.CARD) as cards:
        before = await _apply(line, cards)
        await line.widen([ACCEPTED, DECISIONS, STAND_INS, RESCORES, SHADOWED, ALERTS], 9)
    async with shard_line(topics, tmp_path) as wider, wider.role(Role.CARD) as cards:
        await wider.settle(cards, 120)
        restored = await wider.card_values(CARDS)
        await wider.accept([*_ROWS[:40], *rows_of_cards(500, 540)])
        await wider.settle(cards, 200)

        assert cards.log.partitions == 9
        assert restored == before
        assert await wider.counted_rows(CARDS) == 160
        made = [each.transaction_id for each in await wider.decisions()]
        assert len(made) == len(set(made)) == 160


@pytest.mark.kafka
async def test_log_that_ends_before_its_marker_is_read_again(
    kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """A broker that lost records gives their offsets to others, which would be skipped."""
    topics = environment_of_test(kafka_broker, valkey)
    create_topics(topics, tmp_path)
    async with shard_line(topics, tmp_path) as line, line.role(Role.CARD) as cards:
        log = await line.log_of(ACCEPTED)
        for partition in range(log.partitions):
            await line.store.open_shard(ShardRef(Role.CARD, partition, log.incarnation), 1000)
        await line.accept(_ROWS)

        await line.settle(cards, 120)

        assert len(await line.decisions()) == 120
        assert await line.counted_rows(CARDS) == 120


async def _set_layout(line: ShardLine, valkey: ValkeyServer, layout: str) -> None:
    """Have every marker name the layout of another release."""
    async with redis.Redis.from_url(valkey.url) as server:
        for shard in await line.markers(Role.CARD, await line.log_of(ACCEPTED)):
            await server.hset(line.store.keys(shard).marker, "layout", layout)


async def test_worker_of_another_layout_ends_and_rebuilds_nothing(
    line: ShardLine, valkey: ValkeyServer
) -> None:
    """Two releases would fight over the shards: a person says which one goes on."""
    async with line.role(Role.CARD) as cards:
        await _apply(line, cards)
        await _set_layout(line, valkey, "other")

        assert await _ends(cards) == 78
        assert "rebuild" in cards.ended[0][1]
        found = await line.marker_of(cards.busiest)
        assert found is not None
        assert found.layout == "other"


async def test_new_layout_starts_warm_after_the_command(
    line: ShardLine, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """The states of a release's layout are filled from the log before its workers start."""
    async with line.role(Role.CARD) as cards:
        before = await _apply(line, cards)
    await _set_layout(line, valkey, "earlier")

    command = run_rebuild(line, tmp_path, "--role", "card", "--name", "warm")

    assert command.exit_code == 0, command.log_text()
    assert "all 6 shards are switched" in command.log_text()
    async with line.role(Role.CARD) as cards:
        await line.settle(cards, 120)
        assert await line.card_values(CARDS) == before
        assert len(await line.decisions()) == 120


async def test_second_run_of_a_name_fills_nothing_again(line: ShardLine, tmp_path: Path) -> None:
    """A run that was ended half way goes on where it was."""
    async with line.role(Role.CARD) as cards:
        await _apply(line, cards)
    run_rebuild(line, tmp_path, "--role", "card", "--partitions", "0,1", "--name", "twice")
    log = await line.log_of(ACCEPTED)
    first = list((await line.markers(Role.CARD, log)).values())

    again = run_rebuild(line, tmp_path, "--role", "card", "--name", "twice")

    second = list((await line.markers(Role.CARD, log)).values())
    assert again.exit_code == 0, again.log_text()
    assert again.log_text().count("filled before") == 2
    assert second[:2] == first[:2]
    assert all(a != b for a, b in zip(second[2:], first[2:], strict=True))


def test_wrong_partitions_are_told(line_env: Mapping[str, str], tmp_path: Path) -> None:
    """A wrong argument is a wrong setting: exit 78."""
    command = ServiceProcess(
        "services.features", ["rebuild", "--partitions", "a"], line_env, tmp_path
    )
    command.launch()

    assert command.wait_end(timeout_s=60.0)
    assert command.exit_code == 78


async def test_rebuilt_entity_shard_is_what_the_stream_made(
    line: ShardLine, valkey: ValkeyServer
) -> None:
    """Terminals are a pure function of their log, and the stream goes on with the rebuilt ones."""
    async with line.role(Role.CARD) as cards, line.role(Role.ENTITY) as entities:
        await _apply(line, cards)
        await eventually_counted(line, valkey, entities, 120)
        before = await entity_values(line, valkey)

        assert set(await line.rebuild(Role.ENTITY)) == {"switched"}
        after = await entity_values(line, valkey)
        await line.accept(rows_of_cards(120, 160))
        await line.settle(cards, 160)

        assert before.items() <= after.items()
        await eventually_counted(line, valkey, entities, 160)


def run_rebuild(line: ShardLine, folder: Path, *arguments: str) -> ServiceProcess:
    """Run the command to its end."""
    environment = {**line.environment, "FRAUD_FEATURES_DELIVERY_TIMEOUT_S": "0"}
    command = ServiceProcess(
        "services.features", ["rebuild", *arguments], environment, folder / "commands"
    )
    command.launch()
    assert command.wait_end(timeout_s=120.0)
    return command


async def entity_values(line: ShardLine, valkey: ValkeyServer) -> dict[str, bytes]:
    """Return the served values of all entities, named without their generation."""
    found = {}
    log = await line.log_of(ACCEPTED)
    async with redis.Redis.from_url(valkey.url) as server:
        for partition in range(log.partitions):
            names = await line.names(Role.ENTITY, partition, log)
            begin = names.state(Entity.TERMINAL.value, "").partition(":terminal")[0]
            async for key in server.scan_iter(match=begin.replace("{", "[{]") + ":*", count=1000):
                content = await server.get(key)
                assert isinstance(content, bytes)
                found[key.decode().removeprefix(begin)] = content
    return found


async def eventually_counted(
    line: ShardLine, valkey: ValkeyServer, entities: ShardRole, rows: int
) -> None:
    """Poll until the terminals have counted so many rows."""

    async def is_counted() -> bool:
        await entities.poll()
        markers = (await line.markers(Role.ENTITY, entities.log)).values()
        if any(marker is None for marker in markers):
            return False
        values = await entity_values(line, valkey)
        terminals = [value for key, value in values.items() if key.startswith(":terminal:")]
        states = np.frombuffer(b"".join(terminals), SHARED_STATE)
        return int(states["day_count"].sum()) == rows

    await eventually(is_counted)
