"""Alerts into the console's tables: the first of an id stays, and no record stops the consumer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from fraudstream.settings import KafkaSettings, TelemetrySettings
from fraudstream.telemetry.spans import Telemetry
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.v1.alert_pb2 import Alert as AlertMessage
from fraudstream.v1.decision_pb2 import ACTION_DECLINE, Reason
from fraudstream.v1.rescore_pb2 import Rescore
from tests.browser.alerts import AlertSpec, make_alert
from tests.browser.console_tables import clear_tables

NOW_MS = 1_790_000_100_000


@pytest.fixture(autouse=True)
def _tables() -> None:
    clear_tables()


class FakeTelemetry(Telemetry):
    """Keeps spans instead of sending them."""

    def __init__(self) -> None:
        super().__init__(TelemetrySettings(), "console")
        self.spans: list[tuple[str, TraceContext, TraceContext | None, int, int]] = []

    def record_span(
        self,
        name: str,
        span: TraceContext,
        parent: TraceContext | None,
        started_us: int,
        ended_us: int,
        attributes: Mapping[str, str | int | float | bool],
    ) -> None:
        self.spans.append((name, span, parent, started_us, ended_us))


@dataclass
class FakeRecord:
    """A consumer record, as far as the consumer reads it."""

    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    topic: str = "alerts.raised.v1"
    partition: int = 3
    offset: int = 41
    timestamp: int = NOW_MS


def _take(records: list[FakeRecord], telemetry: Telemetry | None = None) -> None:
    from services.console.alerts.consumer import AlertConsumer
    from services.console.alerts.store import AlertStore
    from services.console.loop_health import LoopHealth

    store, health = AlertStore(clock_ms=lambda: NOW_MS), LoopHealth("alerts")
    consumer = AlertConsumer(
        KafkaSettings(), store, telemetry or FakeTelemetry(), lambda: NOW_MS * 1000, health
    )
    consumer.take(records)


def _rows() -> list[tuple[str, float, bytes]]:
    from services.console.models import Alert

    found = Alert.objects.order_by("alert_id").values_list("alert_id", "score", "payload")
    return [(alert_id, score, bytes(payload)) for alert_id, score, payload in found]


def _record(alert: AlertMessage) -> FakeRecord:
    return FakeRecord(alert.SerializeToString())


def test_a_repeated_alert_changes_nothing() -> None:
    """The same alert in one batch, and again in a later one, is one row."""
    alert = make_alert(AlertSpec(1))

    _take([_record(alert), _record(alert)])
    _take([_record(alert)])

    assert _rows() == [(alert.alert_id, 0.87, alert.SerializeToString())]


def test_a_different_alert_of_a_known_id_never_overwrites(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fork is logged by its alert id; what was stored first stays, settled or not."""
    first = make_alert(AlertSpec(1))
    later = AlertMessage.FromString(first.SerializeToString())
    later.decision.score = 0.11

    _take([_record(first)])
    _take([_record(later)])

    assert _rows() == [(first.alert_id, 0.87, first.SerializeToString())]
    assert f"alert {first.alert_id} was conflicting" in caplog.text


def test_later_timings_do_not_make_another_alert(caplog: pytest.LogCaptureFixture) -> None:
    """A decision that the outbox sends again may carry other timings: it is the same decision."""
    first = make_alert(AlertSpec(1))
    again = AlertMessage.FromString(first.SerializeToString())
    again.decision.timings.scoring_ended_us = 7
    again.raised_at_ms += 1

    _take([_record(first), _record(again)])

    assert len(_rows()) == 1
    assert caplog.text == ""


def test_records_that_are_no_alerts_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """Between two of them the good alert is stored; the log names coordinates and no content."""
    good = make_alert(AlertSpec(1))
    with_number = AlertMessage.FromString(make_alert(AlertSpec(2)).SerializeToString())
    pan = "4" + "0" * 14 + "2"
    with_number.decision.transaction.pan = pan

    values = [b"\xff\xffjunk", good.SerializeToString(), None, with_number.SerializeToString()]
    # Each at a place of its own: of one place a process with a quarantine tells once.
    _take([FakeRecord(value, offset=41 + at) for at, value in enumerate(values)])

    assert [alert_id for alert_id, _, _ in _rows()] == [good.alert_id]
    assert "partition 3, offset 41 is passed over, DECODE" in caplog.text
    assert "decision.transaction.card_token" in caplog.text
    assert pan not in caplog.text


def test_a_stored_alert_ends_its_transactions_trace() -> None:
    """The span's parent is the record's header; a repeated alert writes no second span."""
    alert, telemetry = make_alert(AlertSpec(1)), FakeTelemetry()
    parent = TraceContext.start(1.0)
    record = FakeRecord(alert.SerializeToString(), [("traceparent", parent.traceparent().encode())])

    _take([record], telemetry)
    _take([record], telemetry)

    [(name, span, found_parent, started_us, ended_us)] = telemetry.spans
    assert (name, span.trace_id, found_parent) == ("alert", parent.trace_id, parent)
    assert span.span_id != parent.span_id
    assert started_us <= ended_us


def _rescored(first: AlertMessage) -> AlertMessage:
    """Return the alert of a stand-in decision after the model has answered."""
    later = AlertMessage.FromString(first.SerializeToString())
    later.rescore.CopyFrom(
        Rescore(
            decision_id=first.decision.decision_id,
            bank_id=first.decision.bank_id,
            transaction_id=first.decision.transaction_id,
            card_token=first.decision.card_token,
            decided_action=first.decision.action,
            action=ACTION_DECLINE,
            score=0.94,
            reasons=[Reason(code="A", text="Amount unlike this card", contribution=1.0)],
        )
    )
    return later


def test_what_a_model_says_later_is_added_to_the_alert_once() -> None:
    """Score, reason and payload are the model's, whether the alert is open or settled."""
    first = make_alert(AlertSpec(1))
    first.decision.score, first.decision.stand_in = 0.0, True
    later = _rescored(first)
    again = _rescored(first)
    again.rescore.score = 0.11

    _take([_record(first), _record(later)])
    _take([_record(again), _record(first)])

    assert _rows() == [(first.alert_id, 0.94, later.SerializeToString())]


def test_what_a_model_says_may_be_all_that_comes() -> None:
    """A stand-in that approved raised no alert; the model's answer does."""
    later = _rescored(make_alert(AlertSpec(1)))

    _take([_record(later)])

    assert _rows() == [(later.alert_id, 0.94, later.SerializeToString())]
