"""Our line against a plain composition of the same libraries: CPU from accepted row to decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from demo.servers import ApacheKafka, lacking_for_kafka
from demo.settings import MachineSettings
from fraudstream.errors import InvalidSettings
from fraudstream.privacy import Tokeniser, TokenKeys
from fraudstream.topics import ACCEPTED
from loadtest.bench.cpu import lacking_for_cpu
from loadtest.bench.figure import Figure, Plan, Round, Sample, Side
from loadtest.figures.backlog import BacklogRow, accepted_rows, traffic_settings
from loadtest.figures.drain import Drain
from loadtest.figures.ours import (
    DECIDING,
    WARM_UP_ROWS,
    drain_of,
    draining,
    line_of,
    running_line,
)
from loadtest.figures.plain_side import plain_drain, running_plain
from loadtest.figures.servers import running_broker, side_servers

ROWS: Final = 20_000
PLAIN_S: Final = 60.0
# What decides, on each side. Ingest, the entity role, store and broker are reported apart.
_OURS: Final = ("features-card", "scoring")
_PLAIN: Final = ("plain-features", "plain-scorer")


class LineVsPlain:
    """The plain composition (`loadtest.plain`) over ours, on Apache Kafka."""

    figures = (
        Figure(
            "line_vs_plain",
            "CPU from accepted row to decision: plain composition / ours",
            "ratio",
            must=10.0,
            aim=30.0,
        ),
    )

    def __init__(self, machine: MachineSettings) -> None:
        self._machine = machine

    def lacking(self) -> str:
        """Return why this machine cannot run it, empty where it can."""
        return lacking_for_kafka(self._machine) or lacking_for_cpu()

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start both sides on one broker, warm them up, and end all on leaving."""
        with ExitStack() as stack:
            broker = self._broker(plan.folder)
            pids = stack.enter_context(running_broker(broker))
            our = stack.enter_context(side_servers(broker, pids, "ours", plan.folder))
            their = stack.enter_context(side_servers(broker, pids, "plain", plan.folder))
            line = stack.enter_context(running_line(line_of(our, plan.folder / "ours", DECIDING)))
            plain = stack.enter_context(running_plain(their, plan.folder / "plain"))
            our_drain = stack.enter_context(closing(drain_of(line, our, ACCEPTED)))
            plain_side = stack.enter_context(closing(plain_drain(plain, their)))
            settings, tokeniser = traffic_settings(), Tokeniser(TokenKeys.load(line.token_keys))
            our_rows, plain_rows = (
                accepted_rows(settings, tokeniser, drain.partitions)
                for drain in (our_drain, plain_side)
            )
            yield {
                "ours": draining(our_drain, our_rows, plan, ROWS),
                "plain": _draining_for_a_minute(plain_side, plain_rows, plan),
            }

    def _broker(self, folder: Path) -> ApacheKafka:
        home, java = self._machine.kafka_home, self._machine.java
        if home is None or java is None:
            raise InvalidSettings(self.lacking())
        return ApacheKafka(home, folder / "kafka", java)

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of one round; both sides of it and all else are reported apart."""
        ours, plain = measured["ours"], measured["plain"]
        our_us = sum(ours[f"{part}_cpu_us"] for part in _OURS)
        plain_us = sum(plain[f"{part}_cpu_us"] for part in _PLAIN)
        apart = {f"ours {name}": value for name, value in ours.items()}
        apart |= {f"plain {name}": value for name, value in plain.items()}
        return {
            "line_vs_plain": plain_us / our_us,
            "ours to decision_cpu_us": our_us,
            "plain to decision_cpu_us": plain_us,
            **apart,
        }


def _draining_for_a_minute(drain: Drain, rows: Iterator[BacklogRow], plan: Plan) -> Side:
    """Warm the plain side up and return it: each run drains what takes about a minute."""
    warm = drain.run(list(islice(rows, plan.rows(WARM_UP_ROWS))))
    count = plan.rows(round(warm["tx_per_s"] * PLAIN_S))

    def run() -> Sample:
        return drain.run(list(islice(rows, count)))

    return run
