"""What a scorer's log says of the records of the rules topic."""

from __future__ import annotations

import logging

import pytest

from fraudstream.broker.log_reader import LogRecord
from fraudstream.errors import RuleSetRefused
from fraudstream.settings import KafkaSettings
from fraudstream.telemetry.metrics import RULE_SETS
from services.scoring.decision.rules_follower import RulesFollower


def test_junk_on_the_rules_topic_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever may write there writes many in a few kB; each start reads them. All are counted."""
    follower = RulesFollower(KafkaSettings(), "cards", None)
    refused = RULE_SETS.labels("refused")
    before = refused._value.get()

    with caplog.at_level(logging.ERROR, "services.scoring.decision.rules_follower"):
        for offset in range(500):
            record = LogRecord("rules.published.v1", 0, offset, 0, b"cards", b"x", ())
            follower.observe(record, RuleSetRefused("RULES_FILE", "junk"))

    lines = [one for one in caplog.records if one.name.endswith("rules_follower")]
    assert len(lines) == 20
    assert refused._value.get() == before + 500
