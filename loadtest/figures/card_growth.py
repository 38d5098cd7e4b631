"""What a transaction costs with a million cards, against ten thousand.

The features stage keeps no state in memory: it reads a card's from the store, moves it on and
writes it back. Both sides do that for cards at random, each in a Valkey of its own that holds all
of its cards; the figure is this process's CPU. Beside it: Valkey's own, and the kernel alone over
all states in memory, as a replay has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import redis

from demo.servers import ValkeyServer
from demo.settings import redis_settings_in
from fraudstream.features.codec import CARD, CARD_VALUE, unpack_values
from fraudstream.features.kernel import advance_cards, empty_outputs
from fraudstream.features.state import CARD_STATE, HOUR_MS, ROW
from fraudstream.features.warm_up import warm_up
from fraudstream.shard import Role, ShardRef
from fraudstream.state_store import STATE_LIFE_S, ShardWrite, StateStore, StoredValue
from loadtest.bench.cpu import child_sessions, lacking_for_cpu, session_cpu_us
from loadtest.bench.figure import Figure, Plan, Round, Sample, Side
from loadtest.bench.spent import beside, spent

FEW: Final = 10_000
MANY: Final = 1_000_000
# Transactions of one run: of the stage, and of the kernel alone.
STORED_ROWS: Final = 8_192
KERNEL_ROWS: Final = 100_000
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


class CardGrowth:
    """The same work for few cards and for many."""

    figures = (
        Figure(
            "cost_growth_10k_to_1m_cards",
            "Features stage with its store, CPU a transaction: a million cards / ten thousand",
            "ratio",
            must=1.3,
            aim=1.1,
            is_cost=True,
        ),
    )

    def lacking(self) -> str:
        """Return why this machine cannot run it, empty where it can."""
        return lacking_for_cpu()

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Fill memory and both stores: 6.5 GB at full scale."""
        warm_up()
        with ExitStack() as stack:
            runner = stack.enter_context(asyncio.Runner())
            sides: dict[str, Side] = {}
            for name, full in (("few", FEW), ("many", MANY)):
                before = child_sessions()
                valkey = ValkeyServer(plan.folder / name)
                stack.callback(valkey.stop)
                valkey.start()
                cards = _Cards(plan.rows(full), valkey, child_sessions() - before)
                runner.run(cards.open())
                stack.callback(_close, runner, cards)
                sides[f"{name} kernel"] = _kernel_side(cards.count, plan.rows(KERNEL_ROWS))
                sides[name] = _stage_side(runner, cards, plan.rows(STORED_ROWS))
            for side in sides.values():
                side()
            yield sides

    def values(self, measured: Round) -> dict[str, float]:
        """Return the stage's ratio, and beside it the store's and the kernel's."""

        def ratio(many: str, few: str, name: str) -> float:
            return measured[many][name] / measured[few][name]

        return {
            "cost_growth_10k_to_1m_cards": ratio("many", "few", "cpu_us"),
            "kernel ratio": ratio("many kernel", "few kernel", "cpu_us"),
            "store ratio": ratio("many", "few", "store_cpu_us"),
            **beside(dict(measured)),
        }


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


def _kernel_side(cards: int, count: int) -> Side:
    """Return the kernel over all states in memory, cards at random."""
    states = np.repeat(used_state(), cards)
    rows, outputs, places = purchases(count), empty_outputs(count), np.arange(count)
    outputs[1].fill(0.0)
    chance = np.random.default_rng(11)

    def run() -> Sample:
        card = chance.integers(0, cards, count)
        return spent(lambda: advance_cards(states, card, rows, outputs, places), count)

    return run


def _close(runner: asyncio.Runner, cards: _Cards) -> None:
    runner.run(cards.store.close())


class _Cards:
    """A store full of cards."""

    def __init__(self, count: int, valkey: ValkeyServer, pids: set[int]) -> None:
        self.count = count
        self.store = StateStore(redis_settings_in(valkey.environment()), lambda: _BEGIN_MS)
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
