"""Reading as a member of a group by kafka-python: polls that say what was lost, and positions.

The position behind a poll, not its last record, is how far a member has come: markers of
transactions, aborted records and what cannot be read lie behind records, and nothing may follow.
A consumer here resets nothing by itself (`auto_offset_reset` is `none`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownError,
)
from kafka.structs import TopicPartition

from fraudstream.telemetry.metrics import LOST_OFFSETS
from fraudstream.topics import base_name

_LOG: Final = logging.getLogger(__name__)


def poll_group(consumer: KafkaConsumer, timeout_ms: int, **options: Any) -> dict[Any, Any]:
    """Return what has come; go on at the beginning of a log where the position is none of it.

    Raises:
        KafkaError: The broker does not answer, or refuses.
    """
    try:
        return dict(consumer.poll(timeout_ms=timeout_ms, **options))
    except NoOffsetForPartitionError as exc:
        consumer.seek_to_beginning(*exc.args[0])
    except OffsetOutOfRangeError as exc:
        wanted: Mapping[TopicPartition, int] = exc.args[0]
        begins = consumer.beginning_offsets(list(wanted))
        for tp, offset in wanted.items():
            note_lost(tp, offset, begins[tp])
            consumer.seek(tp, begins[tp])
    except LogTruncationError as exc:
        divergent: Mapping[TopicPartition, Any] = exc.divergent_offsets
        begins = consumer.beginning_offsets(list(divergent))
        for tp, end in divergent.items():
            at = begins[tp] if end is None else end.offset
            where = f"{tp.topic}, partition {tp.partition}"
            _LOG.error("%s: the broker lost records from offset %d on; reading on there", where, at)
            consumer.seek(tp, at)
    except (CorruptRecordError, UnknownError) as exc:
        # A damaged disk, as where the frame of a batch makes no sense: the client names no offset.
        stands = [
            f"offset {at} of partition {p.partition}" for p, at in positions(consumer).items()
        ]
        raise type(exc)(f"the broker cannot read its log at one of {', '.join(stands)}") from exc
    return {}


def note_lost(tp: Any, wanted: int, begin: int) -> None:
    """Count and name the offsets that a log no longer has where reading was to go on."""
    if wanted < begin:
        LOST_OFFSETS.labels(base_name(tp.topic)).inc(begin - wanted)
        lost = f"{begin - wanted} offsets were deleted before they were read"
    else:
        lost = "the log ends before it: it was made again, or the broker lost records"
    where = f"{tp.topic}, partition {tp.partition}"
    _LOG.error("%s: %s, from %d; reading on at %d", where, lost, wanted, begin)


def positions(consumer: KafkaConsumer) -> dict[TopicPartition, int]:
    """Return where reading goes on in each assigned partition, where that is known."""
    found = {}
    for tp in consumer.assignment():
        try:
            at = consumer.position(tp, timeout_ms=0)
        except KafkaError:
            continue  # the next poll meets it, and knows what to do
        if at is not None:
            found[tp] = at
    return found
