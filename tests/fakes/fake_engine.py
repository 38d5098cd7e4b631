"""A working engine of plain numpy, for what stands around engines."""

from __future__ import annotations

from threading import Event, Lock, get_ident

from fraudstream.engines.protocol import BUCKETS, FloatArray
from fraudstream.errors import ModelNotLoaded


class FakeEngine:
    """Scores a row by its first number; remembers batch sizes; waits at a gate if told to.

    Attributes:
        changes: Version and buckets of what computes the next batches, one after another.
        turns: A list to write each batch into, and how.
        threads: Which thread ran each batch.
    """

    def __init__(self) -> None:
        self.version = "numpy"
        self.buckets: tuple[int, ...] = BUCKETS
        self.is_cpu = True
        self.changes: list[tuple[str, tuple[int, ...]]] = []
        self.sizes: list[int] = []
        self.threads: list[int] = []
        self.gate = Event()
        self.gate.set()
        self.is_failing = False
        self.is_closed = False
        self.turns: tuple[list[str], str] | None = None
        self._lock = Lock()

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return the first number of each row."""
        self.gate.wait()
        if self.turns is not None:
            self.turns[0].append(self.turns[1])
        if self.changes:
            self.version, self.buckets = self.changes.pop(0)
        with self._lock:
            self.sizes.append(len(vectors))
            self.threads.append(get_ident())
        if self.is_failing:
            msg = "out of order"
            raise ModelNotLoaded(msg)
        return vectors[:, 0].copy()

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True
