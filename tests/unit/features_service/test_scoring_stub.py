"""A request to scoring fits into a message, whatever its rows hold."""

from __future__ import annotations

import pytest

from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow
from fraudstream.v1.transaction_pb2 import Transaction
from services.features.rows.scoring_client import cut_request

MESSAGE_BYTES = 4 * 1024 * 1024


def request_with(rows: int, row_bytes: int) -> FeatureBatchRequest:
    """Return a request of rows of this size and somewhat more."""
    return FeatureBatchRequest(
        topic_id=bytes(16),
        partition=3,
        from_offset=70,
        generation="g1",
        feature_hashes=[1, 2],
        sequence_hash="s",
        rows=[
            FeatureRow(
                offset=number,
                transaction=Transaction(merchant_id="m" * 64),
                carried_decision=Decision(vector=bytes(row_bytes)),
            )
            for number in range(rows)
        ],
    )


def test_request_that_fits_is_sent_as_it_is() -> None:
    """The usual batch is one call."""
    request = request_with(rows=512, row_bytes=1_000)

    (part,) = cut_request(request)

    assert part is request


@pytest.mark.parametrize("row_bytes", [5_000, 60_000])
def test_request_too_large_for_a_message_is_cut(row_bytes: int) -> None:
    """Every part fits with the answer to it, says of which shard it is, and keeps the order."""
    parts = list(cut_request(request_with(rows=512, row_bytes=row_bytes)))

    assert len(parts) > 1
    assert all(part.ByteSize() <= MESSAGE_BYTES // 2 for part in parts)
    assert [row.offset for part in parts for row in part.rows] == list(range(512))
    heads = {(p.partition, p.from_offset, p.generation, tuple(p.feature_hashes)) for p in parts}
    assert heads == {(3, 70, "g1", (1, 2))}
    assert {part.topic_id for part in parts} == {bytes(16)}
