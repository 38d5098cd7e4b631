"""Read a finished training set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraudstream.archive.columns import enum_numbers
from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import (
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
)
from fraudstream.transaction.indicative_rates import REFERENCE_CURRENCY
from training.dataset import Examples
from training.offline.build import MANIFEST, manifest_path
from training.offline.labelled import LABEL_DELAY_DAYS, RowLabels, Unlabelled, rule_of
from training.offline.parts import part_schema, segment_column
from training.offline.source.files import HANDBOOK
from training.offline.work import Summary

_KEPT: Final = ["card_token", "event_time_ms", "amount_reference_minor", "is_fraud"]


def is_dataset(folder: Path) -> bool:
    """Return whether a folder holds a finished training set."""
    return manifest_path(folder).is_file()


def load_dataset(folder: Path) -> Examples:
    """Return all rows of a training set; 0.4 KB each and 24 bytes a step, a part once more.

    Cards are numbered in the order of their tokens, rows in the order of the set.

    Raises:
        InvalidSettings: It is not finished, was made for other features, or lacks rows.
    """
    manifest = _manifest_of(folder)
    rows = sum(part["rows"] for part in manifest["parts"])
    vectors = np.empty((rows, len(FEATURE_NAMES)), np.float32)
    steps = manifest["sequence"]["steps"]
    shape = (steps, len(SEQUENCE_CHANNELS))
    sequences = np.empty((rows, *shape), np.float32)
    kept, done = [part_schema(steps).empty_table().select(_KEPT)], 0
    for part in manifest["parts"]:
        table = pq.read_table(folder / part["name"], memory_map=True).combine_chunks()
        end = done + table.num_rows
        for index, name in enumerate(FEATURE_NAMES):
            vectors[done:end, index] = table[name].to_numpy()
        buffer = table["sequence"].chunk(0).buffers()[1]
        sequences[done:end] = np.frombuffer(buffer, "<f4").reshape(-1, *shape)
        kept.append(table.select(_KEPT))
        done = end
    if done != rows:
        raise InvalidSettings(f"{folder}: expected {rows} rows, found {done}")
    return _examples(pa.concat_tables(kept), vectors, sequences)


@dataclass(frozen=True, slots=True)
class Described:
    """What a training set says of itself.

    Attributes:
        format: Of its source, `canonical` or `handbook`.
        reference_currency: ISO 4217 code of its amounts.
    """

    format: str
    reference_currency: str

    @property
    def is_own(self) -> bool:
        """Whether it is a set of one's own, not the Handbook's."""
        return self.format != HANDBOOK


def describe_set(folder: Path) -> Described:
    """Return what a training set says of itself.

    Raises:
        InvalidSettings: It is not finished, or was made for other features.
    """
    request = _manifest_of(folder)["request"]
    currency = request.get("reference_currency", REFERENCE_CURRENCY)
    return Described(request["format"], currency)


def load_labels(
    folder: Path, unlabelled: Unlabelled | None = None, delay_days: int = LABEL_DELAY_DAYS
) -> RowLabels:
    """Return what is known of each row, in the order of `load_dataset`.

    Args:
        folder: Of the training set.
        unlabelled: What rows that nobody labelled count as; None for what the set says.
        delay_days: After which an unlabelled row counts as genuine, where such rows do.

    Raises:
        InvalidSettings: It is not finished, was made for other features, or does not tell which
            rows are labelled.
    """
    manifest = _manifest_of(folder)
    if "labels" not in manifest:
        msg = f"{folder}: {MANIFEST} does not tell labelled rows from others; make the set again"
        raise InvalidSettings(msg)
    columns = ["disposition", "label_arrival_ms", "event_time_ms"]
    tables = [part_schema(1).empty_table().select(columns)]
    tables += [pq.read_table(folder / part["name"], columns=columns) for part in manifest["parts"]]
    table = pa.concat_tables(tables)
    return RowLabels(
        disposition=enum_numbers("disposition", table["disposition"]).astype(np.int8),
        arrival_ms=table["label_arrival_ms"].fill_null(-1).to_numpy(),
        event_time_ms=table["event_time_ms"].to_numpy(),
        rule=rule_of(manifest["labels"], unlabelled, delay_days),
    )


def load_segments(folder: Path) -> dict[str, list[str]]:
    """Return the text of each row in each column that was kept to evaluate by, by its name.

    Raises:
        InvalidSettings: The set is not finished, or was made for other features.
    """
    manifest = _manifest_of(folder)
    found: dict[str, list[str]] = {}
    for name in manifest["request"].get("segments", ()):
        column = segment_column(name)
        parts = [
            pq.read_table(folder / each["name"], columns=[column]) for each in manifest["parts"]
        ]
        found[name] = [text or "none" for part in parts for text in part[column].to_pylist()]
    return found


def _examples(
    table: pa.Table, vectors: NDArray[np.float32], sequences: NDArray[np.float32]
) -> Examples:
    tokens = table["card_token"].combine_chunks().dictionary_encode()
    rank = np.argsort(pc.sort_indices(tokens.dictionary).to_numpy())
    return Examples(
        vectors=vectors,
        sequences=sequences,
        is_fraud=table["is_fraud"].to_numpy(),
        event_time_ms=table["event_time_ms"].to_numpy(),
        card=rank[tokens.indices.to_numpy()].astype(np.int64),
        amount_minor=table["amount_reference_minor"].to_numpy(),
        row=np.arange(len(vectors)),
    )


def _manifest_of(folder: Path) -> Summary:
    try:
        manifest: Summary = json.loads(manifest_path(folder).read_text())
    except FileNotFoundError as exc:
        msg = f"{folder}: expected a finished training set with {MANIFEST}, found none"
        raise InvalidSettings(msg) from exc
    expected = {"feature_set_hash": FEATURE_SET_HASH, "sequence_hash": SEQUENCE_HASH}
    for name, value in expected.items():
        if manifest["request"][name] != value:
            msg = f"{folder}: expected {name} {value}, found {manifest['request'][name]}"
            raise InvalidSettings(msg + "; make the training set again")
    return manifest
