"""Write to a model repository: add artefacts, keep evidence, append signed orders to the ledger.

One writer at a time, by a lock file. An entry is one write of one line, flushed to the disk before
anybody is told; a write that is cut off leaves a torn line, which every reader refuses.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings, ModelRefused
from fraudstream.models.ledger_entry import LedgerEntry, LedgerHead, Order
from fraudstream.models.promotion_rules import Standing
from fraudstream.models.repository import ModelRepository, check_signer
from fraudstream.signing import Signer

LOCK_FILE: Final = "ledger.lock"
_LOCK_TIMEOUT_S: Final = 30.0
_LOCK_POLL_S: Final = 0.02

# Makes an order from what the ledger says now.
MakeOrder = Callable[[Standing], Order]


@dataclass(frozen=True, slots=True)
class LedgerWriter:
    """Where one person signs orders for one repository.

    Attributes:
        repository: What is written to.
        signer: The person.
        seen: A head that the ledger must have had; None for none that is known.
    """

    repository: ModelRepository
    signer: Signer
    seen: LedgerHead | None = None

    def append(self, make_order: MakeOrder) -> Standing:
        """Sign an order, append it, and return what the ledger says after it.

        Raises:
            ModelRefused: The ledger does not hold together, the signer may not, or the rules
                forbid the order; nothing is written then.
            InvalidSettings: The repository cannot be written.
        """
        with _written(self.repository.folder):
            standing = self.repository.read(self.seen)
            order = make_order(standing)
            # Two clocks may differ; the ledger's time never goes back.
            time_ms = max(self.repository.clock_ms(), standing.time_ms)
            entry = LedgerEntry.sign(order, standing.head, time_ms, self.signer)
            check_signer(entry, self.repository.people)
            after = standing.after(entry)
            _append_line(self.repository.ledger, entry.line())
        return after

    def place_artefact(self, source: Path, place: Path) -> None:
        """Copy an artefact to its place, all of it or nothing, and make it read-only.

        Raises:
            ModelRefused: `MODEL_UNKNOWN`: another artefact is there already.
            InvalidSettings: The repository cannot be written.
        """
        with _written(self.repository.folder):
            fresh = place.with_name(f".{place.name}.{os.getpid()}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, fresh)
            for file in fresh.iterdir():
                file.chmod(0o444)
                _flush(file)
            if place.exists():
                is_same = _contents(place) == _contents(fresh)
                shutil.rmtree(fresh)
                if not is_same:
                    msg = f"{place}: another artefact has this name and version; take a new version"
                    raise ModelRefused("MODEL_UNKNOWN", msg)
                return
            fresh.rename(place)
            _flush(place.parent)

    def keep_evidence(self, content: bytes) -> tuple[str, Path]:
        """Keep evidence beside the ledger, whatever it says; return its SHA-256 and its file.

        Raises:
            InvalidSettings: The repository cannot be written.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        path = evidence_path(self.repository.folder, sha256)
        with _written(self.repository.folder):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            _flush(path)
        return sha256, path

    def check_evidence(self, sha256: str) -> None:
        """Refuse evidence that is missing or is not what was proposed.

        Raises:
            ModelRefused: `MODEL_PROPOSAL`.
        """
        path = evidence_path(self.repository.folder, sha256)
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as exc:
            msg = f"{path}: the evidence of the proposal cannot be read: {exc.strerror}"
            raise ModelRefused("MODEL_PROPOSAL", msg) from exc
        if found != sha256:
            raise ModelRefused("MODEL_PROPOSAL", f"{path}: the evidence was changed")


def evidence_path(folder: Path, sha256: str) -> Path:
    """Return the file of some evidence."""
    return folder / "evidence" / f"{sha256}.json"


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Hold the repository's lock, and wrap what its files refuse."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK_FILE).open("ab") as lock:
            _lock(lock.fileno())
            yield
    except OSError as exc:
        msg = f"{folder}: the repository cannot be written: {exc.strerror or exc}"
        raise InvalidSettings(msg) from exc


def _lock(handle: int) -> None:
    ends_at = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_at:
                raise
            time.sleep(_LOCK_POLL_S)
        else:
            return


def _append_line(path: Path, line: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        content = line + b"\n"
        if os.write(handle, content) != len(content):
            msg = "the disk took a part of the entry only"
            raise OSError(msg)
        os.fsync(handle)
    finally:
        os.close(handle)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Bring a file or a folder's list of names to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
