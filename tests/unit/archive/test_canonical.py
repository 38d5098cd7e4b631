"""Canonical columns: what goes in comes out, and a file that lacks some is told so."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from fraudstream.archive.batches import LogRows, accepted_batch, decision_batch, label_batch
from fraudstream.archive.columns import (
    ACCEPTED_SCHEMA,
    CODE,
    DECISION_SCHEMA,
    LABEL_SCHEMA,
    check_canonical,
    enum_numbers,
)
from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.transaction_pb2 import Transaction
from tests.worlds.archive_records import EVENT_MS, VECTOR, decision, label, transaction

ROWS = LogRows(3, [7, 9], [EVENT_MS + 1, EVENT_MS + 2])
SMALLEST = pa.schema(
    [
        ("card_token", pa.large_string()),
        ("transaction_id", CODE),
        ("event_time_ms", pa.int64()),
        ("amount_reference_minor", pa.int32()),
    ]
)


def without(schema: pa.Schema, name: str) -> pa.Schema:
    """Return a schema that lacks a column."""
    return schema.remove(schema.get_field_index(name))


def test_every_field_of_an_accepted_transaction_is_a_column() -> None:
    """Nothing of a transaction but its card number and the rate table's name is left behind."""
    row = accepted_batch([transaction(1), transaction(2)], ROWS).to_pylist()[1]

    message = transaction(2)
    left_out = {"pan", "pan_sealed", "pan_key_id", "currency_exponent", "rate_table_version"}
    fields = {field.name for field in Transaction.DESCRIPTOR.fields} - left_out - {"location"}
    assert set(row) == fields | {
        "latitude",
        "longitude",
        "arrival_time_ms",
        "log_partition",
        "log_offset",
    }
    assert (row["kind"], row["channel"], row["entry_mode"]) == ("purchase", "pos", "chip")
    assert (row["latitude"], row["longitude"]) == (40.5, -73.5)
    assert (row["arrival_time_ms"], row["log_partition"], row["log_offset"]) == (EVENT_MS + 2, 3, 9)
    plain = fields - {"kind", "channel", "entry_mode"}
    assert {name: row[name] for name in plain} == {name: getattr(message, name) for name in plain}


def test_what_a_transaction_lacks_is_null() -> None:
    """An empty text and an unspecified enum are no content; a place on the equator is one."""
    bare = Transaction(transaction_id="1", event_time_ms=EVENT_MS)
    bare.location.SetInParent()
    (row,) = accepted_batch([bare], LogRows(0, [0], [0])).to_pylist()

    names = ("bank_id", "kind", "channel", "entry_mode", "mcc", "ip", "customer_id")
    assert [row[name] for name in names] == [None] * len(names)
    assert (row["latitude"], row["longitude"], row["amount_minor"]) == (0.0, 0.0, 0)


def test_a_decision_is_whole_in_its_message_column() -> None:
    """Any decision can be replayed from the archive: the message is there to the byte."""
    batch = decision_batch([decision(1), decision(2)], ROWS)

    kept = [Decision.FromString(value) for value in batch["message"].to_pylist()]
    assert kept == [decision(1), decision(2)]


def test_a_decisions_columns_say_what_its_message_says() -> None:
    """Reasons, coordinates, freshness and times are columns of their own."""
    row = decision_batch([decision(1), decision(2)], ROWS).to_pylist()[0]

    assert (row["action"], row["score"], row["reason_codes"]) == ("review", 0.25, ["R1", "R2"])
    assert (row["accepted_topic_id"], row["accepted_partition"]) == (bytes(range(16)), 2)
    assert (row["accepted_offset"], row["log_offset"], row["applied_offset"]) == (1, 7, 0)
    assert row["stand_in_cause"] is None
    assert row["event_timestamp"].timestamp() * 1_000 == EVENT_MS + 1
    assert row["created_timestamp"].timestamp() * 1_000 == EVENT_MS + 1


