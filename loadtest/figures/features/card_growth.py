"""What a transaction costs with a million cards, against ten thousand.

The features stage keeps no state in memory: it reads a card's from the store, moves it on and
writes it back. Both sides do that for cards at random, each in a Valkey of its own that holds all
of its cards; the figure is this process's CPU. Valkey's own stands beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import redis

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.state import CARD_STATE, HOUR_MS, ROW
from fraudstream.features.stored_values import CARD, CARD_VALUE, unpack_values
from fraudstream.features.warm_up import warm_up
from fraudstream.store.shard import Role, ShardRef
from fraudstream.store.shard_store import STATE_LIFE_S, ShardWrite, StateStore, StoredValue
from harness.servers import ValkeyServer
from harness.settings import redis_settings_in
from loadtest.bench.cpu import lacking_for_cpu, session_cpu_us, spent
from loadtest.bench.figure import Plan, Sample, Side, Sides, experiment, ratio
from loadtest.figures.line.servers import started_by
from loadtest.figures.table import figure

FEW: Final = 10_000
MANY: Final = 1_000_000
# Transactions of one run.
STORED_ROWS: Final = 8_192
_BATCH: Final = 512
_FILL_BATCH: Final = 20_000
_BEGIN_MS: Final = 1_700_000_000_000
_SHARD: Final = ShardRef(Role.CARD, 0, "ab:1")
# Valkey fills itself: a million values would take this client a minute.
_FILL: Final = """
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('SET', string.format(ARGV[3], number), ARGV[4], 'EX', ARGV[5])
end
"""


@experiment(
    figure("cost_growth_10k_to_1m_cards", ratio("many", "few")),
    needs=(lacking_for_cpu,),
)
def card_growth(plan: Plan) -> Iterator[Sides]:
    """Fill both stores, 6.5 GB at full scale, and do the same work for few cards and many."""
    warm_up()
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        sides: dict[str, Side] = {}
        for name, full in (("few", FEW), ("many", MANY)):
            valkey = ValkeyServer(plan.folder / name)
            stack.callback(valkey.stop)
            pids = started_by(valkey.start)
            cards = _Cards(plan.rows(full), StateStore(redis_settings_in(valkey.environment())))
            stack.callback(lambda store: runner.run(store.close()), cards.store)
            runner.run(cards.open(valkey.url))
            sides[name] = _stage_side(runner, cards, plan.rows(STORED_ROWS), pids)
        for side in sides.values():
            side()
        yield sides


def used_state() -> npt.NDArray[np.void]:
    """Return one card's state after a hundred purchases, so that nothing of it is empty."""
    states, rows = np.zeros(1, CARD_STATE), purchases(100)
    rows["event_ms"] -= 101 * HOUR_MS
    rows["event_ms"] += np.arange(100) * HOUR_MS
    advance_cards(states, np.zeros(100, np.int64), rows, empty_outputs(100), np.arange(100))
    return states


def purchases(count: int) -> npt.NDArray[np.void]:
    """Return purchases of one hour, `ROW` [count]."""
    rows = np.zeros(count, ROW)
    rows["event_ms"] = _BEGIN_MS + np.arange(count) * HOUR_MS // count
    rows["amount"] = 1_000 + np.arange(count) % 5_000
    rows["value"] = 1 + np.arange(count)[:, None] % 97
    rows["latitude"] = rows["longitude"] = np.nan
    rows["kind"] = rows["channel"] = 1
    return rows


class _Cards:
    """A store full of cards, and the stage that moves them on."""

    def __init__(self, count: int, store: StateStore) -> None:
        self.count, self.store = count, store

    def key(self, card: str) -> str:
        return self.store.keys(_SHARD).state(CARD, card)

    async def open(self, url: str) -> None:
        """Open the shard, and write every card's value within the server."""
        await self.store.connect()
        await self.store.open_shard(_SHARD, 0)
        value = np.zeros(1, CARD_VALUE)
        value["state"] = used_state()
        with redis.Redis.from_url(url, socket_timeout=60.0) as client:
            for begin in range(0, self.count, _FILL_BATCH):
                end = min(begin + _FILL_BATCH, self.count) - 1
                form = self.key("%07d")
                client.eval(_FILL, 0, begin, end, form, value.tobytes(), STATE_LIFE_S)

    async def work_off(self, batches: list[list[str]]) -> None:
        """Take each batch of transactions through the store, as the card role does."""
        marker: Any = await self.store.marker(_SHARD)
        at = marker.next_offset
        rows = purchases(_BATCH)
        for batch in batches:
            keys = [self.key(card) for card in dict.fromkeys(batch)]
            index_of = {key: index for index, key in enumerate(keys)}
            values = unpack_values(await self.store.read_shard(_SHARD, at, keys), CARD_VALUE)
            states = np.ascontiguousarray(values["state"])
            state_of = np.array([index_of[self.key(card)] for card in batch], np.int64)
            outputs = empty_outputs(len(batch))
            advance_cards(states, state_of, rows, outputs, np.arange(len(batch)))
            values["state"] = states
            values["vector"][state_of] = outputs[0]
            packed, size = values.tobytes(), CARD_VALUE.itemsize
            written = [
                StoredValue(key, packed[index * size : (index + 1) * size], STATE_LIFE_S)
                for index, key in enumerate(keys)
            ]
            await self.store.write_shard(_SHARD, ShardWrite(at, at + len(batch), written))
            at += len(batch)


def _stage_side(runner: asyncio.Runner, cards: _Cards, count: int, pids: set[int]) -> Side:
    """Return the stage: read, move on, write, in batches."""
    chance = np.random.default_rng(12)

    def run() -> Sample:
        batches = [
            [f"{number:07d}" for number in chance.integers(0, cards.count, _BATCH).tolist()]
            for _ in range(-(-count // _BATCH))
        ]
        before_us, transactions = session_cpu_us(pids), len(batches) * _BATCH
        sample = spent(lambda: runner.run(cards.work_off(batches)), transactions)
        return {**sample, "store_cpu_us": (session_cpu_us(pids) - before_us) / transactions}

    return run
