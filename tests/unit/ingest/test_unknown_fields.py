"""What senders write and nobody reads is counted, and named without what it holds."""

from __future__ import annotations

import pytest

from fraudstream.telemetry.metrics import INGEST_UNKNOWN_FIELDS
from services.ingest.unknown_fields import UnknownFields
from training.simulator.messages import pan_of


class Clock:
    """Seconds that a test moves."""

    now_s = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def counted() -> float:
    """Return what the metric says."""
    return INGEST_UNKNOWN_FIELDS._value.get()  # type: ignore[no-any-return]  # it has no other reader


def test_every_unknown_field_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The first is named at once, those of the next minute together behind it."""
    clock, before = Clock(), counted()
    fields = UnknownFields(clock)
    fields.note(["utcOffset", "loyalty"])
    fields.note(["entrymode"])
    clock.now_s += 61
    fields.note(["entrymode", "mid"])

    assert counted() - before == 5
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "['loyalty', 'utcOffset']",
        "['entrymode', 'mid']",
    ]


def test_name_that_may_be_anything_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A name is the sender's text: a card number, a line break, kilobytes."""
    UnknownFields(Clock()).note([pan_of(1), "a\nb", "n" * 1_000, "é", f"x{pan_of(2)}"])

    assert caplog.messages[0].endswith("['(no plain name)']")


def test_log_line_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """However many names a sender makes up."""
    UnknownFields(Clock()).note([f"name{number}" for number in range(1_000)])

    assert caplog.messages[0].count("'name") == 20
