"""Fields are counted on the wire as the parser finds them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow
from services.scoring.rpc.messages import has_more_fields

# Rows of lengths that take one byte on the wire, two, and three.
ROWS = st.lists(st.integers(0, 20_000).map(lambda size: FeatureRow(vector=bytes(size))), max_size=9)


@given(rows=ROWS, offset=st.integers(-(2**63), 2**63 - 1), partition=st.integers(0, 2**31 - 1))
def test_count_of_fields_is_exact(rows: list[FeatureRow], offset: int, partition: int) -> None:
    """Each row is one, and so is each other field that is set."""
    request = FeatureBatchRequest(rows=rows, from_offset=offset, partition=partition)
    fields = len(rows) + (offset != 0) + (partition != 0)
    raw = request.SerializeToString()

    assert not has_more_fields(raw, fields)
    assert not fields or has_more_fields(raw, fields - 1)


@given(raw=st.binary(max_size=200))
@example(raw=b"\xff" * 4096)
@example(raw=b"\x0a" + b"\xff" * 4096)
def test_any_bytes_have_no_more_fields_than_bytes(raw: bytes) -> None:
    """Bytes that are no message end the count and nothing else."""
    assert not has_more_fields(raw, len(raw))
