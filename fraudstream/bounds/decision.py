"""What a decision, and what is said about one later, can hold.

Budget: 25 µs for a decision with its arrays; a reader of many pays for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from fraudstream.bounds.fields import (
    MAX_PARTITION,
    are_finite,
    first_fault,
    is_hex_32,
    is_probability,
    is_text,
    is_us,
    is_word,
    is_zero_or_ms,
)
from fraudstream.bounds.transaction import fault_of_transaction
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.transaction.identity import (
    IDENTITY_BYTES,
    decision_id_of,
    digest_of,
    identity_of,
)
from fraudstream.transaction.money import MAX_REFERENCE_MINOR
from fraudstream.v1.decision_pb2 import (
    AcceptedTransaction,
    Action,
    Decision,
    Freshness,
    LogCoordinates,
    Reason,
    ShadowScore,
    StandInCause,
)
from fraudstream.v1.features_pb2 import EntityKind
from fraudstream.v1.rescore_pb2 import Rescore, StandIn
from fraudstream.v1.transaction_pb2 import Channel, TransactionKind

ACTIONS: Final = frozenset(Action.values()) - {0}
ENTITY_KINDS: Final = frozenset(EntityKind.values()) - {0}
MAX_REASONS: Final = 512
MAX_FEATURES: Final = 4_096
TOPIC_ID_BYTES: Final = 16
_CAUSES: Final = frozenset(StandInCause.values())
_MAX_BUCKET: Final = 4_096
# A card has at most 256 (`shard_store.PENDING_LONGEST`).
_MAX_PENDING: Final = 256
# Id of a key, and 16 bytes.
_LONGEST_SEAL: Final = 32
_FLOAT_BYTES: Final = 4
_CHANNELS: Final = len(SEQUENCE_CHANNELS)
_SEQUENCE_BYTES: Final = SEQUENCE_LENGTH * _CHANNELS * _FLOAT_BYTES
_OTHER_BYTES: Final = 1 << 16
# Padding says -1 second; float32 rounds the largest amount up.
_LOWEST: Final = {"seconds_before": -1.0}
_HIGHEST: Final = {
    "amount_minor": 1.001 * MAX_REFERENCE_MINOR,
    "seconds_before": 4e9,
    "kind": max(TransactionKind.values()),
    "channel": max(Channel.values()),
    "mcc": 9_999,
    "local_hour": 24,
}
_LOW: Final = np.array([_LOWEST.get(name, 0.0) for name in SEQUENCE_CHANNELS], np.float32)
_HIGH: Final = np.array([_HIGHEST[name] for name in SEQUENCE_CHANNELS], np.float32)


def fault_of_accepted(accepted: AcceptedTransaction, appended_ms: int) -> str:
    """Return the first field of an accepted row that none of ours writes, empty for none.

    A decision that it carries is one about its transaction.
    """
    fault = fault_of_transaction(accepted.transaction, appended_ms)
    if fault:
        return f"transaction.{fault}"
    if accepted.HasField("decision"):
        fault = fault_of_carried(accepted.decision, appended_ms)
        if not fault and accepted.decision.transaction != accepted.transaction:
            fault = "transaction"
        return f"decision.{fault}" if fault else ""
    return ""


def fault_of_carried(decision: Decision, appended_ms: int) -> str:
    """Return the first fault of a decision in a row: it came by gRPC and has no coordinates."""
    return fault_of_decision(decision, appended_ms) or (
        "coordinates" if decision.HasField("coordinates") else ""
    )


def fault_of_decision(decision: Decision, appended_ms: int) -> str:
    """Return the first field of a decision that scoring never writes, empty for none.

    Args:
        decision: With its transaction, and with or without its arrays.
        appended_ms: When the broker took its record, epoch milliseconds.
    """
    return (
        _fault_of_subject(decision, appended_ms)
        or _fault_of_verdict(decision)
        or _fault_of_origin(decision)
        or fault_of_freshness(decision.freshness)
        or _fault_of_arrays(decision)
    )


def _fault_of_subject(decision: Decision, appended_ms: int) -> str:
    spent = decision.transaction
    fault = fault_of_transaction(spent, appended_ms)
    if fault:
        return f"transaction.{fault}"
    identity = identity_of(spent.bank_id, spent.card_token, spent.transaction_id)
    return first_fault(
        (
            (decision.decision_id == decision_id_of(identity), "decision_id"),
            (decision.bank_id == spent.bank_id, "bank_id"),
            (decision.transaction_id == spent.transaction_id, "transaction_id"),
            (decision.card_token == spent.card_token, "card_token"),
            (decision.event_time_ms == spent.event_time_ms, "event_time_ms"),
            (decision.digest == digest_of(spent), "digest"),
        )
    )


def _fault_of_verdict(decision: Decision) -> str:
    return first_fault(
        (
            (decision.action in ACTIONS, "action"),
            (is_probability(decision.score), "score"),
            (is_probability(decision.raw_score), "raw_score"),
            (decision.stand_in_cause in _CAUSES, "stand_in_cause"),
            (decision.stand_in or not decision.stand_in_cause, "stand_in_cause"),
            (are_reasons(decision.reasons), "reasons"),
            (len(decision.past) <= SEQUENCE_LENGTH, "past"),
            (
                all(_is_past(p.newest_steps_back, p.oldest_steps_back) for p in decision.past),
                "past",
            ),
            (are_finite([p.contribution for p in decision.past]), "past"),
        )
    )


def _is_past(newest: int, oldest: int) -> bool:
    return 1 <= newest <= oldest <= SEQUENCE_LENGTH


def are_reasons(reasons: Sequence[Reason]) -> bool:
    """Return whether reasons can be ours.

    >>> are_reasons([Reason(code="A", text="b")]), are_reasons([Reason(contribution=float("nan"))])
    (True, False)
    """
    return (
        len(reasons) <= MAX_REASONS
        and all(is_word(reason.code) and is_text(reason.text) for reason in reasons)
        and are_finite([reason.contribution for reason in reasons])
    )


def _fault_of_origin(decision: Decision) -> str:
    timings = decision.timings
    times_us = [moment for _, moment in timings.ListFields()]
    return first_fault(
        (
            (is_word(decision.model_hash), "model_hash"),
            (is_word(decision.rule_set_hash), "rule_set_hash"),
            (is_word(decision.feature_set_hash), "feature_set_hash"),
            (is_word(decision.sequence_hash), "sequence_hash"),
            (is_word(decision.engine_version), "engine_version"),
            (is_word(decision.cpu_class), "cpu_class"),
            (is_word(decision.asked_by), "asked_by"),
            (not decision.trace_id or is_hex_32(decision.trace_id), "trace_id"),
            (len(decision.seal) <= _LONGEST_SEAL, "seal"),
            (0 <= decision.batch_bucket <= _MAX_BUCKET, "batch_bucket"),
            (all(is_us(moment) for moment in times_us), "timings"),
            (
                not decision.HasField("coordinates") or is_place(decision.coordinates),
                "coordinates",
            ),
        )
    )


def is_place(at: LogCoordinates) -> bool:
    """Return whether coordinates can be those of a record.

    >>> is_place(LogCoordinates(topic_id=bytes(16))), is_place(LogCoordinates())
    (True, False)
    """
    is_known = len(at.topic_id) == TOPIC_ID_BYTES and 0 <= at.partition <= MAX_PARTITION
    return is_known and at.offset >= 0


def fault_of_freshness(fresh: Freshness) -> str:
    """Return the first field of what features says of its reads that it never says."""
    reads = fresh.shared_reads
    return first_fault(
        (
            (fresh.applied_offset >= 0, "freshness.applied_offset"),
            (is_zero_or_ms(fresh.previous_event_time_ms), "freshness.previous_event_time_ms"),
            (is_zero_or_ms(fresh.shared_watermark_ms), "freshness.shared_watermark_ms"),
            (len(fresh.pending_identities) <= _MAX_PENDING, "freshness.pending_identities"),
            (
                all(len(one) == IDENTITY_BYTES for one in fresh.pending_identities),
                "freshness.pending_identities",
            ),
            (len(reads) <= len(ENTITY_KINDS), "freshness.shared_reads"),
            (
                all(r.entity_kind in ENTITY_KINDS and r.applied_offset >= 0 for r in reads),
                "freshness.shared_reads",
            ),
        )
    )


def _fault_of_arrays(decision: Decision) -> str:
    if not is_vector(decision.vector, decision.feature_set_hash):
        return "vector"
    return "" if is_sequence(decision.sequence, decision.sequence_hash) else "sequence"


def is_vector(vector: bytes, feature_set_hash: str) -> bool:
    """Return whether bytes are the vector of a feature set, or none; a missing feature is NaN.

    >>> is_vector(b"", FEATURE_SET_HASH), is_vector(bytes(4), FEATURE_SET_HASH)
    (True, False)
    """
    if not vector:
        return True
    if feature_set_hash == FEATURE_SET_HASH:
        if len(vector) != _FLOAT_BYTES * len(FEATURE_HASHES):
            return False
    elif len(vector) % _FLOAT_BYTES or len(vector) > _FLOAT_BYTES * MAX_FEATURES:
        return False
    return not np.isinf(np.frombuffer(vector, "<f4")).any()


def is_sequence(sequence: bytes, sequence_hash: str) -> bool:
    """Return whether bytes are the sequence of a layout, or none.

    >>> is_sequence(bytes(768), SEQUENCE_HASH), is_sequence(bytes(4), SEQUENCE_HASH)
    (True, False)
    """
    if not sequence:
        return True
    if sequence_hash != SEQUENCE_HASH:
        return len(sequence) <= _OTHER_BYTES and len(sequence) % _FLOAT_BYTES == 0
    if len(sequence) != _SEQUENCE_BYTES:
        return False
    steps = np.frombuffer(sequence, "<f4").reshape(SEQUENCE_LENGTH, _CHANNELS)
    # NaN is in no interval.
    is_low, is_high = steps.min(axis=0) >= _LOW, steps.max(axis=0) <= _HIGH
    return bool(is_low.all() and is_high.all())


def fault_of_stand_in(stand_in: StandIn, appended_ms: int) -> str:
    """Return the first field of a stand-in to be scored that is none of ours, empty for none."""
    decision, features = stand_in.decision, len(stand_in.feature_hashes)
    fault = fault_of_decision(decision, appended_ms)
    if fault:
        return f"decision.{fault}"
    return first_fault(
        (
            (decision.stand_in, "decision.stand_in"),
            (0 < features <= MAX_FEATURES, "feature_hashes"),
            (len(decision.vector) == _FLOAT_BYTES * features, "decision.vector"),
            (len(decision.sequence) == _SEQUENCE_BYTES, "decision.sequence"),
        )
    )


def fault_of_rescore(rescore: Rescore, _appended_ms: int) -> str:
    """Return the first field of what a model said later that is none of ours, empty for none."""
    identity = identity_of(rescore.bank_id, rescore.card_token, rescore.transaction_id)
    return first_fault(
        (
            (rescore.decision_id == decision_id_of(identity), "decision_id"),
            (rescore.decided_action in ACTIONS, "decided_action"),
            (rescore.action in ACTIONS, "action"),
            (rescore.stand_in_cause in _CAUSES, "stand_in_cause"),
            (is_probability(rescore.score), "score"),
            (is_probability(rescore.raw_score), "raw_score"),
            (are_reasons(rescore.reasons), "reasons"),
            (is_word(rescore.model_hash), "model_hash"),
            (is_word(rescore.rule_set_hash), "rule_set_hash"),
            (is_word(rescore.engine_version), "engine_version"),
            (is_zero_or_ms(rescore.event_time_ms), "event_time_ms"),
            (is_zero_or_ms(rescore.rescored_at_ms), "rescored_at_ms"),
            (not rescore.trace_id or is_hex_32(rescore.trace_id), "trace_id"),
        )
    )


def fault_of_shadow(score: ShadowScore, _appended_ms: int) -> str:
    """Return the first field of a challenger's score that is none of ours, empty for none."""
    identity = identity_of(score.bank_id, score.card_token, score.transaction_id)
    return first_fault(
        (
            (score.decision_id == decision_id_of(identity), "decision_id"),
            (is_zero_or_ms(score.event_time_ms), "event_time_ms"),
            (is_word(score.model_hash), "model_hash"),
            (is_probability(score.score), "score"),
            (is_probability(score.raw_score), "raw_score"),
            (score.action in ACTIONS, "action"),
            (is_word(score.engine_version), "engine_version"),
            (is_word(score.cpu_class), "cpu_class"),
            (0 <= score.batch_bucket <= _MAX_BUCKET, "batch_bucket"),
        )
    )
