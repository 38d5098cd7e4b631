"""Find a decision, and compute what it saw again from the log.

A card's records lie in one partition of each topic that is keyed by card. Memory: about 3 KB a
record of the card, and 200 bytes for each row of a shared entity that it read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraudstream.archive.files import list_files
from fraudstream.broker.log_reader import LogReader, partition_count
from fraudstream.broker.messages import message_of
from fraudstream.features.stored_values import log_key
from fraudstream.features.warm_up import warm_up
from fraudstream.parity.compare import Floats
from fraudstream.parity.initial import InitialStates
from fraudstream.parity.rebuild import (
    EntityPartition,
    ReadsByPartition,
    collect_reads,
    log_keys_of,
    rebuild_cards,
    rebuild_entities,
)
from fraudstream.parity.recorded import LogPartitions, PartitionLog, Span
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, ENTITIES, partition_of
from fraudstream.v1.decision_pb2 import Decision

Report = Callable[[str], None]

_EVER = Span(0, sys.maxsize)
_ANOTHER = "another decision"


@dataclass(frozen=True, slots=True)
class Found:
    """A decision, and the partition that its card's records lie in."""

    decision: Decision
    partition: int


@dataclass(frozen=True, slots=True)
class Features:
    """What a decision saw, computed again.

    Attributes:
        vector: float32 [F].
        sequence: float32 [T, C].
        rows: Of its card in the log, up to its end.
        is_whole: Whether no record that could have counted has expired.
    """

    vector: Floats
    sequence: Floats
    rows: int
    is_whole: bool


def find_in_log(
    settings: KafkaSettings, decision_id: str, partition: int | None, report: Report
) -> Found | None:
    """Return the first record of a decision in the log; None for none.

    Args:
        settings: Where Kafka is.
        decision_id: Which.
        partition: Where it must be; None to look everywhere.
        report: Told how far it is.

    Raises:
        BrokerUnavailable: The broker does not answer, or the topic is missing.
    """
    count = partition_count(settings, DECISIONS)
    wanted = decision_id.encode()
    for number in range(count) if partition is None else (partition,):
        with LogReader(settings, [DECISIONS], partition=number) as reader:
            read = 0
            for record in reader.to_end():
                read += 1
                # A message is parsed only where the id's bytes are in it: a hundred times faster.
                if wanted in record.value:
                    decision = message_of(Decision, record)
                    if decision is not None and decision.decision_id == decision_id:
                        return Found(decision, number)
        report(f"decisions {number + 1}/{count}: not among {read} records")
    return None


def find_in_archive(root: Path, decision_id: str, report: Report) -> Found | None:
    """Return the first record of a decision in the archive; None for none.

    Raises:
        InvalidSettings: The folder holds what is no file of an archive.
    """
    files = list_files(root / "decisions")
    for number, file in enumerate(files, start=1):
        ids = pq.read_table(file.path, columns=["decision_id"])["decision_id"]
        if pc.index(ids, decision_id).as_py() >= 0:
            wanted = [("decision_id", "=", decision_id)]
            rows = pq.read_table(file.path, columns=["message"], filters=wanted)
            return Found(Decision.FromString(rows["message"][0].as_py()), file.partition)
        report(f"archive {number}/{len(files)}: not in {file.path.name}")
    return None


def rebuild_features(
    settings: KafkaSettings, found: Found, initial: InitialStates, report: Report
) -> Features | str:
    """Compute what a decision saw from the rows before it, or say why the log does not allow it.

    Args:
        settings: Where Kafka is.
        found: The decision.
        initial: States that were loaded beside the log.
        report: Told how far it is.

    Raises:
        BrokerUnavailable: The broker does not answer, or a topic is missing.
    """
    warm_up()
    decision = found.decision

    def is_another(other: Decision) -> str:
        return "" if other.decision_id == decision.decision_id else _ANOTHER

    log = LogPartitions(settings, _EVER, is_another, decision.card_token).read(found.partition)
    report(f"cards: {len(log.counted.offsets)} rows of the card in partition {found.partition}")
    missing = _missing(log)
    if missing:
        return missing
    # What was found is compared, not what another record of the same identity may say.
    log.decisions[0] = decision
    vectors, sequences = rebuild_cards(log, lambda rows: rows, initial)
    reads: ReadsByPartition = {}
    collect_reads(log.decisions, 0, partition_count(settings, ENTITIES), reads)
    is_whole = log.first_offset == 0
    for number, (partition, batch) in enumerate(sorted(reads.items()), start=1):
        keys = {log_key(entity, key) for entity, read in batch.items() for key in read.keys}
        with LogReader(settings, [ENTITIES], partition=partition) as reader:
            records = (record for record in reader.to_end() if record.key in keys)
            entities = EntityPartition(records, initial)
            is_whole &= reader.first_offset() == 0
        rebuild_entities(entities, batch, lambda _, after: after, vectors)
        report(f"entities {number}/{len(reads)}")
    return Features(vectors[0], sequences[0], len(log.counted.offsets), is_whole)


def has_moved_rows(settings: KafkaSettings, decision: Decision) -> bool:
    """Return whether rows that a decision read lie where they would not be written now.

    Reads the whole entities topic: ask only where features differ.

    Raises:
        BrokerUnavailable: The broker does not answer, or the topic is missing.
    """
    keys, count = log_keys_of(decision), partition_count(settings, ENTITIES)
    for partition in range(count):
        others = {key for key in keys if partition_of(key, count) != partition}
        with LogReader(settings, [ENTITIES], partition=partition) as reader:
            if any(record.key in others for record in reader.to_end()):
                return True
    return False


def _missing(log: PartitionLog) -> str:
    """Return what the log lacks of its one decision, empty for nothing."""
    if not log.decisions:
        return "its record is not in decisions.made.v1 any more"
    if not log.door_reads and 0 not in log.counted.indices:
        faults = [fault for fault in log.unprovable if fault != _ANOTHER]
        return faults[0] if faults else "its row is not in transactions.accepted.v1 any more"
    return ""