def test_a_decision_by_grpc_has_no_coordinates() -> None:
    """Offset 0 of partition 0 is a place; no place is null."""
    by_grpc = decision(1)
    by_grpc.ClearField("coordinates")
    (row,) = decision_batch([by_grpc], LogRows(0, [0], [0])).to_pylist()

    places = [row[f"accepted_{part}"] for part in ("topic_id", "partition", "offset")]
    assert places == [None, None, None]


def test_features_are_columns_for_the_current_catalogue_only() -> None:
    """Another feature set has other places in its vector: reading it by today's names would lie."""
    foreign, missing = decision(2), decision(3)
    foreign.feature_set_hash = "another"
    missing.vector = np.full(len(VECTOR), np.nan, np.float32).tobytes()
    batch = decision_batch([decision(1), foreign, missing], LogRows(0, [0, 1, 2], [0, 0, 0]))

    last = batch[FEATURE_NAMES[-1]].to_pylist()
    assert last[:2] == [VECTOR[-1], None]
    assert math.isnan(last[2])
    assert batch["vector"].to_pylist()[1] == VECTOR.tobytes()


def test_every_field_of_a_label_is_a_column() -> None:
    """And so is when and where it arrived."""
    row = label_batch([label(1), label(2)], ROWS).to_pylist()[0]

    assert {field.name for field in Label.DESCRIPTOR.fields} <= set(row)
    assert (row["disposition"], row["source"], row["analyst"]) == (
        "confirmed_fraud",
        "chargeback",
        None,
    )
    assert (row["settled_at_ms"], row["arrival_time_ms"]) == (EVENT_MS + 6, EVENT_MS + 1)


@pytest.mark.parametrize("schema", [ACCEPTED_SCHEMA, DECISION_SCHEMA, LABEL_SCHEMA])
def test_no_two_columns_share_a_name(schema: pa.Schema) -> None:
    """A feature that is called like a column of decisions would hide it."""
    assert len(set(schema.names)) == len(schema.names)


def test_enum_names_become_the_messages_numbers_again() -> None:
    """What training reads of the archive is what the kernel takes."""
    batch = accepted_batch([transaction(1), Transaction()], ROWS)

    found = enum_numbers("channel", pa.chunked_array([batch["channel"]]))

    assert found.dtype == np.int32
    assert found.tolist() == [transaction(1).channel, 0]


def test_an_unknown_enum_name_is_refused() -> None:
    """It would be taken for nothing."""
    with pytest.raises(InvalidSettings, match=r"column kind: expected one of purchase.*'sale'"):
        enum_numbers("kind", pa.chunked_array([["purchase", "sale"]]))


def test_the_archives_own_columns_are_canonical() -> None:
    """What is written can be read."""
    check_canonical(ACCEPTED_SCHEMA)


def test_a_file_with_the_needed_columns_only_is_canonical() -> None:
    """Texts may be encoded as they like, whole numbers be as wide; other columns are free."""
    check_canonical(SMALLEST.append(pa.field("merchant_name", pa.string())))


def test_amount_and_currency_stand_in_for_the_reference_amount() -> None:
    """A file in the reference currency need not repeat its amounts."""
    schema = without(SMALLEST, "amount_reference_minor")

    check_canonical(
        schema.append(pa.field("amount_minor", pa.int64())).append(pa.field("currency", CODE))
    )


@pytest.mark.parametrize("name", SMALLEST.names)
def test_a_missing_column_is_named(name: str) -> None:
    """With what was expected, what was found, and where to read on."""
    with pytest.raises(InvalidSettings, match=rf"column {name} is missing: .*docs/data\.md"):
        check_canonical(without(SMALLEST, name))


def test_a_column_of_another_type_is_named() -> None:
    """With the type that was expected and the one that was found."""
    schema = without(SMALLEST, "event_time_ms").append(pa.field("event_time_ms", pa.timestamp("s")))

    with pytest.raises(
        InvalidSettings, match=r"event_time_ms: expected whole numbers .* timestamp"
    ):
        check_canonical(schema)


def test_a_column_that_is_there_twice_is_refused() -> None:
    """Which of the two was meant, nobody knows."""
    with pytest.raises(InvalidSettings, match="card_token is there 2 times"):
        check_canonical(SMALLEST.append(pa.field("card_token", pa.string())))
