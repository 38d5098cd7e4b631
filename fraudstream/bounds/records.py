"""What alerts, labels and rows of shared entities can hold."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from fraudstream.bounds.decision import (
    ENTITY_KINDS,
    MAX_FEATURES,
    TOPIC_ID_BYTES,
    fault_of_decision,
    fault_of_rescore,
)
from fraudstream.bounds.fields import (
    AHEAD_MS,
    MAX_PARTITION,
    first_fault,
    has_spelling,
    is_address,
    is_bank,
    is_event_ms,
    is_name,
    is_number,
    is_token_of,
    is_word,
)
from fraudstream.features.catalogue import SEQUENCE_LENGTH
from fraudstream.names import MAX_NAME_BYTES
from fraudstream.transaction.event_time import TimeBounds, is_epoch_ms
from fraudstream.transaction.identity import IDENTITY_BYTES, Identity, alert_id_of
from fraudstream.transaction.limits import KINDS
from fraudstream.transaction.money import MAX_REFERENCE_MINOR
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.features_pb2 import EntityKind, EntityRow, EntityRowKind, SequenceStep
from fraudstream.v1.label_pb2 import Disposition, Label, LabelSource
from fraudstream.v1.transaction_pb2 import Channel, TransactionKind

# By value: protobuf's enum looks a name up by Python code, a microsecond each time.
_HEARTBEAT: Final = EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT
_LABEL: Final = EntityRowKind.ENTITY_ROW_KIND_LABEL
_CARD: Final = EntityKind.ENTITY_KIND_CARD
_IP: Final = EntityKind.ENTITY_KIND_IP
# Merchants, devices and addresses come again: a look at one takes 2 µs.
_ENTITY_KEYS: Final = 1 << 15
_MCC_DIGITS: Final = 4
_DISPOSITIONS: Final = frozenset(Disposition.values()) - {0}
_SOURCES: Final = frozenset(LabelSource.values()) - {0}
_ROW_KINDS: Final = frozenset(EntityRowKind.values()) - {0}
_ALL_KINDS: Final = frozenset(TransactionKind.values())
_ALL_CHANNELS: Final = frozenset(Channel.values())
_MAX_ANALYST: Final = 150
# What two clocks may differ.
_CLOCKS_MS: Final = TimeBounds().future_ms


def fault_of_alert(alert: Alert, appended_ms: int) -> str:
    """Return the first field of an alert that scoring never writes, empty for none."""
    decision = alert.decision
    fault = fault_of_decision(decision, appended_ms)
    if fault:
        return f"decision.{fault}"
    if alert.HasField("rescore"):
        fault = fault_of_rescore(alert.rescore, appended_ms)
        if fault or alert.rescore.decision_id != decision.decision_id:
            return f"rescore.{fault or 'decision_id'}"
    identity = Identity(bytes.fromhex(decision.decision_id))
    return first_fault(
        (
            (alert.alert_id == alert_id_of(identity), "alert_id"),
            (len(alert.sequence) <= SEQUENCE_LENGTH, "sequence"),
            (all(_is_step(step) for step in alert.sequence), "sequence"),
            (len(alert.features) <= MAX_FEATURES, "features"),
            (all(is_word(f.name) and not math.isinf(f.value) for f in alert.features), "features"),
            (is_event_ms(alert.raised_at_ms, appended_ms), "raised_at_ms"),
            (0 <= alert.expected_loss_minor <= MAX_REFERENCE_MINOR, "expected_loss_minor"),
        )
    )


def _is_step(step: SequenceStep) -> bool:
    return (
        0 <= step.amount_reference_minor <= MAX_REFERENCE_MINOR + MAX_REFERENCE_MINOR // 1_000
        and step.kind in _ALL_KINDS
        and step.channel in _ALL_CHANNELS
        and len(step.mcc) <= _MCC_DIGITS
        and is_word(step.mcc)
        and is_epoch_ms(step.event_time_ms)
    )


def fault_of_label(label: Label, appended_ms: int) -> str:
    """Return the first field of a label that neither console nor ingest writes, empty for none."""
    event_ms, settled_ms = label.event_time_ms, label.settled_at_ms
    return first_fault(
        (
            (is_word(label.label_id), "label_id"),
            (is_bank(label.bank_id), "bank_id"),
            (is_number(label.transaction_id), "transaction_id"),
            (is_token_of(label.card_token, label.bank_id), "card_token"),
            (is_event_ms(event_ms, appended_ms), "event_time_ms"),
            (label.disposition in _DISPOSITIONS, "disposition"),
            (label.source in _SOURCES, "source"),
            (has_spelling(label.customer_id), "customer_id"),
            (has_spelling(label.merchant_id), "merchant_id"),
            (has_spelling(label.terminal_id), "terminal_id"),
            (has_spelling(label.device_id), "device_id"),
            (has_spelling(label.ip), "ip"),
            (len(label.analyst) <= _MAX_ANALYST, "analyst"),
            (not label.analyst or label.analyst.isprintable(), "analyst"),
            # A label without a time was given when it arrived.
            (not settled_ms or event_ms <= settled_ms <= appended_ms + AHEAD_MS, "settled_at_ms"),
        )
    )


def fault_of_entity_row(row: EntityRow, appended_ms: int) -> str:
    """Return the first field of an entity row that features never writes, empty for none.

    Its source was appended before it was, whoever's clock says so.
    """
    fault = first_fault(
        (
            (row.kind in _ROW_KINDS, "kind"),
            (len(row.source_topic_id) == TOPIC_ID_BYTES, "source_topic_id"),
            (0 <= row.source_partition <= MAX_PARTITION, "source_partition"),
            # A source without a record has come to -1.
            (row.source_offset >= -1, "source_offset"),
            (0 <= row.source_time_ms <= appended_ms + _CLOCKS_MS, "source_time_ms"),
        )
    )
    if fault or row.kind == _HEARTBEAT:
        return fault
    is_label = row.kind == _LABEL
    return first_fault(
        (
            (row.source_offset >= 0, "source_offset"),
            (row.entity_kind in ENTITY_KINDS, "entity_kind"),
            (is_label or row.entity_kind != _CARD, "entity_kind"),
            (_is_entity_key(row.entity_key, row.entity_kind), "entity_key"),
            (is_event_ms(row.event_time_ms, appended_ms), "event_time_ms"),
            (0 <= row.amount_reference_minor <= MAX_REFERENCE_MINOR, "amount_reference_minor"),
            (row.transaction_kind in (_ALL_KINDS if is_label else KINDS), "transaction_kind"),
            (len(row.identity) == (IDENTITY_BYTES if is_label else 0), "identity"),
        )
    )


@lru_cache(maxsize=_ENTITY_KEYS)
def _is_entity_key(key: str, kind: EntityKind) -> bool:
    bank, slash, name = key.partition("/")
    if not (slash and name and is_bank(bank)):
        return False
    if kind == _CARD:
        return is_token_of(name, bank)
    is_spelled = is_address(name) if kind == _IP else is_name(name)
    return is_spelled and len(name.encode()) <= MAX_NAME_BYTES
