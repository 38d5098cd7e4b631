"""Read a finished training set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import (
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
)
from training.dataset import Examples
from training.offline.build import MANIFEST
from training.offline.parts import part_schema
from training.offline.work import Summary

_KEPT: Final = ["card_token", "event_time_ms", "amount_reference_minor", "is_fraud"]


def is_dataset(folder: Path) -> bool:
    """Tell whether a folder holds a finished training set."""
    return (folder / MANIFEST).is_file()


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
        for place, name in enumerate(FEATURE_NAMES):
            vectors[done:end, place] = table[name].to_numpy()
        buffer = table["sequence"].chunk(0).buffers()[1]
        sequences[done:end] = np.frombuffer(buffer, "<f4").reshape(-1, *shape)
        kept.append(table.select(_KEPT))
        done = end
    if done != rows:
        raise InvalidSettings(f"{folder}: expected {rows} rows, found {done}")
    return _examples(pa.concat_tables(kept), vectors, sequences)


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
        manifest: Summary = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError as exc:
        msg = f"{folder}: expected a finished training set with {MANIFEST}, found none"
        raise InvalidSettings(msg) from exc
    expected = {"feature_set_hash": FEATURE_SET_HASH, "sequence_hash": SEQUENCE_HASH}
    for name, value in expected.items():
        if manifest["request"][name] != value:
            msg = f"{folder}: expected {name} {value}, found {manifest['request'][name]}"
            raise InvalidSettings(msg + "; make the training set anew")
    return manifest
