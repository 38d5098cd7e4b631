"""Our line over a drained backlog: rate and CPU by stage, and CPU beside two other compositions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from fraudstream.topics import ACCEPTED, ALERTS, ENTITIES, RAW, Topic
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from harness.line import SERVICES, Line
from harness.servers import lacking_for_kafka
from harness.settings import kafka_settings_in
from loadtest.bench.cpu import lacking_for_cpu
from loadtest.bench.figure import (
    Experiment,
    Figure,
    Plan,
    Round,
    Sides,
    Value,
    beside,
    experiment,
    taken,
)
from loadtest.figures.line.backlog import accepted_rows, raw_rows, traffic_settings
from loadtest.figures.line.drain import WARM_UP_ROWS, Drain
from loadtest.figures.line.plain_side import PLAIN, TUNED, plain_drain, running_plain
from loadtest.figures.line.servers import (
    Servers,
    any_broker,
    apache_kafka,
    running_broker,
    side_servers,
)

ROWS: Final = 20_000
PLAIN_S: Final = 60.0
Services = tuple[tuple[str, tuple[str, ...]], ...]
# What a deployment keeps; the demo keeps every trace.
TELEMETRY: Final = {"FRAUD_TELEMETRY_SAMPLE_RATIO": "0.01"}
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


def line_of(
    servers: Servers, folder: Path, services: Services, more: Mapping[str, str] | None = None
) -> Line:
    """Return a line of some services with keys and topics made; nothing runs yet."""
    line = Line(folder, servers.environment, {**TELEMETRY, **(more or {})}, services)
    line.prepare()
    return line


@contextmanager
def running_line(line: Line) -> Iterator[Line]:
    """Start a line's services and end them."""
    try:
        line.start()
        yield line
    finally:
        line.stop()


def drain_of(line: Line, servers: Servers, topic: Topic) -> Drain:
    """Return what drains backlogs of a topic through a running line, part by part."""
    names = [service.name for service in line.services]
    groups = {name: _READS[name] for name in names if name in _READS}
    kafka = kafka_settings_in(line.environment)
    return Drain(kafka, line.services, servers, topic, groups)


def _cpu_us(side: str, *parts: str) -> Value:
    """Return what adds up the CPU of those parts that a side has."""
    return lambda measured: sum(measured[side].get(f"{part}_cpu_us", 0.0) for part in parts)


def _rest_of_line(measured: Round) -> dict[str, float]:
    told = ("tx_per_s", "ingest_cpu_us", "scoring_cpu_us")
    return {name: value for name, value in measured["line"].items() if name not in told}


@experiment(
    Figure(
        "line_tx_per_s",
        "Decided transactions a second, whole line",
        "tx/s",
        taken("line", "tx_per_s"),
    ),
    Figure(
        "line_cpu_us_per_tx",
        "CPU of all our services",
        "µs/tx",
        _cpu_us("line", "ingest", *_FEATURES, "scoring", "console"),
        is_cost=True,
    ),
    Figure("ingest_cpu_us", "CPU of ingest", "µs/tx", _cpu_us("line", "ingest"), is_cost=True),
    Figure(
        "features_cpu_us",
        "CPU of features, all roles",
        "µs/tx",
        _cpu_us("line", *_FEATURES),
        is_cost=True,
    ),
    Figure("scoring_cpu_us", "CPU of scoring", "µs/tx", _cpu_us("line", "scoring"), is_cost=True),
    needs=(lacking_for_cpu,),
    apart=_rest_of_line,
)
def whole_line(plan: Plan) -> Iterator[Sides]:
    """From the raw topic to the decision, every service of the line running."""
    with (
        running_broker(any_broker(plan)) as broker,
        side_servers(broker, "line", plan.folder) as servers,
        running_line(line_of(servers, plan.folder / "line", SERVICES)) as line,
        closing(drain_of(line, servers, RAW)) as drain,
    ):
        yield {"line": drain.side(raw_rows(traffic_settings(), drain.partitions), plan, ROWS)}


def _line_vs(
    figure: str, what: str, roles: tuple[str, ...], bounds: tuple[float, float]
) -> Experiment:
    """Return our line beside another composition of the same parts, on Apache Kafka.

    Args:
        figure: CPU of the other / ours, from accepted row to decision.
        what: Says so.
        roles: Of the other's processes.
        bounds: Must and aim.
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
            line = stack.enter_context(running_line(line_of(our, plan.folder / "ours", _DECIDING)))
            other = stack.enter_context(running_plain(their, plan.folder / "theirs", roles))
            our_drain = stack.enter_context(closing(drain_of(line, our, ACCEPTED)))
            their_drain = stack.enter_context(closing(plain_drain(other, their)))
            settings, tokeniser = traffic_settings(), Tokeniser(TokenKeys.load(line.token_keys))
            our_rows, their_rows = (
                accepted_rows(settings, tokeniser, drain.partitions)
                for drain in (our_drain, their_drain)
            )
            rows = ROWS
            if roles is PLAIN:  # as many as take it about a minute
                warm = their_drain.run_next(their_rows, plan.rows(WARM_UP_ROWS))
                rows = round(warm["tx_per_s"] * PLAIN_S)
            yield {
                "ours": our_drain.side(our_rows, plan, ROWS),
                "theirs": their_drain.side(their_rows, plan, rows),
            }

    must, aim = bounds
    return experiment(
        Figure(figure, what, "ratio", lambda m: theirs(m) / ours(m), must, aim),
        needs=(lacking_for_kafka, lacking_for_cpu),
        apart=apart,
    )(sides)


line_vs_plain: Final = _line_vs(
    "line_vs_plain",
    "CPU from accepted row to decision: plain composition / ours",
    PLAIN,
    (20.0, 40.0),
)
line_vs_tuned: Final = _line_vs(
    "line_vs_tuned",
    "CPU from accepted row to decision: the best of stock parts, no guarantees / ours",
    TUNED,
    (1.0, 1.5),
)
