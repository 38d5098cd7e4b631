"""One fraud story through every service, each a process of its own, over real servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from fraudstream.broker.log_reader import read_topic
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import LABELS
from fraudstream.transaction.identity import Identity, alert_id_of
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.label_pb2 import DISPOSITION_CONFIRMED_FRAUD, LABEL_SOURCE_ANALYST, Label
from harness.processes import wait_until
from harness.servers import Broker, ValkeyServer
from harness.traffic import Disorder
from tests.conftest import environment_of_test
from tests.e2e.analyst import Analyst
from tests.e2e.audit import Entry, Evidence, audit
from tests.e2e.collector import FakeCollector, running_collector
from tests.e2e.line_run import LineRun, prepared_line, records_of
from training.simulator.simulate import SimulationSettings

_RECORDS = 400
_DISORDER = Disorder(duplicate=0.05, conflict=0.03, bad=0.03)


@dataclass(frozen=True)
class Story:
    """What the story left behind."""

    ledger: list[Entry]
    evidence: Evidence
    queue: list[str]
    settled: str
    labels: list[Label]
    trace: dict[str, Span]
    exit_codes: dict[str, int | None]


@pytest.fixture(scope="module")
def story(
    broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """Run the line on a few hundred transactions; an analyst settles the first alert."""
    servers = environment_of_test(broker, valkey)
    with running_collector() as collector:
        folder = tmp_path_factory.mktemp("line")
        telemetry = {"FRAUD_TELEMETRY_OTLP_ENDPOINT": collector.endpoint}
        run = prepared_line(folder, servers, more=telemetry)
        try:
            run.line.start()
            yield _play(run, collector)
        finally:
            run.line.stop()


def _play(run: LineRun, collector: FakeCollector) -> Story:
    started_ms = epoch_ms() - 600_000
    traffic = SimulationSettings(
        seed=9_001, cards=60, start_ms=started_ms, rate_per_s=20.0, fraud_share=0.1
    )
    run.feed(records_of(_RECORDS, traffic, _DISORDER), timeout_s=120.0, tick=lambda: None)
    evidence = run.evidence()
    analyst = Analyst(run.line.console_url, "analyst", "analyst-demo")
    assert wait_until(lambda: bool(analyst.queue()), 30.0), "no alert in the queue"
    queue = analyst.queue()
    analyst.settle(queue[0], "confirmed_fraud")
    assert wait_until(lambda: bool(read_topic(run.kafka, LABELS)), 30.0), "no label on the topic"
    decision = decision_of_alert(evidence, queue[0])
    wait_until(lambda: len(collector.trace(decision.trace_id)) >= 4, 30.0)
    return Story(
        run.ledger,
        evidence,
        queue,
        queue[0],
        [Label.FromString(record.value) for record in read_topic(run.kafka, LABELS)],
        collector.trace(decision.trace_id),
        run.line.stop(),
    )


def decision_of_alert(evidence: Evidence, alert_id: str) -> Decision:
    """Return the decision that raised an alert."""
    return next(
        decision
        for decision in evidence.decisions
        if alert_id_of(Identity(bytes.fromhex(decision.decision_id))) == alert_id
    )


def test_every_effect_happens_once(story: Story) -> None:
    """Every accepted transaction has one decision and its alert; bad ones are dead-lettered."""
    assert audit(story.ledger, story.evidence, None) == []


def test_alerts_reach_the_analysts_queue(story: Story) -> None:
    """The queue page shows only alerts that decisions raised."""
    raised = {alert.alert_id for alert in story.evidence.alerts}

    assert story.queue
    assert set(story.queue) <= raised


def test_a_settled_alert_becomes_a_label(story: Story) -> None:
    """The analyst's verdict stands on the labels topic, about the alerted transaction."""
    decision = decision_of_alert(story.evidence, story.settled)
    labels = [(x.transaction_id, x.disposition, x.source, x.analyst) for x in story.labels]

    assert labels == [
        (decision.transaction_id, DISPOSITION_CONFIRMED_FRAUD, LABEL_SOURCE_ANALYST, "analyst")
    ]


def test_a_trace_spans_raw_to_alert(story: Story) -> None:
    """One trace holds ingest, features, scoring and alert, each the child of the one before."""
    ingest, features, scoring, alert = (
        story.trace[name] for name in ("ingest", "features", "scoring", "alert")
    )

    assert features.parent_span_id == ingest.span_id
    assert scoring.parent_span_id == features.span_id
    assert alert.parent_span_id == scoring.span_id


def test_every_service_ends_by_itself_at_sigterm(story: Story) -> None:
    """SIGTERM ends each service cleanly within its bound."""
    assert set(story.exit_codes.values()) == {0}
