"""Build the request to scoring from a batch with its features."""

from __future__ import annotations

from typing import Final

from fraudstream.features.catalogue import FEATURE_HASHES, SEQUENCE_HASH
from fraudstream.shard import topic_id_of
from fraudstream.telemetry import FEATURES_ROWS
from fraudstream.v1.decision_pb2 import Decision, Freshness, StageTimings
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow
from services.features.advance import CardBatch
from services.features.rows import AcceptedRow

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
    for place, row in enumerate(batch.rows):
        request.rows.append(
            FeatureRow(
                transaction=row.accepted.transaction,
                digest=row.digest,
                vector=vectors[place * vector_size : (place + 1) * vector_size],
                sequence=sequences[place * sequence_size : (place + 1) * sequence_size],
                offset=row.record.offset,
                traceparent=row.trace.traceparent(),
                freshness=_freshness(batch, place),
                timings=_timings(row, started_us, now_us),
                carried_decision=_carried(row),
            )
        )
    return request


def _freshness(batch: CardBatch, place: int) -> Freshness:
    row = batch.rows[place]
    event_time_ms = row.accepted.transaction.event_time_ms
    reads, watermark_ms, is_stale = batch.shared.freshness(row.entities, event_time_ms)
    if is_stale:
        FEATURES_ROWS.labels("stale_shared").inc()
    return Freshness(
        applied_offset=batch.from_offset,
        previous_event_time_ms=batch.previous_ms[place],
        shared_watermark_ms=watermark_ms,
        shared_stale=is_stale,
        cold_start=batch.previous_ms[place] == 0,
        shared_reads=reads,
    )


def _timings(row: AcceptedRow, started_us: int, now_us: int) -> StageTimings:
    accepted = row.accepted
    return StageTimings(
        raw_appended_us=accepted.raw_append_time_ms * _US_PER_MS,
        ingest_started_us=accepted.ingest_started_us,
        ingest_ended_us=accepted.ingest_ended_us,
        features_started_us=started_us,
        features_ended_us=now_us,
    )


def _carried(row: AcceptedRow) -> Decision | None:
    return row.accepted.decision if row.accepted.HasField("decision") else None
