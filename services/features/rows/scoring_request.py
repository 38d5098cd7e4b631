"""Build the request to scoring from a batch with its features."""

from __future__ import annotations

from typing import Final

from fraudstream.features.catalogue import FEATURE_HASHES, SEQUENCE_HASH
from fraudstream.telemetry.metrics import FEATURES_ROWS
from fraudstream.topics import topic_id_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Freshness, StageTimings
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest
from services.features.rows.card_batch import CardBatch

_US_PER_MS: Final = 1000


def request_of(batch: CardBatch, started_us: int, now_us: int) -> FeatureBatchRequest:
    """Return the request for all rows of a batch.

    Args:
        batch: Rows with their features.
        started_us: When this service began with them, epoch microseconds.
        now_us: Now, epoch microseconds.
    """
    request = FeatureBatchRequest(
        topic_id=topic_id_of(batch.shard.incarnation),
        partition=batch.shard.partition,
        from_offset=batch.from_offset,
        generation=batch.shard.generation,
        feature_hashes=FEATURE_HASHES,
        sequence_hash=SEQUENCE_HASH,
    )
    vectors, sequences = batch.vectors.tobytes(), batch.sequences.tobytes()
    vector_size = len(vectors) // len(batch.rows)
    sequence_size = len(sequences) // len(batch.rows)
    for index, row in enumerate(batch.rows):
        # Filled in place: a message that is given to another one is copied, twice by `append`.
        message = request.rows.add(
            digest=row.digest,
            vector=vectors[index * vector_size : (index + 1) * vector_size],
            sequence=sequences[index * sequence_size : (index + 1) * sequence_size],
            offset=row.record.offset,
            traceparent=row.trace.traceparent(),
            feed=row.accepted.feed,
        )
        message.transaction.CopyFrom(row.accepted.transaction)
        if row.accepted.HasField("decision"):
            message.carried_decision.CopyFrom(row.accepted.decision)
        _write_freshness(batch, index, message.freshness)
        _write_timings(row.accepted, started_us, now_us, message.timings)
    stale = sum(message.freshness.shared_stale for message in request.rows)
    FEATURES_ROWS.labels("stale_shared").inc(stale)
    return request


def _write_freshness(batch: CardBatch, index: int, freshness: Freshness) -> None:
    row, previous_ms = batch.rows[index], batch.previous_ms[index]
    freshness.applied_offset = batch.from_offset
    freshness.previous_event_time_ms = previous_ms
    freshness.cold_start = previous_ms == 0
    event_time_ms = row.accepted.transaction.event_time_ms
    batch.shared.write_freshness(row.entities, event_time_ms, freshness)


def _write_timings(
    accepted: AcceptedTransaction, started_us: int, now_us: int, timings: StageTimings
) -> None:
    timings.raw_appended_us = accepted.raw_append_time_ms * _US_PER_MS
    timings.ingest_started_us = accepted.ingest_started_us
    timings.ingest_ended_us = accepted.ingest_ended_us
    timings.features_started_us = started_us
    timings.features_ended_us = now_us
