"""How large stored values are. Nothing is timed: the packed layouts say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fraudstream.features.codec import CARD_VALUE
from fraudstream.features.state import SHARED_STATE
from loadtest.bench.figure import Figure, Plan, Round, Side


class StoredBytes:
    """Bytes of a card's value and of a shared entity's, as they lie in the store."""

    figures = (
        Figure(
            "state_bytes_per_card",
            "Stored value of a card: state, ring, last decided vector",
            "bytes",
            must=4_096,
            aim=2_048,
            is_cost=True,
        ),
        Figure(
            "state_bytes_per_shared_entity",
            "Stored value of a shared entity: counts, spend, labels",
            "bytes",
            must=1_024,
            aim=768,
            is_cost=True,
        ),
    )

    def lacking(self) -> str:
        """Return nothing: every machine can tell."""
        return ""

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Offer the one side."""
        del plan
        yield {
            "layout": lambda: {"card": CARD_VALUE.itemsize, "shared_entity": SHARED_STATE.itemsize}
        }

    def values(self, measured: Round) -> dict[str, float]:
        """Return both sizes."""
        layout = measured["layout"]
        return {
            "state_bytes_per_card": layout["card"],
            "state_bytes_per_shared_entity": layout["shared_entity"],
        }
