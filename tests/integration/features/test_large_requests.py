"""A batch whose rows are too large for one message reaches scoring in several, and is decided."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow
from fraudstream.v1.transaction_pb2 import Transaction
from services.features.rows.scoring_client import ScoringStub
from tests.fakes.fake_scorer import FakeScorer

_ROWS = 120
_ROW_BYTES = 60_000


@pytest.fixture
def scorer() -> Iterator[FakeScorer]:
    """A scorer that takes messages of gRPC's own bound, 4 MiB."""
    listening = FakeScorer()
    yield listening
    listening.stop()


async def test_batch_of_large_rows_is_decided(scorer: FakeScorer) -> None:
    """Seven megabytes, which gRPC would refuse again and again: every row, in its order."""
    rows = [
        FeatureRow(
            transaction=Transaction(transaction_id=f"t-{number}"),
            carried_decision=Decision(vector=bytes(_ROW_BYTES)),
        )
        for number in range(_ROWS)
    ]
    stub = ScoringStub(scorer.address, timeout_s=30.0)

    decisions = await stub.decide(FeatureBatchRequest(topic_id=bytes(16), rows=rows))
    await stub.close()

    assert len(decisions) == _ROWS
    assert scorer.seen() == [f"t-{number}" for number in range(_ROWS)]
