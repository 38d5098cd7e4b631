"""A store that loses what it was told: the owner rebuilds it, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis
from pydantic import SecretStr

from fraudstream.store.shard import Role, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import ACCEPTED, partition_of
from fraudstream.v1.scoring_pb2 import ScoreRequest
from harness.servers import Broker, ValkeyServer
from tests.conftest import create_topics, environment_of_test
from tests.fakes.slow_store import slow_store
from tests.worlds.scoring_world import redis_settings, some_transaction
from tests.worlds.shard_line import (
    CARDS,
    ShardLine,
    ShardRole,
    eventually,
    rows_of_cards,
    shard_line,
)

pytestmark = pytest.mark.slow
_ROWS = rows_of_cards(0, 200)


@pytest.fixture
async def line(
    broker: Broker, mortal_valkey: ValkeyServer, tmp_path: Path
) -> AsyncIterator[ShardLine]:
    """A line over a store of its own, which it may empty."""
    environment = environment_of_test(broker, mortal_valkey)
    create_topics(environment, tmp_path)
    async with shard_line(environment, tmp_path) as made:
        yield made


async def _apply(line: ShardLine, cards: ShardRole) -> dict[str, bytes | None]:
    """Take all rows through the stream, in several batches a shard; return the cards' values."""
    for begin in range(0, len(_ROWS), 50):
        await line.accept(_ROWS[begin : begin + 50])
        await line.settle(cards, begin + 50)
    return await line.card_values(CARDS)


async def _flush(valkey: ValkeyServer) -> None:
    async with redis.Redis.from_url(valkey.url) as server:
        await server.flushall()


