"""What `demo send` prints of a decision."""

from __future__ import annotations

import pytest

from demo.send import decision_words
from fraudstream.transaction.identity import Identity, alert_id_of
from fraudstream.v1.decision_pb2 import ACTION_APPROVE, ACTION_REVIEW, Action, Decision, Reason

IDENTITY = Identity(bytes(range(16)))


def words_of(action: Action, *reasons: Reason) -> list[str]:
    decision = Decision(
        decision_id=IDENTITY.hex(), transaction_id="sample-1", action=action, reasons=reasons
    )
    return decision_words(decision).splitlines()


@pytest.mark.parametrize(
    ("action", "alert"),
    [(ACTION_REVIEW, alert_id_of(IDENTITY)), (ACTION_APPROVE, "none for approve")],
)
def test_every_id_that_the_console_is_searched_by_is_printed(action: Action, alert: str) -> None:
    """The alert's too, where the action raises one."""
    words = words_of(action)

    assert f"decision id  {IDENTITY.hex()}" in words
    assert "transaction  sample-1" in words
    assert f"alert id     {alert}" in words


def test_only_a_reason_with_a_weight_shows_a_number() -> None:
    """A rule moved the action and not the score; a finding such as FITS_HABITS moved neither."""
    rule = Reason(code="NEW_DEVICE_LARGE_BET", text="A bet", from_rule=True)
    model = Reason(code="R16", text="Busy", contribution=7.251)
    finding = Reason(code="FITS_HABITS", text="Fits")

    assert words_of(ACTION_REVIEW, rule, model, finding)[-3:] == [
        "reasons       rule  NEW_DEVICE_LARGE_BET  A bet",
        "             +7.25  R16  Busy",
        "                 -  FITS_HABITS  Fits",
    ]
