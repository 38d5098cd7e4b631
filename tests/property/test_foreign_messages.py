"""Any message and any bytes on a topic behind ingest: each reader passes it over and goes on."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.broker.log_reader import LogRecord
from fraudstream.broker.messages import message_of
from fraudstream.rules.version_log import VersionLog
from fraudstream.signing import People
from fraudstream.store.entity_rows import decode_entity_row, fresh_rows
from fraudstream.store.shard import Role, ShardKeys, ShardRef
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.features_pb2 import EntityRow
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.rescore_pb2 import StandIn
from fraudstream.v1.rules_pb2 import PublishedRuleSet
from services.archive.streams import STREAMS
from services.console.alerts.record import read_alert
from services.features.rebuild.first_decisions import decode_alerts, decode_decisions
from services.features.roles.label import decode_label
from services.features.rows.accepted_rows import decode_row
from services.features.rows.entity_batch import EntityBatch
from tests.material.any_message import any_message

_KINDS = (AcceptedTransaction, Decision, Label, Alert, StandIn, EntityRow, PublishedRuleSet)
_KEYS = ShardKeys("p", ShardRef(Role.ENTITY, 0, "incarnation"))


def record_of(value: bytes, time_ms: int) -> LogRecord:
    """Return a record whose key is the card token of any message that has one."""
    return LogRecord("t", 0, 5, time_ms, _token_in(value), value, ())


def _token_in(value: bytes) -> bytes:
    for kind in _KINDS:
        try:
            message: Message = kind.FromString(value)
        except DecodeError:
            continue
        inner = getattr(message, "transaction", message)
        token: str = getattr(inner, "card_token", "")
        if token:
            return token.encode()
    return b"key"


def bytes_of(message: Message) -> bytes:
    """Serialise a message."""
    return message.SerializeToString()


def read_as_entity_row(record: LogRecord) -> None:
    """Do what the entity role does with a record."""
    row = decode_entity_row(record)
    fresh, marks = fresh_rows([(record.offset, row)] if row else [], {})
    chunk = EntityBatch.of(fresh)
    for mark in marks.values():
        mark.packed()
    chunk.advance(_KEYS, [None] * len(chunk.keys(_KEYS)))


# The first example compiles the kernel.
@settings(deadline=None)
@given(
    st.one_of(st.binary(max_size=60), *(any_message(k).map(bytes_of) for k in _KINDS)),
    st.integers(-(2**63), 2**63 - 1),
)
def test_no_value_on_any_topic_stops_its_reader(value: bytes, time_ms: int) -> None:
    """Each reader takes it or passes it over; none raises."""
    record = record_of(value, time_ms)

    decode_row(record, 0.0)
    decode_label(record)
    read_as_entity_row(record)
    decode_decisions([record])
    decode_alerts([record])
    for stream in STREAMS:
        stream.rows_of(0, [record])
    read_alert(record)
    message_of(StandIn, record)
    VersionLog("key", People({})).take(record)
