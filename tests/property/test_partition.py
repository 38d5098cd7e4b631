"""A card's shard is where every Kafka client would put its records."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.topics import partition_of


@given(key=st.binary(max_size=64), partitions=st.integers(1, 64))
def test_key_lies_where_the_client_library_puts_it(key: bytes, partitions: int) -> None:
    """Whatever its length: the hash takes four bytes at a time, and then the rest."""
    places = list(range(partitions))

    assert partition_of(key, partitions) == DefaultPartitioner()(key, places, places)
