"""`python -m training parity`: replay the log, compare with what decisions recorded, say how many.

Memory: about 3 KB for each decision of the span, and the entities topic, a partition at a time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fraudstream.broker.log_reader import LogReader, partition_count
from fraudstream.features.warm_up import warm_up
from fraudstream.parity.compare import fault_of
from fraudstream.parity.initial import InitialStates
from fraudstream.parity.rebuild import (
    WIDENED,
    EntityPartition,
    Floats,
    ReadsByPartition,
    collect_reads,
    log_keys_of,
    rebuild_cards,
    rebuild_entities,
)
from fraudstream.parity.recorded import LogPartitions, Span
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ENTITIES
from fraudstream.v1.decision_pb2 import Decision
from training.parity.certificate import Certificate
from training.parity.planted import NO_BUG, Bug

Report = Callable[[str], None]

_DOES_NOT_HOLD: Final = 1


@dataclass(frozen=True, slots=True)
class Proof:
    """What is to be proven, and from what.

    Attributes:
        span: Which decisions.
        bug: What is wrong with the driver or kernel; `planted.NO_BUG` for nothing.
        initial: States that were loaded beside the log.
    """

    span: Span
    bug: Bug = NO_BUG
    initial: InitialStates = field(default_factory=InitialStates)


@dataclass(slots=True)
class _Rebuilt:
    """Decisions of all partitions with what was rebuilt of them.

    Attributes:
        decisions: In the order of their indices.
        unseen: Indices whose reads of the card are not known.
        vectors: Of each partition.
        sequences: Of each partition.
        reads: What was read of shared entities.
        moved: Keys of entities with rows in two partitions.
    """

    decisions: list[Decision] = field(default_factory=list)
    unseen: set[int] = field(default_factory=set)
    vectors: list[Floats] = field(default_factory=list)
    sequences: list[Floats] = field(default_factory=list)
    reads: ReadsByPartition = field(default_factory=dict)
    moved: set[bytes] = field(default_factory=set)


def certify(settings: KafkaSettings, proof: Proof, report: Report) -> Certificate:
    """Rebuild the features of every decision of a span and compare them.

    Args:
        settings: Where Kafka is.
        proof: What is to be proven, and from what.
        report: Told how far it is.

    Raises:
        BrokerUnavailable: The broker does not answer, or a topic is missing.
    """
    warm_up()
    certificate = Certificate(initial=proof.initial)
    rebuilt = _Rebuilt()
    with proof.bug.planted():
        _rebuild_cards(settings, proof, rebuilt, certificate, report)
        vectors = np.concatenate(rebuilt.vectors)
        _rebuild_entities(settings, proof, rebuilt, vectors, report)
    for index, (decision, sequence) in enumerate(
        zip(rebuilt.decisions, np.concatenate(rebuilt.sequences), strict=True)
    ):
        if index in rebuilt.unseen:
            continue  # counted by its reason already
        if rebuilt.moved and not rebuilt.moved.isdisjoint(log_keys_of(decision)):
            certificate.unprovable[WIDENED] += 1
        else:
            certificate.compare(decision, vectors[index], sequence)
    return certificate


def _rebuild_cards(
    settings: KafkaSettings,
    proof: Proof,
    rebuilt: _Rebuilt,
    certificate: Certificate,
    report: Report,
) -> None:
    partitions = LogPartitions(settings, proof.span, fault_of)
    entity_partitions = partition_count(settings, ENTITIES)
    count = partition_count(settings, ACCEPTED)
    for partition in range(count):
        log = partitions.read(partition)
        certificate.unprovable.update(log.unprovable)
        first = len(rebuilt.decisions)
        collect_reads(log.decisions, first, entity_partitions, rebuilt.reads)
        vectors, sequences = rebuild_cards(log, proof.bug.rows, proof.initial)
        rebuilt.decisions += log.decisions
        rebuilt.unseen |= {first + index for index in log.unseen}
        rebuilt.vectors.append(vectors)
        rebuilt.sequences.append(sequences)
        report(
            f"cards {partition + 1}/{count}: {len(log.decisions)} decisions,"
            f" {len(log.counted.offsets)} rows counted"
        )


def _rebuild_entities(
    settings: KafkaSettings, proof: Proof, rebuilt: _Rebuilt, vectors: Floats, report: Report
) -> None:
    count = partition_count(settings, ENTITIES) if rebuilt.reads else 0
    for partition in range(count):
        with LogReader(settings, [ENTITIES], partition=partition) as reader:
            entities = EntityPartition(reader.to_end(), proof.initial)
        rebuilt.moved |= entities.moved(partition, count)
        rebuild_entities(entities, rebuilt.reads.get(partition, {}), proof.bug.readers, vectors)
        report(f"entities {partition + 1}/{count}")


def run_parity(proof: Proof) -> int:
    """Print the certificate; return the exit code."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if proof.bug.name:
        say(f"planted: {proof.bug.name}, {proof.bug.description}")
    certificate = certify(KafkaSettings.read(), proof, say)
    print(certificate.text())
    say(f"{time.monotonic() - began:.1f} s")
    if not certificate.compared:
        return os.EX_NOINPUT
    return os.EX_OK if certificate.holds else _DOES_NOT_HOLD
