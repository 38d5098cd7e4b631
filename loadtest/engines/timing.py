"""Rows a second of several engines, interleaved: what slows the machine slows them all.

A slot runs one engine for a fixed time, from NumPy arrays to NumPy arrays with all copies, over
several sets of rows. Rounds of slots begin with another engine each time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fraudstream.engines.protocol import Engine, FloatArray
from loadtest.engines.networks import sample_rows

_INPUT_SETS: Final = 4
_WARM_UP_RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class Effort:
    """Slots of each engine and batch size, and how long each is."""

    rounds: int
    slot_s: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Rows a second: median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float


def time_engines(engines: Mapping[str, Engine], batch: int, effort: Effort) -> dict[str, Speed]:
    """Return how fast each engine scores batches of so many rows."""
    inputs = [sample_rows(batch, seed) for seed in range(_INPUT_SETS)]
    for engine in engines.values():
        for rows in inputs[:_WARM_UP_RUNS]:
            engine.score(*rows)
    names = list(engines)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(effort.rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(batch * _runs_a_second(engines[name], inputs, effort.slot_s))
    return {
        name: Speed(statistics.median(speeds), min(speeds), max(speeds))
        for name, speeds in found.items()
    }


def _runs_a_second(
    engine: Engine, inputs: list[tuple[FloatArray, FloatArray]], slot_s: float
) -> float:
    runs = 0
    began_s = now_s = time.perf_counter()
    while now_s - began_s < slot_s:
        engine.score(*inputs[runs % len(inputs)])
        runs += 1
        now_s = time.perf_counter()
    return runs / (now_s - began_s)
