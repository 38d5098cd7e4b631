"""`python -m training parity`: replay the log, compare with what decisions recorded, say how many.

Memory: about 3 KB for each decision of the span, and the entities topic, a partition at a time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fraudstream.features.warm_up import warm_up
from fraudstream.log_reader import LogReader, partition_count
from fraudstream.parity.compare import fault_of
from fraudstream.parity.rebuild import (
    EntityPartition,
    Floats,
    ReadsByPartition,
    collect_reads,
    rebuild_cards,
    rebuild_entities,
)
from fraudstream.parity.recorded import LogPartitions, Span
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ENTITIES
from fraudstream.v1.decision_pb2 import Decision
from training.parity.certificate import Certificate
from training.parity.planted import Bug

Report = Callable[[str], None]


@dataclass(slots=True)
class _Rebuilt:
    """Decisions of all partitions with what was rebuilt of them."""

    decisions: list[Decision]
    vectors: list[Floats]
    sequences: list[Floats]


def certify(settings: KafkaSettings, span: Span, bug: Bug, report: Report) -> Certificate:
    """Rebuild the features of every decision of a span and compare them.

    Args:
        settings: Where Kafka is.
        span: Which decisions.
        bug: What is wrong with the driver or kernel; `planted.NO_BUG` for nothing.
        report: Told how far it is.

    Raises:
        BrokerUnavailable: The broker does not answer, or a topic is missing.
    """
    warm_up()
    certificate = Certificate()
    partitions = LogPartitions(settings, span, fault_of)
    entity_partitions = partition_count(settings, ENTITIES)
    rebuilt, reads = _Rebuilt([], [], []), ReadsByPartition()
    count = partition_count(settings, ACCEPTED)
    with bug.planted():
        for partition in range(count):
            log = partitions.read(partition)
            certificate.unprovable.update(log.unprovable)
            collect_reads(log.decisions, len(rebuilt.decisions), entity_partitions, reads)
            vectors, sequences = rebuild_cards(log, bug.rows)
            rebuilt.decisions += log.decisions
            rebuilt.vectors.append(vectors)
            rebuilt.sequences.append(sequences)
            report(
                f"cards {partition + 1}/{count}: {len(log.decisions)} decisions,"
                f" {len(log.counted.offsets)} rows counted"
            )
        vectors = np.concatenate(rebuilt.vectors)
        for number, partition in enumerate(sorted(reads), start=1):
            with LogReader(settings, [ENTITIES], partition=partition) as reader:
                entities = EntityPartition(reader.to_end())
            rebuild_entities(entities, reads[partition], bug.readers, vectors)
            report(f"entities {number}/{len(reads)}")
    for place, (decision, sequence) in enumerate(
        zip(rebuilt.decisions, np.concatenate(rebuilt.sequences), strict=True)
    ):
        certificate.compare(decision, vectors[place], sequence)
    return certificate


def run_parity(span: Span, bug: Bug) -> int:
    """Print the certificate; return 0 where parity holds, else 1."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if bug.name:
        say(f"planted: {bug.name}, {bug.description}")
    certificate = certify(KafkaSettings.read(), span, bug, say)
    print(certificate.text())
    say(f"{time.monotonic() - began:.1f} s")
    return 0 if certificate.holds else 1
