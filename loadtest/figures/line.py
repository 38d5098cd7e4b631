"""Our whole line over a drained backlog: rate, and CPU per transaction of all and of each stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Final

from demo.line import SERVICES
from demo.servers import choose_broker
from demo.settings import MachineSettings
from fraudstream.settings import KafkaSettings
from fraudstream.topics import RAW
from loadtest.bench.cpu import lacking_for_cpu
from loadtest.bench.figure import Figure, Plan, Round, Side
from loadtest.figures.backlog import raw_rows, traffic_settings
from loadtest.figures.ours import drain_of, draining, line_of, running_line
from loadtest.figures.servers import running_broker, side_servers

ROWS: Final = 20_000
_STAGES: Final = {
    "ingest": ("ingest",),
    "features": ("features-card", "features-entity", "features-label"),
    "scoring": ("scoring",),
    "console": ("console",),
}
# What the figures say already; roles, console and servers are reported apart.
_IN_FIGURES: Final = ("tx_per_s", "ingest_cpu_us", "scoring_cpu_us")


class LineExperiment:
    """From the raw topic to the decision, every service of the line running.

    The broker is the one that the settings name, else Apache Kafka where it is, else the embedded
    one; its CPU and the store's are reported apart.
    """

    figures = (
        Figure("line_tx_per_s", "Decided transactions a second, whole line", "tx/s"),
        Figure("line_cpu_us_per_tx", "CPU of all our services", "µs/tx", is_cost=True),
        Figure("ingest_cpu_us", "CPU of ingest", "µs/tx", is_cost=True),
        Figure("features_cpu_us", "CPU of features, all roles", "µs/tx", is_cost=True),
        Figure("scoring_cpu_us", "CPU of scoring", "µs/tx", is_cost=True),
    )

    def __init__(self, kafka: KafkaSettings, machine: MachineSettings) -> None:
        self._kafka = kafka
        self._machine = machine

    def lacking(self) -> str:
        """Return why this machine cannot run it, empty where it can."""
        return lacking_for_cpu()

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start everything, warm it up, and end it on leaving."""
        broker = choose_broker(self._kafka, self._machine, plan.folder)
        with (
            running_broker(broker) as pids,
            side_servers(broker, pids, "line", plan.folder) as servers,
            running_line(line_of(servers, plan.folder / "line", SERVICES)) as line,
            closing(drain_of(line, servers, RAW)) as drain,
        ):
            rows = raw_rows(traffic_settings(), drain.partitions)
            yield {"line": draining(drain, rows, plan, ROWS)}

    def values(self, measured: Round) -> dict[str, float]:
        """Return the figures of one round; roles of features, console and servers go apart."""
        sample = measured["line"]
        spent = {
            stage: sum(sample[f"{part}_cpu_us"] for part in parts)
            for stage, parts in _STAGES.items()
        }
        apart = {name: value for name, value in sample.items() if name not in _IN_FIGURES}
        return {
            "line_tx_per_s": sample["tx_per_s"],
            "line_cpu_us_per_tx": sum(spent.values()),
            "ingest_cpu_us": spent["ingest"],
            "features_cpu_us": spent["features"],
            "scoring_cpu_us": spent["scoring"],
            **apart,
        }
