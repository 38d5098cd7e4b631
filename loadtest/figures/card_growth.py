"""What a transaction costs where a million cards are in use: the kernel over random cards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import numpy as np

from fraudstream.features.kernel import advance_cards, empty_outputs
from fraudstream.features.state import CARD_STATE, ROW
from loadtest.bench.figure import Figure, Plan, Round, Sample, Side

_BEGIN_MS: Final = 1_700_000_000_000


class CardGrowth:
    """What a transaction costs with a million cards, against ten thousand."""

    figures = (
        Figure(
            "cost_growth_10k_to_1m_cards",
            "kernel CPU per transaction: a million cards / ten thousand, cards drawn at random",
            "ratio",
            must=1.3,
            aim=1.1,
            is_cost=True,
        ),
    )

    def lacking(self) -> str:
        """Return the empty text: it needs 3 GB of memory and nothing else."""
        return ""

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Fill the states of both populations with a month, then measure the next rows."""
        rows = plan.rows(100_000)
        yield {
            "few": _population(plan.rows(10_000), rows),
            "many": _population(plan.rows(1_000_000), rows),
        }

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of one round."""
        few, many = measured["few"]["cpu_us"], measured["many"]["cpu_us"]
        return {"cost_growth_10k_to_1m_cards": many / few, "few cpu_us": few, "many cpu_us": many}


def _population(cards: int, count: int) -> Side:
    """Return a side that walks rows of random cards through states that are all in use."""
    rng = np.random.default_rng(cards)
    states = np.zeros(cards, CARD_STATE)
    rows = np.zeros(count, ROW)
    rows["kind"], rows["amount"] = 1, rng.integers(100, 20_000, count)
    rows["event_ms"] = _BEGIN_MS + np.arange(count) * 1_000
    every = np.arange(cards)
    first = np.zeros(cards, ROW)
    first["kind"], first["amount"], first["event_ms"] = 1, 1_000, _BEGIN_MS - 3_600_000
    advance_cards(states, every, first, empty_outputs(0), np.full(cards, -1, np.int64))
    outputs = empty_outputs(count)
    outputs[1][:] = 0

    def run() -> Sample:
        card = rng.integers(0, cards, count)
        began = time.thread_time()
        advance_cards(states, card, rows, outputs, np.arange(count))
        return {"cpu_us": (time.thread_time() - began) / count * 1e6}

    return run
