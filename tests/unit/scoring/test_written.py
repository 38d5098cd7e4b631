"""Decisions as bytes: serialised once, wrapped and marked without parsing."""

from __future__ import annotations

import pytest

from fraudstream.v1.decision_pb2 import Decision, Reason
from fraudstream.v1.scoring_pb2 import RowResult, ScoreBatchResponse
from services.scoring.decision.message import mark_replayed, wrap_decision, wrap_results


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 20_000, 3_000_000])
def test_wrapped_bytes_are_those_of_protobuf(size: int) -> None:
    """What is joined by hand equals what protobuf serialises, whatever the length."""
    decision = Decision(vector=b"v" * size, reasons=[Reason(code="R01")])
    value = decision.SerializeToString()

    joined = wrap_results([wrap_decision(value), wrap_decision(value)])

    results = [RowResult(decision=decision)] * 2
    assert joined == ScoreBatchResponse(results=results).SerializeToString()


def test_mark_replayed_changes_nothing_else() -> None:
    """The flag is set; every other field stays."""
    decision = Decision(decision_id="d", score=0.25, vector=b"v")

    marked = Decision.FromString(mark_replayed(decision.SerializeToString()))

    assert marked.replayed
    marked.replayed = False
    assert marked == decision
