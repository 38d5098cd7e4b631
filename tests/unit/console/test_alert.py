"""Alerts as the console reads and draws them."""

from __future__ import annotations

import math

import pytest

from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Decision, PastContribution, Reason
from fraudstream.v1.features_pb2 import FeatureValue, SequenceStep
from services.console.alerts.feature_table import feature_rows
from services.console.alerts.picture import reason_bars, timeline
from services.console.alerts.queue_request import QueueRequest
from services.console.alerts.record import ReadAlert, read_alert
from tests.browser.alerts import AlertSpec, make_alert, record_of


def _read(alert: Alert) -> ReadAlert | None:
    return read_alert(record_of(alert))


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (Alert(alert_id="A" * 32), "alert_id"),
        (Alert(decision=Decision(score=math.nan)), "decision.score"),
        (Alert(decision=Decision(score=1.5)), "decision.score"),
        (Alert(decision=Decision(decision_id="zz")), "decision.decision_id"),
        (Alert(decision=Decision(reasons=[Reason(text="\0")])), "decision.reasons"),
        (Alert(raised_at_ms=1 << 62), "raised_at_ms"),
        (Alert(expected_loss_minor=2**63 - 1), "expected_loss_minor"),
        (Alert(sequence=[SequenceStep(event_time_ms=-1)]), "sequence"),
    ],
)
def test_an_alert_that_breaks_its_contract_is_named_by_its_field(
    spoil: Alert, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the tables or the page could not hold is refused before it gets there."""
    alert = make_alert(AlertSpec(1))
    alert.MergeFrom(spoil)

    assert _read(alert) is None
    assert f"BOUNDS: Alert.{field} is none" in caplog.text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"pan": "number"}, "card_token"),
        ({"currency": "eur"}, "currency"),
        ({"merchant_id": "m" * 257}, "merchant_id"),
        ({"merchant_id": "a\0b"}, "merchant_id"),
    ],
)
def test_a_transaction_that_cannot_be_shown_is_refused(
    change: dict[str, str], field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A card number, an unknown currency and texts that no column holds."""
    alert = make_alert(AlertSpec(1))
    for name, text in change.items():
        setattr(alert.decision.transaction, name, text)

    assert _read(alert) is None
    assert f"decision.transaction.{field} is none" in caplog.text


def test_the_top_reason_weighs_most_towards_fraud() -> None:
    """A stronger reason against fraud is not why the alert was raised."""
    alert = make_alert(AlertSpec(1))
    del alert.decision.reasons[:]
    alert.decision.reasons.extend(
        [
            Reason(text="old card", contribution=-3.0),
            Reason(text="new terminal", contribution=0.5),
            Reason(text="many at once", contribution=1.5),
        ]
    )

    read = _read(alert)

    assert isinstance(read, ReadAlert)
    assert read.top_reason == "many at once"


def test_reason_bars_share_one_scale_and_leave_the_middle_to_both_sides() -> None:
    """The strongest bar fills its half; one half as strong fills half of its own."""
    reasons = [Reason(text="a", contribution=2.0), Reason(text="b", contribution=-1.0)]
    towards, away = reason_bars(Alert(decision=Decision(reasons=reasons)))

    assert (towards.x, towards.width, towards.weight) == (100, 100, "+2.00")
    assert (away.x, away.width, away.weight) == (50, 50, "-1.00")


def test_a_rule_comes_first_and_shows_no_weight() -> None:
    """It moved the action, not the score, and is never cut off by what the model says."""
    model = [Reason(code=f"R{n}", contribution=9.0) for n in range(5)]
    rule = Reason(code="NEW_DEVICE_LARGE_BET", from_rule=True)
    first, second, *_ = reason_bars(Alert(decision=Decision(reasons=[*model, rule])))

    assert (first.code, first.weight, first.width) == ("NEW_DEVICE_LARGE_BET", "rule", 0)
    assert second.weight == "+9.00"


def test_bars_of_worthless_contributions_are_empty() -> None:
    """Zero, infinite and missing weights draw nothing and break nothing."""
    weights = (0.0, math.inf, math.nan)
    for weight in weights:
        [bar] = reason_bars(Alert(decision=Decision(reasons=[Reason(contribution=weight)])))
        assert bar.width == 0


def test_the_timeline_gives_gaps_and_marks_the_alerted_transaction() -> None:
    """Heights follow the square root of the amount; the first step has no gap."""
    steps = [
        SequenceStep(
            event_time_ms=1_000, amount_reference_minor=100, mcc="5411", channel=1, kind=1
        ),
        SequenceStep(event_time_ms=91_000, amount_reference_minor=10_000, mcc="9999", kind=2),
    ]

    first, last = timeline(Alert(sequence=steps), "EUR")

    assert (first.gap, first.height, first.is_current) == ("", 9, False)
    assert (first.amount, first.mcc_words, first.channel) == ("1.00 EUR", "grocery stores", "POS")
    assert (last.gap, last.height, last.is_current) == ("1 min", 90, True)
    assert (last.kind, last.mcc_words) == ("refund", "")


def test_the_timeline_says_which_past_transactions_moved_the_score() -> None:
    """Steps are counted back from the alerted one; those measured together say so once."""
    steps = [SequenceStep(event_time_ms=ms, mcc="5411") for ms in (1_000, 2_000, 3_000, 4_000)]
    past = [
        PastContribution(newest_steps_back=1, oldest_steps_back=1, contribution=0.5),
        PastContribution(newest_steps_back=2, oldest_steps_back=3, contribution=-1.25),
    ]

    drawn = timeline(Alert(sequence=steps, decision=Decision(past=past)), "EUR")

    assert [step.moved for step in drawn] == ["", "-1.25 (2 together)", "+0.50", ""]


def test_features_are_described_and_missing_ones_are_a_dash() -> None:
    """A feature that this catalogue does not know is still shown."""
    values = [
        FeatureValue(name="card_count_1h", value=3),
        FeatureValue(name="card_mean_7d", value=math.nan),
        FeatureValue(name="from_the_future", value=0.25),
    ]

    known, missing, unknown = feature_rows(Alert(features=values))

    assert (known.value, known.unit) == ("3", "count")
    assert known.description == "Purchases of the card in the last hour"
    assert missing.value == "\u2013"
    assert (unknown.value, unknown.unit) == ("0.250", "")


@pytest.mark.parametrize(
    ("order", "page"),
    [("", "1"), ("loss; DROP", "1"), ("loss", "0"), ("loss", "01"), ("loss", "201")],
)
def test_queue_requests_outside_the_list_are_none(order: str, page: str) -> None:
    """Order and page come from a list of what is allowed."""
    assert QueueRequest.parse(order, page) is None
