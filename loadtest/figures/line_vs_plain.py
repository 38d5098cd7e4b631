"""Our line against two compositions of the same libraries: CPU from accepted row to decision."""

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
from loadtest.figures.plain_side import PLAIN, TUNED, plain_drain, running_plain
from loadtest.figures.servers import running_broker, side_servers

ROWS: Final = 20_000
PLAIN_S: Final = 60.0
# What decides, on each side. Ingest, the entity role, store and broker are reported apart.
_OURS: Final = ("features-card", "scoring")
_THEIRS: Final = ("plain-features", "plain-tuned", "plain-scorer")


class _LineVs:
    """Our line beside another composition of the same parts, on Apache Kafka.

    Args:
        figure: CPU of the other / ours.
        roles: Of the other's processes.
        machine: Where Kafka is.
    """

    def __init__(self, figure: Figure, roles: tuple[str, ...], machine: MachineSettings) -> None:
        self.figures = (figure,)
        self._roles = roles
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
            their = stack.enter_context(side_servers(broker, pids, "theirs", plan.folder))
            line = stack.enter_context(running_line(line_of(our, plan.folder / "ours", DECIDING)))
            other = stack.enter_context(running_plain(their, plan.folder / "theirs", self._roles))
            our_drain = stack.enter_context(closing(drain_of(line, our, ACCEPTED)))
            their_drain = stack.enter_context(closing(plain_drain(other, their)))
            settings, tokeniser = traffic_settings(), Tokeniser(TokenKeys.load(line.token_keys))
            our_rows, their_rows = (
                accepted_rows(settings, tokeniser, drain.partitions)
                for drain in (our_drain, their_drain)
            )
            yield {
                "ours": draining(our_drain, our_rows, plan, ROWS),
                "theirs": self._draining(their_drain, their_rows, plan),
            }

    def _draining(self, drain: Drain, rows: Iterator[BacklogRow], plan: Plan) -> Side:
        if self._roles is PLAIN:
            return _draining_for_a_minute(drain, rows, plan)
        return draining(drain, rows, plan, ROWS)

    def _broker(self, folder: Path) -> ApacheKafka:
        home, java = self._machine.kafka_home, self._machine.java
        if home is None or java is None:
            raise InvalidSettings(self.lacking())
        return ApacheKafka(home, folder / "kafka", java)

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of one round; both sides of it and all else are reported apart."""
        ours, theirs = measured["ours"], measured["theirs"]
        our_us = sum(ours[f"{part}_cpu_us"] for part in _OURS)
        their_us = sum(theirs.get(f"{part}_cpu_us", 0.0) for part in _THEIRS)
        apart = {f"ours {name}": value for name, value in ours.items()}
        apart |= {f"theirs {name}": value for name, value in theirs.items()}
        (figure,) = self.figures
        return {
            figure.name: their_us / our_us,
            "ours to decision_cpu_us": our_us,
            "theirs to decision_cpu_us": their_us,
            **apart,
        }


def line_vs_plain(machine: MachineSettings) -> _LineVs:
    """Return the plain composition (`loadtest.plain`) over ours."""
    figure = Figure(
        "line_vs_plain",
        "CPU from accepted row to decision: plain composition / ours",
        "ratio",
        must=20.0,
        aim=40.0,
    )
    return _LineVs(figure, PLAIN, machine)


def line_vs_tuned(machine: MachineSettings) -> _LineVs:
    """Return the tuned composition (`loadtest.plain.tuned`) over ours."""
    figure = Figure(
        "line_vs_tuned",
        "CPU from accepted row to decision: the best of stock parts, no guarantees / ours",
        "ratio",
        must=1.0,
        aim=1.5,
    )
    return _LineVs(figure, TUNED, machine)


def _draining_for_a_minute(drain: Drain, rows: Iterator[BacklogRow], plan: Plan) -> Side:
    """Warm the plain side up and return it: each run drains what takes about a minute."""
    warm = drain.run(list(islice(rows, plan.rows(WARM_UP_ROWS))))
    count = plan.rows(round(warm["tx_per_s"] * PLAIN_S))

    def run() -> Sample:
        return drain.run(list(islice(rows, count)))

    return run
