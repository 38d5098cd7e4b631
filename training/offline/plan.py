"""What one training set is made of: the request, and what was found of its source at the start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from fraudstream.features.catalogue import (
    FEATURE_SET_HASH,
    KERNEL_VERSION,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.transaction.indicative_rates import REFERENCE_CURRENCY
from fraudstream.transaction.money import RateTable
from training.offline.work import WORK_FOLDER, Summary

KAFKA = "kafka"


class Content(StrEnum):
    """What a unit of the source holds."""

    ROWS = "rows"
    LABELS = "labels"
    DECISIONS = "decisions"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.

    Attributes:
        source: `kafka`, or a Parquet file, a folder of them, or the archive's root.
        format: `canonical` or `handbook`.
        labels: A Parquet file of labels, empty for none.
        from_ms: First event time whose row is kept.
        until_ms: Event time from which on rows are not kept.
        labels_until_ms: `is_fraud` tells the last label that arrived before; -1 for all.
        shards: Of cards and of entities each; 0 for as many as the rows need.
        steps: Last steps of each sequence that are kept, 1 (the row itself) to all.
        is_dropping: Rows that ingest would refuse are left out and counted; else one ends the run.
        reference_currency: ISO 4217 code of the reference amounts.
        rates: Convert the amounts of rows without a reference amount; None where all are in the
            reference currency.
        segments: Columns of the source that are kept to evaluate by, and never learned from.
    """

    source: str
    format: str
    labels: str
    from_ms: int
    until_ms: int
    labels_until_ms: int
    shards: int
    steps: int = SEQUENCE_LENGTH
    is_dropping: bool = False
    reference_currency: str = REFERENCE_CURRENCY
    segments: tuple[str, ...] = ()
    rates: RateTable | None = None

    @property
    def is_own(self) -> bool:
        """Whether the source is a file of one's own: what ingest has not seen."""
        return self.source != KAFKA and not (Path(self.source) / "accepted").is_dir()

    def describe(self) -> Summary:
        """Return the request and the code that answers it, as JSON."""
        described = asdict(replace(self, rates=None))
        del described["rates"]
        return described | {
            "rate_table_version": self.rates.version if self.rates else None,
            "segments": list(self.segments),
            "feature_set_hash": FEATURE_SET_HASH,
            "sequence_hash": SEQUENCE_HASH,
            "kernel_version": KERNEL_VERSION,
        }


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of the source that one task reads.

    Attributes:
        content: What it holds.
        name: A file's path, or a topic's name.
        part: Row group of the file, or partition of the topic.
        begin: First row's index in the whole source, or first offset.
        end: The same after the last row.
        log: Number of the log that a file belongs to: a topic made again is another.
    """

    content: Content
    name: str
    part: int
    begin: int
    end: int
    log: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a source holds.

    Attributes:
        units: In the order of the source.
        is_log: The rows have partitions and offsets, whose order counts.
        fingerprint: Differs when the source does.
    """

    units: tuple[Unit, ...]
    is_log: bool
    fingerprint: str

    @property
    def rows(self) -> int:
        """Rows at most: offsets may have holes."""
        return sum(unit.end - unit.begin for unit in self.units if unit.content is Content.ROWS)

    @property
    def has_decisions(self) -> bool:
        """Whether it tells the digests of what was decided."""
        return any(unit.content is Content.DECISIONS for unit in self.units)


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with all that was settled at the start. Every task is a function of it.

    Attributes:
        folder: Of the training set.
        request: What was asked for.
        is_log: As `Found` says.
        has_decisions: As `Found` says.
        shards: Of cards and of entities each.
        is_own: The source is a file of one's own, which has not passed ingest.
    """

    folder: Path
    request: Request
    is_log: bool
    has_decisions: bool
    shards: int
    is_own: bool = False

    @property
    def work(self) -> Path:
        """Where files lie between the stages."""
        return self.folder / WORK_FOLDER


def fingerprint_of(lines: list[tuple[str, int, int]]) -> str:
    """Return SHA-256 over names, sizes and times, hexadecimal.

    >>> len(fingerprint_of([("a", 1, 2)]))
    64
    """
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()
