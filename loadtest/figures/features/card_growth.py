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
from loadtest.bench.cpu import lacking_for_cpu, session_cpu_us
from loadtest.bench.figure import Plan, Sample, Side, Sides, experiment, ratio
from loadtest.bench.spent import spent
from loadtest.figures.line.servers import started_by
from loadtest.figures.table import figure

FEW: Final = 10_000
MANY: Final = 1_000_000
# Transactions of one run.
STORED_ROWS: Final = 8_192
_LOT: Final = 512
_FILL_LOT: Final = 20_000
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
            cards = _Cards(plan.rows(full), valkey, started_by(valkey.start))
            runner.run(cards.open())
            stack.callback(_close, runner, cards)
            sides[name] = _stage_side(runner, cards, plan.rows(STORED_ROWS))
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


def _close(runner: asyncio.Runner, cards: _Cards) -> None:
    runner.run(cards.store.close())


class _Cards:
    """A store full of cards."""

    def __init__(self, count: int, valkey: ValkeyServer, pids: set[int]) -> None:
        self.count = count
        self.store = StateStore(redis_settings_in(valkey.environment()))
        self._url = valkey.url
        self._pids = pids

    async def open(self) -> None:
        """Open the shard and fill it."""
        await self.store.connect()
        await self.store.open_shard(_SHARD, 0)
        self.fill()

    def fill(self) -> None:
        """Write every card's value, within the server."""
        value = np.zeros(1, CARD_VALUE)
        value["state"] = used_state()
        form = self.key("%07d")
        with redis.Redis.from_url(self._url, socket_timeout=60.0) as client:
            for begin in range(0, self.count, _FILL_LOT):
                end = min(begin + _FILL_LOT, self.count) - 1
                client.eval(_FILL, 0, begin, end, form, value.tobytes(), STATE_LIFE_S)

    def key(self, card: str) -> str:
        """Return the key of a card."""
        return self.store.keys(_SHARD).state(CARD, card)

    def server_cpu_us(self) -> int:
        """Return what Valkey has spent so far."""
        return session_cpu_us(self._pids)


def _stage_side(runner: asyncio.Runner, cards: _Cards, count: int) -> Side:
    """Return the stage: read, move on, write, in lots."""
    chance = np.random.default_rng(12)

    def run() -> Sample:
        lots = [
            [f"{number:07d}" for number in chance.integers(0, cards.count, _LOT).tolist()]
            for _ in range(-(-count // _LOT))
        ]
        before_us = cards.server_cpu_us()
        transactions = len(lots) * _LOT
        sample = spent(lambda: runner.run(_work_off(cards, lots)), transactions)
        store_us = cards.server_cpu_us() - before_us
        return {**sample, "store_cpu_us": store_us / transactions}

    return run


async def _work_off(cards: _Cards, lots: list[list[str]]) -> None:
    """Take each lot of transactions through the store, as the card role does."""
    marker: Any = await cards.store.marker(_SHARD)
    at = marker.next_offset
    rows = purchases(_LOT)
    for lot in lots:
        keys = [cards.key(card) for card in dict.fromkeys(lot)]
        place_of = {key: place for place, key in enumerate(keys)}
        values = unpack_values(await cards.store.read_shard(_SHARD, at, keys), CARD_VALUE)
        states = np.ascontiguousarray(values["state"])
        state_of = np.array([place_of[cards.key(card)] for card in lot], np.int64)
        outputs = empty_outputs(len(lot))
        advance_cards(states, state_of, rows, outputs, np.arange(len(lot)))
        values["state"] = states
        values["vector"][state_of] = outputs[0]
        packed, size = values.tobytes(), CARD_VALUE.itemsize
        written = [
            StoredValue(key, packed[place * size : (place + 1) * size], STATE_LIFE_S)
            for place, key in enumerate(keys)
        ]
        await cards.store.write_shard(_SHARD, ShardWrite(at, at + len(lot), written))
        at += len(lot)
