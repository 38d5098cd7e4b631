"""How large stored values are, and what an online read of them costs beside Feast."""

from __future__ import annotations

from collections.abc import Iterator

from fraudstream.features.state import SHARED_STATE
from fraudstream.features.stored_values import CARD_VALUE
from loadtest.bench.figure import Figure, Plan, Sides, experiment, ratio, taken


@experiment(
    Figure(
        "state_bytes_per_card",
        "Stored value of a card: state, ring, last decided vector",
        "bytes",
        taken("layout", "card"),
        must=4_096,
        aim=2_048,
        is_cost=True,
    ),
    Figure(
        "state_bytes_per_shared_entity",
        "Stored value of a shared entity: counts, spend, labels",
        "bytes",
        taken("layout", "shared_entity"),
        must=1_024,
        aim=768,
        is_cost=True,
    ),
    apart=lambda _: {},
)
def stored_bytes(_: Plan) -> Iterator[Sides]:
    """Nothing is timed: the packed layouts say it."""
    yield {"layout": lambda: {"card": CARD_VALUE.itemsize, "shared_entity": SHARED_STATE.itemsize}}


@experiment(
    Figure(
        "online_read_vs_feast",
        "Online read of 64 cards, client CPU: Feast's Redis store / our hot path",
        "ratio",
        ratio("feast", "hot"),
        must=4.0,
        aim=6.0,
    )
)
def online_read_vs_feast(plan: Plan) -> Iterator[Sides]:
    """Feast's own Redis store, our store behind Feast, and our hot path."""
    # Importing Feast takes ten seconds, which other figures shall not wait for.
    from loadtest.figures.features.online_read import running_readers

    with running_readers(plan) as sides:
        yield sides
