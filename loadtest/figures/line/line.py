"""Our line over a drained backlog: rate and CPU by stage, and CPU beside two other compositions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from fraudstream.broker.wire.record_keys import DIRECTORY
from fraudstream.topics import ACCEPTED, ALERTS, ENTITIES, RAW, Topic
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from harness.line import SERVICES, Line
from harness.model_repository import PEOPLE, REPOSITORY
from harness.processes import free_port
from harness.servers import lacking_for_kafka
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in
from loadtest.bench.cpu import lacking_for_cpu
from loadtest.bench.figure import Experiment, Plan, Round, Sides, Value, beside, experiment, taken
from loadtest.figures.line.backlog import accepted_rows, raw_rows, traffic_settings
from loadtest.figures.line.drain import WARM_UP_ROWS, Drain
from loadtest.figures.line.servers import (
    Servers,
    any_broker,
    apache_kafka,
    line_of,
    running,
    running_broker,
    side_servers,
)
from loadtest.figures.table import figure

ROWS: Final = 20_000
PLAIN_S: Final = 60.0
# Importing Feast takes ten seconds on a quiet machine, minutes on a busy one.
_PLAIN_READY_S: Final = 300.0
_DECIDING: Final = tuple(s for s in SERVICES if s[0] in ("services.scoring", "services.features"))
# Consumer group of each service, which has its name, and what it reads.
_READS: Final = {
    "ingest": RAW,
    "features-card": ACCEPTED,
    "features-entity": ENTITIES,
    "console": ALERTS,
}
_FEATURES: Final = ("features-card", "features-entity", "features-label")
# What decides, on each side. Ingest, the entity role, store and broker are reported apart.
_OURS: Final = ("features-card", "scoring")
_THEIRS: Final = ("plain-features", "plain-tuned", "plain-scorer")


def drain_of(line: Line, servers: Servers, topic: Topic) -> Drain:
    """Return what drains backlogs of a topic through a running line, part by part."""
    names = [service.name for service in line.services]
    groups = {name: _READS[name] for name in names if name in _READS}
    kafka = kafka_settings_in(line.environment)
    return Drain(kafka, line.services, servers, topic, groups)


@contextmanager
def _running_plain(servers: Servers, folder: Path, roles: tuple[str, str]) -> Iterator[Drain]:
    """Start the scorer and two agents of `loadtest.plain`; yield what drains accepted rows."""
    own = {
        "FRAUD_PLAIN_SCORER_PORT": str(free_port()),
        "FRAUD_PLAIN_FOLDER": str(folder.absolute() / "state"),
        "FRAUD_PLAIN_MODEL": str(folder.absolute() / REPOSITORY),
        "FRAUD_PLAIN_PEOPLE_FILE": str(folder.absolute() / PEOPLE),
    }
    line = line_of(servers.environment, folder, more=own)
    if roles == _PLAIN:
        line.run_command("loadtest.plain", ["register"])
    # What it sends has no MACs.
    environment = {name: text for name, text in line.environment.items() if name != DIRECTORY}
    processes = [
        ServiceProcess("loadtest.plain", [role], environment, line.folder / "logs")
        for role in ("scorer", *roles)
    ]
    with running(processes, _PLAIN_READY_S):
        groups = {processes[1].name: ACCEPTED, processes[2].name: ENTITIES}
        kafka = kafka_settings_in(servers.environment)
        with closing(Drain(kafka, processes, servers, ACCEPTED, groups)) as drain:
            yield drain


def _cpu_us(side: str, *parts: str) -> Value:
    """Return what adds up the CPU of those parts that a side has."""
    return lambda measured: sum(measured[side].get(f"{part}_cpu_us", 0.0) for part in parts)


def _rest_of_line(measured: Round) -> dict[str, float]:
    told = ("tx_per_s", "ingest_cpu_us", "scoring_cpu_us")
    return {name: value for name, value in measured["line"].items() if name not in told}


@experiment(
    figure("line_tx_per_s", taken("line", "tx_per_s")),
    figure("line_cpu_us_per_tx", _cpu_us("line", "ingest", *_FEATURES, "scoring", "console")),
    figure("ingest_cpu_us", _cpu_us("line", "ingest")),
    figure("features_cpu_us", _cpu_us("line", *_FEATURES)),
    figure("scoring_cpu_us", _cpu_us("line", "scoring")),
    needs=(lacking_for_cpu,),
    apart=_rest_of_line,
)
def whole_line(plan: Plan) -> Iterator[Sides]:
    """From the raw topic to the decision, every service of the line running."""
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(any_broker(plan)))
        servers = stack.enter_context(side_servers(broker, "line", plan.folder))
        line = line_of(servers.environment, plan.folder / "line", SERVICES)
        stack.enter_context(running(line.services))
        drain = stack.enter_context(closing(drain_of(line, servers, RAW)))
        yield {"line": drain.side(raw_rows(traffic_settings(), drain.partitions), plan, ROWS)}


_PLAIN: Final = ("features", "entity")
_TUNED: Final = ("tuned", "tuned-entity")


def _line_vs(name: str, roles: tuple[str, str]) -> Experiment:
    """Return our line beside another composition of the same parts, on Apache Kafka.

    The figure is the other's CPU from accepted row to decision / ours.
    """
    ours, theirs = _cpu_us("ours", *_OURS), _cpu_us("theirs", *_THEIRS)

    def apart(measured: Round) -> dict[str, float]:
        return {
            "ours to decision_cpu_us": ours(measured),
            "theirs to decision_cpu_us": theirs(measured),
            **beside(measured),
        }

    def sides(plan: Plan) -> Iterator[Sides]:
        with ExitStack() as stack:
            broker = stack.enter_context(running_broker(apache_kafka(plan)))
            our = stack.enter_context(side_servers(broker, "ours", plan.folder))
            their = stack.enter_context(side_servers(broker, "theirs", plan.folder))
            line = line_of(our.environment, plan.folder / "ours", _DECIDING)
            stack.enter_context(running(line.services))
            their_drain = stack.enter_context(_running_plain(their, plan.folder / "theirs", roles))
            our_drain = stack.enter_context(closing(drain_of(line, our, ACCEPTED)))
            settings, tokeniser = traffic_settings(), Tokeniser(TokenKeys.load(line.token_keys))
            our_rows, their_rows = (
                accepted_rows(settings, tokeniser, drain.partitions)
                for drain in (our_drain, their_drain)
            )
            rows = ROWS
            if roles == _PLAIN:  # as many as take it about a minute
                warm = their_drain.run_next(their_rows, plan.rows(WARM_UP_ROWS))
                rows = round(warm["tx_per_s"] * PLAIN_S)
            yield {
                "ours": our_drain.side(our_rows, plan, ROWS),
                "theirs": their_drain.side(their_rows, plan, rows),
            }

    return experiment(
        figure(name, lambda m: theirs(m) / ours(m)),
        needs=(lacking_for_kafka, lacking_for_cpu),
        apart=apart,
    )(sides)


line_vs_plain: Final = _line_vs("line_vs_plain", _PLAIN)
line_vs_tuned: Final = _line_vs("line_vs_tuned", _TUNED)
