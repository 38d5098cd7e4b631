"""Records between the stages of a training set, and the rows that one process holds at a time."""

from __future__ import annotations

from typing import Final

import numpy as np

from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.state import ROW

# Rows that are read, ordered, or walked as one chunk. A process holds about 1.5 KB for each.
CHUNK_ROWS: Final = 1 << 16
SLICE_ROWS: Final = 1 << 17
SHARD_ROWS: Final = 1 << 17
# Every entity shard reads a piece of every card shard's files: beyond, shards hold more rows.
MOST_SHARDS: Final = 512
BLOCK_ROWS: Final = 1 << 12  # whose vectors stay in a processor's cache
PART_ROWS: Final = 1 << 16
# Wanted rows are counted in ranges of this many row numbers: parts are whole ranges.
RANGE_ROWS: Final = 1 << 13

KINDS: Final = len(SHARED_ENTITIES)
NONE: Final = -1
FRAUD: Final = 1
GENUINE: Final = 0
UNSAID: Final = -1  # neither: a label that could not tell, a row that says nothing of itself

# A row as it is read. Its order is (arrival, first, ..., second): with a log partition and offset;
# without one event time and, after the ids, the row in the source. Names are 64 bits: of 10^8
# entities of one kind two share theirs once in 3,700 sets. A transaction is compared inside its
# card only. Records are aligned: numpy is slow where a number lies across two words.
PACKED_ROW: Final = np.dtype(
    [
        ("number", "<i8"),  # index in the arrival order of all rows, from the second stage on
        ("first", "<i8"),
        ("second", "<i8"),
        ("card", "<u8"),
        ("transaction", "<u8"),
        ("digest", "<u8"),  # of what must not change between two copies
        ("arrival_ms", "<i8"),
        ("label_arrival_ms", "<i8"),  # of a label in the transaction's own row, -1 for none
        ("entities", "<u8", (KINDS,)),  # in the order of `SHARED_ENTITIES`; 0 for none
        ("row", ROW),
        ("is_fraud", "<i1"),  # what the row says of itself, with a label arrival or without one
    ],
    align=True,
)

# A settled label as it is read. `MISSING`: the source has no such column, the transaction tells.
LABEL: Final = np.dtype(
    [
        ("card", "<u8"),
        ("transaction", "<u8"),
        ("arrival_ms", "<i8"),
        ("place", "<i8"),  # order among labels that arrived at once
        ("event_ms", "<i8"),  # of the labelled transaction, -1 where the transaction tells
        ("is_fraud", "<i1"),
        ("entities", "<u8", (KINDS,)),
    ],
    align=True,
)
MISSING: Final = np.uint64(0xFFFFFFFFFFFFFFFF)

# The digest of a decision.
DECIDED: Final = np.dtype(
    [("card", "<u8"), ("transaction", "<u8"), ("place", "<i8"), ("digest", "<u8")]
)

# What happens at one entity: a transaction that counts there, reads it, or both; or a label.
EVENT: Final = np.dtype(
    [
        ("entity", "<u8"),
        ("arrival_ms", "<i8"),
        ("order", "<i8"),  # a transaction's number, a label's place
        ("event_ms", "<i8"),
        ("amount", "<i8"),
        ("is_transaction", "<i1"),
        ("kind", "<i1"),
        ("is_unusual", "<i1"),
        ("change", "<i1"),
        ("is_reader", "<i1"),
    ],
    align=True,
)

# What a training set says of a row besides its features and ids.
OUTCOME: Final = np.dtype(
    [
        ("number", "<i8"),
        ("event_ms", "<i8"),
        ("arrival_ms", "<i8"),
        ("amount", "<i8"),
        ("label_arrival_ms", "<i8"),
        ("is_fraud", "<i1"),
        ("disposition", "<i1"),  # number of `Disposition`, 0 where nobody labelled the row
    ],
    align=True,
)
