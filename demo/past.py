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
from fraudstream.features.catalogue import Entity
from fraudstream.features.codec import entity_key
from fraudstream.features.history import replay_history
from fraudstream.privacy import Tokeniser
from fraudstream.state_store import StateStore
from fraudstream.topics import ACCEPTED, ENTITIES
from services.features.load import LoadedHistory, load_states
from services.features.logs import find_log
from training.habits import DAY_MS
from training.histories import LabelledHistory, simulated_history
from training.messages import BANKS, bank_numbers, pan_of
from training.simulate import SimulationSettings, simulate

PAST_D: Final = 30


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
    banks = [BANKS[int(bank)] for bank in bank_numbers(numbers)]
    tokens = [
        tokeniser.token_of(bank, pan_of(int(card)))
        for card, bank in zip(numbers, banks, strict=True)
    ]
    return Past(simulated_history(simulated), tokens, banks)


def load_past(past: Past, servers: Mapping[str, str]) -> str:
    """Compute the states that a past leaves and load them into the empty store of a line.

    Returns:
        What was done, in words.

    Raises:
        ShardClosed: The store has states already.
        OnlineStoreUnavailable: The store does not answer.
    """
    started_s = time.monotonic()
    history = past.labelled.history
    replayed = replay_history(history, np.zeros(len(history.card), np.bool_))
    tokens = past.card_tokens[: len(replayed.cards)]
    asyncio.run(_load(LoadedHistory(replayed, tokens, past.entity_keys()), servers))
    entities = sum(len(states) for states in replayed.shared.values())
    return (
        f"{len(history.card):,} earlier transactions loaded as {len(tokens):,} cards and"
        f" {entities:,} shared entities in {time.monotonic() - started_s:.0f} s"
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
