"""The past before the traffic: computed by the offline driver and loaded into the store.

Without it every card is new, and a model that looks at a card's habits has nothing to look at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from demo.holder import FIRST_HOLDER, HOLDERS, holders_past
from fraudstream.broker.topic_info import find_log
from fraudstream.features.catalogue import Entity
from fraudstream.features.history import replay_history
from fraudstream.features.stored_values import entity_key
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import ACCEPTED, ENTITIES
from fraudstream.transaction.card_token import Tokeniser
from harness.settings import kafka_settings_in, redis_settings_in
from services.features.rebuild.initial_load import LoadedHistory, load_states
from training.simulator.habits import DAY_MS
from training.simulator.histories import LabelledHistory, simulated_history
from training.simulator.messages import BANKS, bank_numbers, pan_of
from training.simulator.simulate import Simulated, SimulationSettings, simulate

PAST_D: Final = 30
FILE_NAME: Final = "past.parquet"


@dataclass(frozen=True)
class Past:
    """A history with the names that the stream knows its cards by.

    Attributes:
        labelled: Transactions in arrival order, with the names of their other entities.
        card_tokens: Token of each card number.
        banks: Bank of each card number.
    """

    labelled: LabelledHistory
    card_tokens: Sequence[str]
    banks: Sequence[str]

    def entity_keys(self) -> Mapping[Entity, Sequence[str]]:
        """Return the key of each number of each shared entity, the card among them."""
        named = zip(self.banks, self.card_tokens, strict=True)
        cards = [entity_key(bank, token) for bank, token in named]
        return {Entity.CARD: cards, **self.labelled.entity_keys}


def simulated_past(live: SimulationSettings, tokeniser: Tokeniser) -> Past:
    """Return the month before some live traffic, of the same cards, and of the samples' holders."""
    settings = SimulationSettings(
        seed=live.seed,
        cards=live.cards,
        days=PAST_D,
        start_ms=live.start_ms - PAST_D * DAY_MS,
        merchants=live.merchants,
    )
    simulated = with_holders(simulate(settings))
    numbers = np.arange(FIRST_HOLDER + HOLDERS, dtype=np.int64)
    banks = [BANKS[int(bank)] for bank in bank_numbers(numbers)]
    tokens = [
        tokeniser.token_of(bank, pan_of(int(card)))
        for card, bank in zip(numbers, banks, strict=True)
    ]
    return Past(simulated_history(simulated), tokens, banks)


def with_holders(simulated: Simulated) -> Simulated:
    """Return a history with the samples' holders among its cards, in time order."""
    settings = simulated.settings
    held = holders_past(settings.start_ms, settings.days)
    rows = np.concatenate([simulated.rows, held])
    arrival = np.concatenate([simulated.label_arrival_ms, np.full(len(held), -1)])
    order = np.argsort(rows["event_time_ms"], kind="stable")
    return Simulated(settings, rows[order], arrival[order])


def load_past(past: Past, servers: Mapping[str, str], keep: Path) -> str:
    """Compute the states that a past leaves and load them into the empty store of a line.

    Args:
        past: The history.
        servers: Variables that name broker, store and prefixes.
        keep: File for what was loaded: no log holds it, and decisions are proven from it.

    Returns:
        What was done, in words.

    Raises:
        ShardClosed: The store has states already.
        OnlineStoreUnavailable: The store does not answer.
    """
    started_s = time.monotonic()
    history = past.labelled.history
    replayed = replay_history(history, np.zeros(len(history.card), np.bool_))
    # Those that first appear later have numbers too, the highest often, but no state yet.
    tokens = past.card_tokens[: len(replayed.cards)]
    keys = {
        entity: names[: len(replayed.shared[entity])]
        for entity, names in past.entity_keys().items()
    }
    loaded = LoadedHistory(replayed, tokens, keys)
    asyncio.run(_load(loaded, servers))
    loaded.keep(keep)
    entities = sum(len(states) for states in replayed.shared.values())
    return (
        f"{len(history.card):,} earlier transactions loaded as {len(tokens):,} cards and"
        f" {entities:,} shared entities in {time.monotonic() - started_s:.0f} s"
    )


async def _load(loaded: LoadedHistory, servers: Mapping[str, str]) -> None:
    kafka = kafka_settings_in(servers)
    store = StateStore(redis_settings_in(servers))
    await store.connect()
    try:
        accepted, entities = find_log(kafka, ACCEPTED), find_log(kafka, ENTITIES)
        await load_states(store, accepted, entities, loaded, lambda _: None)
    finally:
        await store.close()
