"""An online read of 64 cards: Feast's own Redis store, our store behind Feast, and our hot path.

All three read the whole catalogue of the same cards from one Valkey and end with numbers in
memory: Feast's stores with one `Value` a feature, the hot path with one array. What the client
spends is measured; the figure is the hot path's, our store behind Feast stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from loadtest.bench.figure import Figure, Plan, Round, Side
from loadtest.bench.spent import beside


class OnlineReadVsFeast:
    """Three readers of the same vectors."""

    figures = (
        Figure(
            "online_read_vs_feast",
            "Online read of 64 cards, client CPU: Feast's Redis store / our hot path",
            "ratio",
            must=4.0,
            aim=6.0,
        ),
    )

    def lacking(self) -> str:
        """Return nothing: Valkey comes as a wheel."""
        return ""

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start Valkey, write the same vectors in both forms, and check all three readers."""
        # Importing Feast takes ten seconds, which other figures shall not wait for.
        from loadtest.figures.online_read import running_readers

        with running_readers(plan) as sides:
            yield sides

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of the hot path, and beside it that of our store behind Feast."""
        theirs = measured["feast"]["cpu_us"]
        return {
            "online_read_vs_feast": theirs / measured["hot"]["cpu_us"],
            "behind Feast ratio": theirs / measured["packed"]["cpu_us"],
            **beside(dict(measured)),
        }
