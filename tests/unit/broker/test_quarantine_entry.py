"""An entry of the quarantine holds no card number, whatever its message says."""

from __future__ import annotations

import json

from fraudstream.broker.log_reader import LogRecord
from fraudstream.broker.quarantine import entry_of
from fraudstream.reject_reasons import QuarantineReason


def test_number_in_a_message_is_starred_out() -> None:
    """A message may repeat a name that a stranger chose."""
    number = "4" + "0" * 14 + "2"
    record = LogRecord("rules.published.v1", 0, 1, 0, b"", b"", ())

    entry = entry_of(record, QuarantineReason.RULES, f"found {number!r}", "scoring")

    assert json.loads(entry.value)["message"] == "found '****'"
