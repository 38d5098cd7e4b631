"""A GPU engine where there is one that works, and the CPU engine until and unless there is.

The CPU engine serves from the first row. Meanwhile a thread opens the other one (which may build it
for minutes), and the batch after that goes there. A batch that it fails on is scored by the CPU at
once, which serves until the thread has opened it again. `version` says who computed the last batch.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Final

from fraudstream.engines.protocol import Engine, FloatArray, score_rows
from fraudstream.errors import EngineFailed, InvalidSettings, ModelNotLoaded, ModelRefused

FALLBACK_MARK: Final = "+fallback"
"""Ends the version of an engine that serves instead of the one that was ordered."""

_CLOSE_S: Final = 5.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retries:
    """How long to wait before an engine is opened again, seconds.

    Attributes:
        first_s: After the first failure; doubled by each one that follows.
        most_s: At most, and how long an engine must have served to be trusted again.
    """

    first_s: float = 1.0
    most_s: float = 300.0


class Backoff:
    """Waits that double, until an engine has served long enough.

    >>> backoff = Backoff(Retries(first_s=1.0, most_s=3.0))
    >>> [backoff.next_s(), backoff.next_s(), backoff.next_s()]
    [1.0, 2.0, 3.0]
    >>> backoff.note_service(4.0)
    >>> backoff.next_s()
    1.0
    """

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._next_s = retries.first_s

    def next_s(self) -> float:
        """Return how long to wait now; the next wait is longer."""
        now_s = self._next_s
        self._next_s = min(2 * now_s, self._retries.most_s)
        return now_s

    def note_service(self, served_s: float) -> None:
        """Begin with short waits again after a long service."""
        if served_s >= self._retries.most_s:
            self._next_s = self._retries.first_s


@dataclass(frozen=True, slots=True)
class EngineChange:
    """Another engine serves from now on, or none of the two.

    Attributes:
        is_fallback: Whether it is not the one that was ordered.
        reason: `OPENED`, `GPU_MEMORY`, `CLOSED` and the like; bounded, for a metric.
    """

    is_fallback: bool
    reason: str


class FallbackEngine:
    """Two engines as one. Call `score` from one thread at a time."""

    def __init__(
        self,
        cpu: Engine,
        open_ordered: Callable[[], Engine],
        report: Callable[[EngineChange], None],
        retries: Retries = Retries(),  # it is frozen
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to open the ordered engine.

        Args:
            cpu: Serves meanwhile; its batch sizes divide those of the ordered engine.
            open_ordered: Opens the ordered engine, checked and warm; runs in a thread of its own.
            report: Told of each change, in the thread that saw it.
            retries: How often to open it again.
            clock_s: Seconds that only rise.
        """
        self._cpu = cpu
        self._ordered: Engine | None = None
        self._report = report
        self._ready: SimpleQueue[Engine] = SimpleQueue()
        self._failed: SimpleQueue[Engine | None] = SimpleQueue()
        self._opener = _Opener(open_ordered, self._ready, self._failed, retries, clock_s)
        report(EngineChange(is_fallback=True, reason="NOT_OPENED"))
        self._opener.start()

    @property
    def version(self) -> str:
        """Return what computed the last batch; marked where it is not what was ordered."""
        if self._ordered is None:
            return self._cpu.version + FALLBACK_MARK
        return self._ordered.version

    @property
    def buckets(self) -> tuple[int, ...]:
        """Return the batch sizes of the engine that serves now."""
        return self._cpu.buckets if self._ordered is None else self._ordered.buckets

    @property
    def is_cpu(self) -> bool:
        """Return whether a CPU serves now."""
        return (self._ordered or self._cpu).is_cpu

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B].

        Raises:
            ModelNotLoaded: The CPU engine failed too.
        """
        if self._ordered is None:
            self._take_ready()
        if self._ordered is not None:
            try:
                return self._ordered.score(vectors, sequences)
            except ModelNotLoaded as exc:
                self._fall_back(self._ordered, exc)
        size = min(len(vectors), self._cpu.buckets[-1])
        return score_rows(self._cpu, vectors, sequences, size)

    def wait_tried(self) -> None:
        """Return when the ordered engine is open, or did not open at the first try.

        A model that takes another's place waits for it: the other one's engine serves meanwhile.
        """
        self._opener.wait_tried()

    def close(self) -> None:
        """Give back what both engines hold, after the last batch."""
        if self._ordered is None:
            self._report(EngineChange(is_fallback=False, reason="CLOSED"))
        self._ordered = None
        self._opener.close()
        self._cpu.close()

    def _take_ready(self) -> None:
        """Change over to the ordered engine, if it was opened since the last batch."""
        try:
            self._ordered = self._ready.get_nowait()
        except Empty:
            return
        _LOG.warning("the engine %s serves from now on", self._ordered.version)
        self._report(EngineChange(is_fallback=False, reason="OPENED"))

    def _fall_back(self, failed: Engine, exc: ModelNotLoaded) -> None:
        self._ordered = None
        _LOG.error("the engine %s failed, %s serves: %s", failed.version, self.version, exc)
        self._report(EngineChange(is_fallback=True, reason=_reason_of(exc)))
        self._failed.put(failed)


class _Opener:
    """The thread that opens the ordered engine, again and again."""

    def __init__(
        self,
        open_ordered: Callable[[], Engine],
        ready: SimpleQueue[Engine],
        failed: SimpleQueue[Engine | None],
        retries: Retries,
        clock_s: Callable[[], float],
    ) -> None:
        self._open_ordered = open_ordered
        self._ready = ready
        self._failed = failed
        self._backoff = Backoff(retries)
        self._clock_s = clock_s
        self._last_fault = ""
        self._closing = Event()
        self._has_tried = Event()
        # A build can take minutes and cannot be stopped: it does not hold up the end.
        self._thread = Thread(target=self._run, name="engine-opener", daemon=True)

    def start(self) -> None:
        """Begin to open."""
        self._thread.start()

    def wait_tried(self) -> None:
        """Return after the first try."""
        self._has_tried.wait()

    def close(self) -> None:
        """End, and close the engine that was opened."""
        self._closing.set()
        self._failed.put(None)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            self._open_again_and_again()
        finally:
            self._has_tried.set()

    def _open_again_and_again(self) -> None:
        while (opened := self._open()) is not None:
            began_s = self._clock_s()
            self._ready.put(opened)
            self._has_tried.set()
            failed = self._failed.get()
            opened.close()
            if failed is None:
                return
            self._backoff.note_service(self._clock_s() - began_s)
            self._closing.wait(self._backoff.next_s())

    def _open(self) -> Engine | None:
        """Return the engine; None where it is of no use to try again."""
        while not self._closing.is_set():
            try:
                return self._open_ordered()
            except (ModelRefused, InvalidSettings) as exc:
                _LOG.error("the ordered engine cannot serve this model: %s", exc)
                return None
            except ModelNotLoaded as exc:
                self._complain(exc)
            except Exception:  # noqa: BLE001  # this thread's outermost loop: no end in silence
                _LOG.exception("the ordered engine broke while it was opened, the CPU stays")
                return None
            self._has_tried.set()
            self._closing.wait(self._backoff.next_s())
        return None

    def _complain(self, exc: ModelNotLoaded) -> None:
        """Say why it does not open, once for each reason."""
        if _reason_of(exc) != self._last_fault:
            _LOG.error("cannot open the configured GPU engine, will retry: %s", exc)
        self._last_fault = _reason_of(exc)


def _reason_of(exc: ModelNotLoaded) -> str:
    return exc.reason if isinstance(exc, EngineFailed) else "ENGINE_FAILED"
