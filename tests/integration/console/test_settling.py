"""Disposition and label in one transaction, once for each version; the outbox empties in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from kafka.errors import KafkaTimeoutError

from fraudstream.errors import CaseChanged, CaseNotFound
from fraudstream.features.stored_values import SHARED_FIELDS
from fraudstream.settings import KafkaSettings
from fraudstream.v1.label_pb2 import DISPOSITION_GENUINE, Label
from tests.browser.alerts import START_MS, AlertSpec, make_alert, record_of
from tests.browser.console_tables import clear_tables

if TYPE_CHECKING:
    from services.console.labels.settlement import AnalystChoice
    from services.console.models import OutboxLabel


@pytest.fixture(autouse=True)
def _tables() -> None:
    clear_tables()


@dataclass
class FakeFuture:
    """The acknowledgement of one record, or its failure."""

    is_acknowledged: bool

    def get(self, timeout: float) -> None:
        if not self.is_acknowledged:
            raise KafkaTimeoutError


@dataclass
class FakeSender:
    """Takes records and acknowledges the first few of them."""

    acknowledges: int
    taken: list[Label] = field(default_factory=list)

    def send(self, topic: str, key: bytes, value: bytes) -> FakeFuture:
        self.taken.append(Label.FromString(value))
        return FakeFuture(len(self.taken) <= self.acknowledges)


def _store(number: int) -> str:
    from services.console.alerts.record import read_alert
    from services.console.alerts.store import AlertStore

    read = read_alert(record_of(make_alert(AlertSpec(number)), number))
    assert read is not None
    AlertStore(clock_ms=lambda: START_MS).write([read])
    return read.message.alert_id


def _choice(alert_id: str, analyst: str = "ada", version: int = 0) -> AnalystChoice:
    from services.console.labels.settlement import AnalystChoice, Disposition

    return AnalystChoice(alert_id, version, Disposition.GENUINE, analyst, START_MS + 5)


def _outbox() -> list[OutboxLabel]:
    from services.console.models import OutboxLabel

    return list(OutboxLabel.objects.order_by("id"))


def test_a_disposition_writes_one_label_whatever_is_sent_again() -> None:
    """The same disposition of the same analyst, sent twice, is one act with one label."""
    from services.console.labels.settlement import settle_alert

    alert_id = _store(1)

    settle_alert(_choice(alert_id))
    settle_alert(_choice(alert_id))

    [row] = _outbox()
    label = Label.FromString(bytes(row.payload))
    assert (label.label_id, label.disposition) == (row.label_id, DISPOSITION_GENUINE)
    assert (label.analyst, label.settled_at_ms, label.merchant_id) == (
        "ada",
        START_MS + 5,
        "Nordlicht Electronics",
    )


@pytest.mark.parametrize("number", [1, 2])
def test_a_label_names_every_entity_of_its_transaction(number: int) -> None:
    """A label must reach the states of them all, device and address too where there are any."""
    from services.console.labels.settlement import settle_alert

    spent = make_alert(AlertSpec(number)).decision.transaction
    settle_alert(_choice(_store(number)))

    label = Label.FromString(bytes(_outbox()[0].payload))
    for name in SHARED_FIELDS:
        assert getattr(label, name) == getattr(spent, name), name
    assert bool(label.device_id) == bool(label.ip) == (number == 1)


@pytest.mark.parametrize(("analyst", "version"), [("bob", 0), ("ada", 1)])
def test_another_disposition_on_a_settled_alert_is_refused(analyst: str, version: int) -> None:
    """Neither another analyst nor a later version settles what is settled; no label is added."""
    from services.console.labels.settlement import settle_alert

    alert_id = _store(1)
    settle_alert(_choice(alert_id))

    with pytest.raises(CaseChanged):
        settle_alert(_choice(alert_id, analyst, version))

    assert len(_outbox()) == 1


def test_an_unknown_alert_cannot_be_settled() -> None:
    """There is nothing to settle, and nothing is written."""
    from services.console.labels.settlement import settle_alert

    with pytest.raises(CaseNotFound):
        settle_alert(_choice("0" * 32))

    assert _outbox() == []


def test_only_acknowledged_labels_are_marked_and_the_rest_is_sent_again() -> None:
    """After a failure in the middle, the next round begins at the first label not acknowledged."""
    from services.console.labels.publisher import LabelPublisher
    from services.console.labels.settlement import settle_alert
    from services.console.loop_health import LoopHealth

    for number in (1, 2, 3):
        settle_alert(_choice(_store(number)))
    health = LoopHealth("labels")
    publisher = LabelPublisher(KafkaSettings(), Event(), lambda: START_MS + 9, health)
    failing: Any = FakeSender(acknowledges=1)
    working: Any = FakeSender(acknowledges=9)

    with pytest.raises(KafkaTimeoutError):
        publisher.publish_batch(failing)
    sent = publisher.publish_batch(working)

    assert sent == 2
    assert [label.transaction_id for label in working.taken] == ["tx-000002", "tx-000003"]
    assert {row.sent_at_ms for row in _outbox()} == {START_MS + 9}
    assert publisher.publish_batch(working) == 0