async def test_emptied_store_is_rebuilt_byte_for_byte(
    line: ShardLine, mortal_valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """States and claims are those of the run before; a later copy of a row counts for nothing."""
    async with line.role(Role.CARD) as cards:
        before = await _apply(line, cards)
        await _flush(mortal_valkey)
        with caplog.at_level(logging.WARNING):
            await line.settle(cards, 200)
        restored = await line.card_values(CARDS)
        await line.accept(_ROWS[:60])
        await line.settle(cards, 260)

        assert "the store lost its content" in caplog.text
        assert restored == before
        assert await line.card_values(CARDS) == before
        assert len(await line.decisions()) == 200


async def test_stopped_store_comes_back_empty_and_is_rebuilt(
    line: ShardLine, mortal_valkey: ValkeyServer
) -> None:
    """Rows that come while it is away wait; afterwards each has one decision.

    A copy of it is no second one: a scorer that meets the new store by its old connection cannot
    settle what it published, and publishes it again.
    """
    async with line.role(Role.CARD) as cards:
        await _apply(line, cards)
        mortal_valkey.kill()
        await line.accept(rows_of_cards(200, 230))
        for _ in range(3):
            assert await cards.poll() == {}
        mortal_valkey.start()
        await line.settle(cards, 230)

        made = {
            each.SerializeToString(deterministic=True): each.transaction_id
            for each in await line.decisions()
        }
        assert sorted(made.values()) == sorted({f"t-{number}" for number in range(230)})


async def test_repeated_call_after_a_loss_gets_the_same_decision(
    line: ShardLine, mortal_valkey: ValkeyServer
) -> None:
    """Records come back first: an answer that was given stays the answer."""
    async with line.role(Role.CARD) as cards:
        await line.settle(cards, 0)
        asked = ScoreRequest(transaction=some_transaction(7))
        first = await line.scoring.front.Score(asked, timeout=10)
        await line.settle(cards, 1)
        await _flush(mortal_valkey)
        await line.settle(cards, 1)

        again = await line.scoring.front.Score(asked, timeout=10)

        assert again.replayed
        again.replayed = False
        assert again == first


async def test_worker_that_takes_over_waits_for_the_rest_only(
    line: ShardLine, mortal_valkey: ValkeyServer
) -> None:
    """Producers of before the loss do not begin again when a worker does."""
    async with line.role(Role.CARD) as cards:
        await _apply(line, cards)
    await _flush(mortal_valkey)
    log = await line.log_of(ACCEPTED)
    held = {partition_of(card.encode(), log.partitions) for card in CARDS}
    shards = [ShardRef(Role.CARD, partition, log.incarnation) for partition in held]
    notes = [line.store.keys(shard).loss for shard in shards]
    async with (
        redis.Redis.from_url(mortal_valkey.url) as server,
        line.role(Role.CARD, delivery_timeout_s=600.0) as first,
    ):

        async def is_noted() -> bool:
            await first.poll()
            return await server.exists(*notes) == len(notes)

        await eventually(is_noted)
        assert [await line.store.marker(shard) for shard in shards] == [None] * len(shards)
        for note in notes:
            await server.hset(note, "since", 1)

    async with line.role(Role.CARD, delivery_timeout_s=600.0) as second:
        await line.settle(second, 200)
    async with redis.Redis.from_url(mortal_valkey.url) as server:
        assert await server.exists(*notes) == 0, "the next loss is another"


async def test_flush_under_load_neither_loses_nor_doubles(
    line: ShardLine, mortal_valkey: ValkeyServer
) -> None:
    """The store is emptied twice while rows are being applied; the second time as it is rebuilt."""
    async with line.role(Role.CARD) as cards:
        for begin in range(0, 200, 20):
            await line.accept(_ROWS[begin : begin + 20])
            await cards.poll()
            if begin in (60, 100):
                await _flush(mortal_valkey)
        await line.settle(cards, 200)
        await line.accept(_ROWS)
        await line.settle(cards, 400)

        made = await line.decisions()
        first = {each.decision_id: each for each in made}
        assert len(first) == 200
        assert await line.counted_rows(CARDS) == 200


async def test_shard_is_left_alone_while_producers_may_go_on(
    line: ShardLine, mortal_valkey: ValkeyServer
) -> None:
    """What a scorer still publishes after the loss must be read, so the rebuild waits it out."""
    async with line.role(Role.CARD, delivery_timeout_s=3600) as cards:
        await _apply(line, cards)
        await _flush(mortal_valkey)
        lost = {cards.log.partitions}

        async def is_waiting() -> bool:
            await cards.poll()
            lost.update(p for p in range(cards.log.partitions) if cards.owner.rebuilds.is_busy(p))
            return len(lost) > 4

        await eventually(is_waiting)

        assert cards.owner.rebuilds.is_busy(cards.busiest)
        assert await line.marker_of(cards.busiest) is None


async def test_slow_store_loses_and_doubles_nothing(
    line: ShardLine, mortal_valkey: ValkeyServer
) -> None:
    """Answers later than the time-out have an unknown outcome: the marker tells it."""
    async with slow_store(mortal_valkey.url) as proxy:
        settings = redis_settings(line.environment).model_copy(
            update={"url": SecretStr(proxy.url), "timeout_s": 0.3}
        )
        store = StateStore(settings)
        await store.connect()
        async with line.role(Role.CARD, store) as cards:
            for begin in range(0, 200, 40):
                await line.accept(_ROWS[begin : begin + 40])
                await cards.poll()
                proxy.delay_s = 0.5 if begin in (40, 120) else 0.0
            proxy.delay_s = 0.0
            await line.settle(cards, 200)
        await store.close()

    assert len(await line.decisions()) == 200
    assert await line.counted_rows(CARDS) == 200


async def test_two_rebuilders_of_one_shard_switch_once(line: ShardLine) -> None:
    """Each fills a generation of its own; the second finds the marker changed and leaves it."""
    async with line.role(Role.CARD) as cards:
        before = await _apply(line, cards)

        outcomes = await asyncio.gather(line.rebuild(Role.CARD), line.rebuild(Role.CARD))

        for pair in zip(*outcomes, strict=True):
            assert sorted(pair) == ["other", "switched"]
        await line.settle(cards, 200)
        assert await line.card_values(CARDS) == before


async def test_stream_takes_over_after_a_rebuild_under_load(line: ShardLine) -> None:
    """Rows that are applied while a generation is filled are applied to it again, and only once."""
    async with line.role(Role.CARD) as cards:
        await line.accept(_ROWS[:80])
        await line.settle(cards, 80)

        async def load() -> None:
            for begin in range(80, 200, 10):
                await line.accept(_ROWS[begin : begin + 10])
                await cards.poll()

        await asyncio.gather(load(), line.rebuild(Role.CARD))
        await line.settle(cards, 200)

        assert len(await line.decisions()) == 200
        assert await line.counted_rows(CARDS) == 200
        assert await line.card_values(CARDS) == await line.values_of_kernel(_ROWS)
