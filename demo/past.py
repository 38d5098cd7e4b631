"""The past before the traffic: computed by the offline driver and loaded into the store.

Without it every card is new, and a model that looks at a card's habits has nothing to look at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from demo.settings import kafka_settings_in, redis_settings_in
from fraudstream.features.codec import terminal_key
from fraudstream.features.history import History, replay_history
from fraudstream.privacy import Tokeniser
from fraudstream.state_store import StateStore
from fraudstream.topics import ACCEPTED, ENTITIES
from services.features.load import LoadedHistory, load_states
from services.features.logs import find_log
from training.dataset import history_of
from training.habits import DAY_MS
from training.messages import BANKS, bank_numbers, pan_of, terminal_of
from training.simulate import SimulationSettings, simulate

PAST_D: Final = 30


@dataclass(frozen=True)
class Past:
    """A history with the names that the stream knows its entities by.

    Attributes:
        history: Transactions in arrival order.
        card_tokens: Token of each card number.
        terminal_keys: Key of each terminal number.
    """

    history: History
    card_tokens: Sequence[str]
    terminal_keys: Sequence[str]


def simulated_past(live: SimulationSettings, tokeniser: Tokeniser) -> Past:
    """Return the month before some live traffic, of the same cards and merchants."""
    simulated = simulate(
        SimulationSettings(
            seed=live.seed,
            cards=live.cards,
            days=PAST_D,
            start_ms=live.start_ms - PAST_D * DAY_MS,
            merchants=live.merchants,
        )
    )
    numbers = np.arange(live.cards, dtype=np.int64)
    tokens = [
        tokeniser.token_of(BANKS[int(bank)], pan_of(int(card)))
        for card, bank in zip(numbers, bank_numbers(numbers), strict=True)
    ]
    # Terminals are numbered by pair of terminal and bank, in the order of both.
    rows = simulated.rows
    pairs = np.unique(rows["terminal"] * len(BANKS) + bank_numbers(rows["card"]))
    keys = [
        terminal_key(BANKS[int(pair) % len(BANKS)], terminal_of(int(pair) // len(BANKS)))
        for pair in pairs
    ]
    return Past(history_of(simulated), tokens, keys)


def load_past(past: Past, servers: Mapping[str, str]) -> str:
    """Compute the states that a past leaves and load them into the empty store of a line.

    Returns:
        What was done, in words.

    Raises:
        ShardClosed: The store has states already.
        OnlineStoreUnavailable: The store does not answer.
    """
    started_s = time.monotonic()
    history = past.history
    replayed = replay_history(history, np.zeros(len(history.card), np.bool_))
    tokens = past.card_tokens[: len(replayed.cards)]
    asyncio.run(_load(LoadedHistory(replayed, tokens, past.terminal_keys), servers))
    return (
        f"{len(history.card):,} earlier transactions loaded as {len(tokens):,} cards and"
        f" {len(past.terminal_keys):,} terminals in {time.monotonic() - started_s:.0f} s"
    )


async def _load(loaded: LoadedHistory, servers: Mapping[str, str]) -> None:
    kafka = kafka_settings_in(servers)
    store = StateStore(redis_settings_in(servers), lambda: time.time_ns() // 1_000_000)
    await store.connect()
    try:
        accepted, entities = find_log(kafka, ACCEPTED), find_log(kafka, ENTITIES)
        await load_states(store, accepted, entities, loaded, lambda _: None)
    finally:
        await store.close()
