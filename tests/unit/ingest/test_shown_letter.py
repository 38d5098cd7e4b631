"""What `dlq show` prints of a bank's original."""

from __future__ import annotations

from services.ingest.dead_letters.dlq import on_terminal


def test_shown_letter_moves_no_terminal() -> None:
    """C1 controls, marks of direction and half characters of a bank are shown as escapes."""
    shown = on_terminal('{\n "a": "Zürich 東 \x9b2J\u202e\u2066\x7f\ud800"\n}')

    assert shown == '{\n "a": "Zürich 東 \\u009b2J\\u202e\\u2066\\u007f\\ud800"\n}'
