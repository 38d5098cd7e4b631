"""How large stored values are, and what an online read of them costs beside Feast."""

from __future__ import annotations

from collections.abc import Iterator

from fraudstream.features.state import SHARED_STATE
from fraudstream.features.stored_values import CARD_VALUE
from loadtest.bench.figure import Plan, Sides, experiment, ratio, taken
from loadtest.figures.table import figure


@experiment(
    figure("state_bytes_per_card", taken("layout", "card")),
    figure("state_bytes_per_shared_entity", taken("layout", "shared_entity")),
    apart=lambda _: {},
)
def stored_bytes(_: Plan) -> Iterator[Sides]:
    """Nothing is timed: the packed layouts say it."""
    yield {"layout": lambda: {"card": CARD_VALUE.itemsize, "shared_entity": SHARED_STATE.itemsize}}


@experiment(figure("online_read_vs_feast", ratio("feast", "hot")))
def online_read_vs_feast(plan: Plan) -> Iterator[Sides]:
    """Feast's own Redis store, our store behind Feast, and our hot path."""
    # Importing Feast takes ten seconds, which other figures shall not wait for.
    from loadtest.figures.features.online_read import running_readers

    with running_readers(plan) as sides:
        yield sides
