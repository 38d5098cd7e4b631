"""Record batches: what is good comes through, and no bytes at all stop the reader."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.broker.wire.record_batches import RecordBatches
from fraudstream.broker.wire.records import Record, Unreadable
from tests.material.kafka_bytes import (
    CODECS,
    FIRST_MS,
    at_offset,
    batch,
    batch_of,
    compress,
    record,
    record_body,
)

_FIELDS = st.none() | st.binary(max_size=40)
_NAMES = st.text(max_size=8).map(str.encode)
_BODIES = st.tuples(_FIELDS, _FIELDS, st.lists(st.tuples(_NAMES, _FIELDS), max_size=3))


def read(data: bytes) -> list[Record]:
    """Read every batch of a fetch, and all of their records."""
    batches, found = RecordBatches(data), []
    while batches.has_next():
        one = batches.next_batch()
        assert one is not None
        found += list(one)
    return found


def is_unreadable(found: Record) -> bool:
    """Return whether a record stands for bytes that could not be read."""
    return isinstance(found.value, Unreadable)


@given(st.lists(_BODIES, min_size=1, max_size=5), st.sampled_from(CODECS))
def test_good_records_come_through_every_codec(
    bodies: list[tuple[bytes | None, bytes | None, list[tuple[bytes, bytes | None]]]], codec: str
) -> None:
    """Key, value, headers, offset and time are those that were sent."""
    encoded = [record_body(n, v, key=k, headers=h) for n, (k, v, h) in enumerate(bodies)]

    found = read(batch_of(encoded, codec))

    assert found == [
        Record(100 + n, FIRST_MS + n, 0, k, v, [(name.decode(), text) for name, text in h])
        for n, (k, v, h) in enumerate(bodies)
    ]


@given(st.binary(max_size=60), st.sampled_from(CODECS))
def test_record_of_any_bytes_costs_its_neighbours_nothing(junk: bytes, codec: str) -> None:
    """The record before and the one after are read, and the offsets are theirs."""
    good = [record_body(0, b"before"), junk, record_body(2, b"after")]

    found = read(batch_of(good, codec))

    assert [(r.offset, r.value) for r in found if r.value in (b"before", b"after")] == [
        (100, b"before"),
        (102, b"after"),
    ]
    assert len(found) == 3


@given(st.binary(max_size=200), st.integers(0, 2**31 - 1), st.integers(-(2**15), 2**15 - 1))
def test_batch_of_any_bytes_is_read_to_its_end(
    junk: bytes, last_delta: int, attributes: int
) -> None:
    """Nothing raises, the offsets rise within the batch, and the position goes behind it."""
    data = batch(junk, last_delta=last_delta, attributes=attributes)

    found = read(data)

    assert all(before.offset <= after.offset for before, after in pairwise(found))
    assert all(100 <= one.offset <= 100 + last_delta for one in found)
    one = RecordBatches(data).next_batch()
    assert one is not None
    assert one.next_offset == 101 + last_delta


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 200))
def test_position_rises_past_any_batch(last_delta: int, next_base: int) -> None:
    """Whatever a batch with a right checksum, or the one behind it, says about its offsets."""
    content = record(record_body(0, b"value"))
    behind = at_offset(next_base, batch_of([record_body(0, b"next")]))

    bad = batch(content, last_delta=last_delta)

    for fetched in (bad, bad + behind):
        one = RecordBatches(fetched).next_batch()
        assert one is not None
        assert one.next_offset > 100
        assert [each.offset for each in one] == [100]


def test_batch_that_ends_before_it_begins_is_unreadable() -> None:
    """Its last offset is refused though its checksum is right: a reader would go back for ever."""
    data = batch(record(record_body(0, b"value")), last_delta=-5)

    [found] = read(data)

    assert is_unreadable(found)
    assert isinstance(found.value, Unreadable)
    assert found.value.cause == "batch ends at offset delta -5, expected 0 or more"


@given(st.binary(max_size=300))
def test_fetch_of_any_bytes_is_read_to_its_end(junk: bytes) -> None:
    """A frame that makes no sense ends the fetch; nothing raises."""
    read(junk)
    read(struct.pack(">qi", 7, len(junk)) + junk)


@given(st.data())
def test_batch_that_does_not_fit_its_checksum_is_one_unreadable_record(data: st.DataObject) -> None:
    """One bit that fell over on a disk costs its batch; the position goes to the next one."""
    encoded = bytearray(batch_of([record_body(n, b"value") for n in range(3)]))
    where = data.draw(st.integers(21, len(encoded) - 1))
    encoded[where] ^= 1 << data.draw(st.integers(0, 7))

    found = read(bytes(encoded) + at_offset(103, batch_of([record_body(0, b"next")])))

    assert [one.offset for one in found] == [100, 103]
    assert is_unreadable(found[0])
    assert found[1].value == b"next"


def test_header_name_that_is_no_text_leaves_the_value_readable() -> None:
    """The letter can hold what was sent: key and value are kept, the name is spelled out."""
    body = record_body(0, b"value", key=b"key", headers=[(b"k\xfcndigung", b"1")])

    [found] = read(batch_of([body]))

    assert isinstance(found.value, Unreadable)
    assert (found.value, found.value.reason, found.key) == (b"value", "HEADERS", b"key")
    assert found.headers == [("k\\xfcndigung", b"1")]


@pytest.mark.parametrize("last", [record_body(7, b"ahead"), record_body(0, b"again")])
def test_record_whose_offset_is_not_in_order_is_unreadable(last: bytes) -> None:
    """A position that follows it would leave the log, or read it again for ever."""
    found = read(batch_of([record_body(0, b"first"), last]))

    assert [is_unreadable(one) for one in found] == [False, True]
    assert [one.offset for one in found] == [100, 101]


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "none"])
def test_bomb_costs_its_own_batch_and_no_memory(codec: str) -> None:
    """What would be over the bound is never made."""
    bomb = compress(codec, bytes(64 << 20))
    number = {"gzip": 1, "lz4": 3, "zstd": 4}.get(codec, 2)
    data = batch(bomb, attributes=number) + at_offset(101, batch_of([record_body(0, b"next")]))

    tracemalloc.start()
    found = read(data)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert is_unreadable(found[0])
    assert found[1].value == b"next"
    assert peak_bytes < 4 * len(bomb) + (1 << 20)


def test_cut_off_batch_is_left_for_the_next_fetch() -> None:
    """The last batch of a fetch may be cut off by its size."""
    whole = batch_of([record_body(0, b"whole")])
    cut = at_offset(101, batch_of([record_body(0, b"later")]))[:-1]

    assert [one.value for one in read(whole + cut)] == [b"whole"]


def test_length_that_cannot_be_makes_the_rest_unreadable() -> None:
    """Behind a broken length no record can be told from another."""
    content = record(record_body(0, b"first")) + b"\xff\xff\xff\xff\x0f" + b"rest"

    found = read(batch(content, last_delta=4, count=5))

    assert [is_unreadable(one) for one in found] == [False, True]
    assert found[1].offset == 101
