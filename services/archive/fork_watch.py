"""Count decisions that differ from an earlier one of their identity: forks.

The archive reads every decision anyway. It remembers what about the last million said, by identity
(16 MB), and at a start reads the newest files of a partition back, so that a restart forgets
nothing of them. A copy of a decision says the same and is no fork; timings are not compared.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.archive.files import ArchiveFile
from fraudstream.telemetry.metrics import DECISION_FORKS

_LOG: Final = logging.getLogger(__name__)

# A later decision takes the slot of an earlier one of another identity, so that memory is bounded.
_SLOTS: Final = 1 << 20
_MASK: Final = (1 << 64) - 1
# Of a partition, at a start.
_ROWS_READ_BACK: Final = 50_000
_SAID: Final = (
    "decision_id",
    "digest",
    "action",
    "score",
    "model_hash",
    "rule_set_hash",
    "stand_in",
)


class ForkWatch:
    """Remembers what decisions said, for all partitions of one worker."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._ids = array("Q", bytes(8 * _SLOTS))
        self._contents = array("Q", bytes(8 * _SLOTS))
        self._looked_to: dict[str, int] = {}

    def read_back(self, name: str, files: Sequence[ArchiveFile]) -> None:
        """Remember the newest decisions of a partition's files; what cannot be read is left out.

        Args:
            name: Of the partition.
            files: In the order of the log.
        """
        tables: list[pa.Table] = []
        for file in reversed(files):
            if sum(table.num_rows for table in tables) >= _ROWS_READ_BACK:
                break
            try:
                tables.append(pq.ParquetFile(file.path).read(columns=list(_SAID)))
            except (OSError, pa.ArrowException) as exc:
                _LOG.warning("%s: forks of what %s holds are not seen: %s", name, file.path, exc)
        for table in reversed(tables):
            for identity, content in _said(table):
                self._is_fork(identity, content)
        ends = (file.last + 1 for file in files[-1:])
        self._looked_to[name] = max(self._looked_to.get(name, 0), *ends, 0)

    def look(self, name: str, batch: pa.RecordBatch) -> None:
        """Count and report the forks among decisions of a partition; each offset is looked at once.

        Args:
            name: Of the partition.
            batch: Columns of decisions, in the order of the log.
        """
        looked_to = self._looked_to.get(name, 0)
        offsets = batch["log_offset"].to_pylist()
        forks = [
            offset
            for offset, (identity, content) in zip(offsets, _said(batch), strict=True)
            if offset >= looked_to and self._is_fork(identity, content)
        ]
        self._looked_to[name] = max([looked_to, *(offset + 1 for offset in offsets)])
        if forks:
            DECISION_FORKS.inc(len(forks))
            _LOG.error(
                "%s: %d decisions differ from an earlier one of their transaction, at offsets %s%s."
                " The earlier one counts. The store lost writes, or something else than scoring"
                " writes to the topic",
                name,
                len(forks),
                ", ".join(map(str, forks[:10])),
                " and more" if len(forks) > 10 else "",
            )

    def _is_fork(self, identity: int, content: int) -> bool:
        """Return whether another content is known of an identity; the first one stays."""
        slot = identity % _SLOTS
        if self._ids[slot] == identity:
            return self._contents[slot] != content
        self._ids[slot], self._contents[slot] = identity, content
        return False


def _said(columns: pa.RecordBatch | pa.Table) -> Iterator[tuple[int, int]]:
    """Yield hashes of identity and content of each decision."""
    lists: Iterable[list[Any]] = (columns[name].to_pylist() for name in _SAID)
    for decision_id, *content in zip(*lists, strict=True):
        yield hash(decision_id) & _MASK, hash(tuple(content)) & _MASK
