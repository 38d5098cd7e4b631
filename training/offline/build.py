"""One training set from request to `_dataset.json`: made, gone on with, or found finished."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_NAMES,
    SEQUENCE_CHANNELS,
)
from fraudstream.settings import KafkaSettings
from training.offline.labelled import describe_labels
from training.offline.layout import MOST_SHARDS, SHARD_ROWS
from training.offline.plan import KAFKA, Content, Found, Plan, Request, Unit
from training.offline.progress import show_progress
from training.offline.source.files import find_files
from training.offline.source.kafka_log import find_logs
from training.offline.stages.tasks import open_pool, run_stages
from training.offline.work import WORK_FOLDER, Summary, read_json, write_json

# Readers of a folder of Parquet files leave out what begins with an underscore.
MANIFEST: Final = "_dataset.json"
_FORMER_MANIFEST: Final = "dataset.json"
_LIBRARIES: Final = ("numpy", "numba", "pyarrow")


def make_dataset(request: Request, folder: Path, processes: int) -> Summary:
    """Make a training set, or go on with one that was begun with the same request.

    Args:
        request: What it holds.
        folder: Where it goes.
        processes: How many work at once.

    Returns:
        What `_dataset.json` says.

    Raises:
        InvalidSettings: The folder holds another set, the source is not as expected, or another
            process is at work in the folder.
        BrokerUnavailable: Kafka does not answer.
    """
    finished = read_json(manifest_path(folder))
    found = _find(request)
    asked = request.describe() | {"fingerprint": found.fingerprint}
    if finished is not None:
        _check_same(folder, asked, finished["request"])
        return finished
    with _locked(folder):
        shards = request.shards or _shards_for(found, processes)
        plan = Plan(folder, request, found.is_log, found.has_decisions, shards, request.is_own)
        plan, found = _begin(plan, asked, found)
        with show_progress() as progress, open_pool(plan, processes, progress) as pool:
            made = run_stages(plan, found, pool)
        _check_labels(request, made["counts"])
        manifest = _manifest(request, asked, made)
        write_json(folder / MANIFEST, manifest)
        shutil.rmtree(plan.work)
    return manifest


def manifest_path(folder: Path) -> Path:
    """Return where a set says what it is; sets of earlier releases have a name of their own."""
    former = folder / _FORMER_MANIFEST
    return former if former.is_file() else folder / MANIFEST


def _find(request: Request) -> Found:
    if request.source == KAFKA:
        if request.labels:
            raise InvalidSettings("--labels: the labels of a log are in the log; leave it out")
        return find_logs(KafkaSettings.read())
    return find_files(request)


def _shards_for(found: Found, processes: int) -> int:
    return max(processes, min(-(-found.rows // SHARD_ROWS), MOST_SHARDS))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the work folder: two runs at once would undo each other's files."""
    work = folder / WORK_FOLDER
    work.mkdir(parents=True, exist_ok=True)
    lock = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise InvalidSettings(f"{folder}: another process is making this training set") from exc
        yield
    finally:
        os.close(lock)


def _begin(plan: Plan, asked: Summary, found: Found) -> tuple[Plan, Found]:
    """Keep what was asked and found, or return what an earlier run of the same request kept."""
    path = plan.work / "plan.json"
    kept = read_json(path)
    if kept is None:
        write_json(path, {"request": asked, "shards": plan.shards, "found": asdict(found)})
        return plan, found
    _check_same(plan.folder, asked, kept["request"])
    units = tuple(
        Unit(**unit | {"content": Content(unit["content"])}) for unit in kept["found"]["units"]
    )
    return replace(plan, shards=kept["shards"]), replace(found, units=units)


def _check_same(folder: Path, asked: Summary, kept: Summary) -> None:
    differing = sorted(name for name in asked if asked[name] != kept.get(name))
    if differing:
        name = differing[0]
        msg = (
            f"{folder} holds a training set made with another {name}: expected {asked[name]!r},"
            f" found {kept.get(name)!r}; choose another --out or remove the folder"
        )
        raise InvalidSettings(msg)


def _check_labels(request: Request, counts: Summary) -> None:
    """Refuse a label file none of whose labels is about a transaction of the source."""
    if request.labels and 0 < counts["labels"] == counts["labels_without_transaction"]:
        msg = (
            f"{request.labels}: none of its {counts['labels']} labels is about a transaction of"
            f" {request.source}: expected the same bank_id, card_token and transaction_id in both"
            f" (a file without bank_id is of the bank `bank`)"
        )
        raise InvalidSettings(msg)


def _manifest(request: Request, asked: Summary, made: Summary) -> dict[str, Any]:
    return {
        "request": asked,
        "features": [
            {"name": name, "hash": f"{number:016x}"}
            for name, number in zip(FEATURE_NAMES, FEATURE_HASHES, strict=True)
        ],
        "sequence": {"steps": asked["steps"], "channels": list(SEQUENCE_CHANNELS)},
        "counts": made["counts"],
        "labels": describe_labels(made, request),
        "parts": made["parts"],
        "versions": {name: version(name) for name in _LIBRARIES},
    }
