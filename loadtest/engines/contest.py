"""One network, all engines: open each, hold it to the golden rows, then time those that passed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fraudstream.engines.protocol import GOLDEN_TOLERANCE, Engine, Precision, score_rows
from fraudstream.errors import ModelRefused
from loadtest.engines.contestants import EAGER, Contestant
from loadtest.engines.networks import Subject
from loadtest.engines.timing import Effort, Speed, time_engines

BATCHES: Final = (1, 64, 1024)

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """What came of one contestant, or why it was skipped.

    To open means to open, build and score the golden rows; speeds are by batch size.
    """

    name: str
    precision: Precision
    skipped: str = ""
    version: str = ""
    open_s: float = 0.0
    golden_worst: float = float("nan")
    speeds: dict[int, Speed] = field(default_factory=dict)


def hold_contest(
    subject: Subject, contestants: Sequence[Contestant], effort: Effort, *, is_gpu: bool
) -> list[Entry]:
    """Return an entry for each contestant, in their order."""
    entries: list[Entry] = []
    opened: dict[str, tuple[Entry, Engine]] = {}
    for each in contestants:
        entry = Entry(each.name, each.precision)
        entries.append(entry)
        engine = _open(each, subject, entry, is_gpu=is_gpu)
        if engine is not None:
            opened[f"{each.name} {each.precision}"] = (entry, engine)
    for batch in BATCHES if opened else ():
        engines = {name: engine for name, (_, engine) in opened.items()}
        for name, speed in time_engines(engines, batch, effort).items():
            opened[name][0].speeds[batch] = speed
    for _, engine in opened.values():
        engine.close()
    return entries


def best_vs_eager(entries: Sequence[Entry], batch: int) -> float | None:
    """Return the best engine's speed / PyTorch eager's, the faster of its precisions.

    >>> speeds = [Entry(EAGER, Precision.FP32), Entry("tensorrt", Precision.FP16)]
    >>> speeds[0].speeds[64], speeds[1].speeds[64] = Speed(2, 2, 2), Speed(5, 4, 6)
    >>> best_vs_eager(speeds, 64)
    2.5
    """
    found = [entry for entry in entries if entry.speeds and entry.name == EAGER]
    eager = [entry.speeds[batch].median for entry in found]
    best = best_speed(entries, batch)
    return best / max(eager) if eager and best else None


def best_speed(entries: Sequence[Entry], batch: int) -> float:
    """Return the rows a second of the fastest engine that is not PyTorch eager; 0 for none."""
    others = [entry for entry in entries if entry.speeds and entry.name != EAGER]
    return max((entry.speeds[batch].median for entry in others), default=0.0)


def _open(each: Contestant, subject: Subject, entry: Entry, *, is_gpu: bool) -> Engine | None:
    """Return the engine, checked; None where it takes no part, with the reason in its entry."""
    if each.is_gpu and not is_gpu:
        entry.skipped = "it is timed with --gpu only"
        return None
    began_s = time.perf_counter()
    try:
        engine = each.open(subject)
        entry.version = engine.version
        entry.golden_worst = _worst(engine, subject)
        if not entry.golden_worst <= GOLDEN_TOLERANCE[each.precision]:
            msg = f"golden rows differ by {entry.golden_worst:.1e}"
            raise ModelRefused("MODEL_GOLDEN", msg)  # noqa: TRY301  # a skip like all others
    except Exception as exc:  # noqa: BLE001  # one engine that breaks does not end the others
        _LOG.info("%s", exc, exc_info=True)
        entry.skipped = f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"
        return None
    entry.open_s = time.perf_counter() - began_s
    return engine


def _worst(engine: Engine, subject: Subject) -> float:
    """Return the largest distance from the golden rows, in each batch size that is timed."""
    golden = subject.golden
    scores = [score_rows(engine, golden.vectors, golden.sequences, batch) for batch in BATCHES]
    return float(max(np.max(np.abs(found - golden.raw_scores)) for found in scores))
