"""The offline kernel over the Handbook's rows, against a loop that only moves the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from demo.settings import MachineSettings
from fraudstream.features.catalogue import Entity
from fraudstream.features.codec import CARD_VALUE
from fraudstream.features.history import History
from fraudstream.features.kernel import advance_cards, empty_outputs
from fraudstream.features.shared_kernel import Readers, replay_shared
from fraudstream.features.state import CARD_STATE, ROW, SHARED_ROW, SHARED_STATE
from loadtest.bench.figure import Figure, Plan, Round, Sample, Side
from training.histories import handbook_history

HANDBOOK_FILE: Final = "handbook_2018.parquet"
_ROWS: Final = 300_000
_BEGIN_MS: Final = 1_700_000_000_000


def lacking_for_handbook(machine: MachineSettings) -> str:
    """Return why the Handbook's data cannot be read, empty where they can."""
    folder = machine.fraud_data_dir
    if folder is None or not (folder / HANDBOOK_FILE).is_file():
        return f"FRAUD_DATA_DIR does not name a folder with {HANDBOOK_FILE}"
    return ""


def handbook_of(machine: MachineSettings, rows: int) -> History:
    """Return the Handbook's first rows."""
    history = handbook_history((machine.fraud_data_dir or Path()) / HANDBOOK_FILE).history
    return History(
        history.rows[:rows],
        history.card[:rows],
        history.arrival_ms[:rows],
        {entity: numbers[:rows] for entity, numbers in history.entities.items()},
        history.labels,
    )


@njit(nogil=True, cache=True)
def _move_bytes(cards, card_of, terminals, terminal_of, vectors, sequences):  # type: ignore[no-untyped-def]  # Numba infers
    """Read and write what a row reads and writes: both states, its vector and its sequence."""
    for position in range(card_of.shape[0]):
        card = cards[card_of[position]]
        total = np.uint64(0)
        for place in range(card.shape[0]):
            total += card[place]
            card[place] = total
        if terminal_of[position] >= 0:
            terminal = terminals[terminal_of[position]]
            for place in range(terminal.shape[0]):
                total += terminal[place]
                terminal[place] = total
        value = np.float32(total & np.uint64(0xFF))
        vectors[position, :] = value
        sequences[position, :] = value


@dataclass(frozen=True, slots=True)
class _Room:
    """What both sides write, made once, so that neither pays for fresh memory."""

    vectors: npt.NDArray[np.float32]
    sequences: npt.NDArray[np.float32]


class OfflineKernel:
    """Rows a second of the whole catalogue on one core, and their share of the floor's."""

    figures = (
        Figure(
            "kernel_vs_floor",
            "offline kernel, whole catalogue / a loop that only reads and writes the same bytes",
            "ratio",
            must=0.25,
            aim=0.5,
        ),
        Figure(
            "offline_kernel_rows_per_s",
            "offline kernel, whole catalogue, one core",
            "rows/s",
            must=300_000.0,
            aim=1_000_000.0,
        ),
    )

    def __init__(self, machine: MachineSettings) -> None:
        self._machine = machine

    def lacking(self) -> str:
        """Return why this machine cannot run it, empty where it can."""
        return lacking_for_handbook(self._machine)

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Read the rows, compile both sides and run each once."""
        history = handbook_of(self._machine, plan.rows(_ROWS))
        room = _Room(*empty_outputs(len(history.rows)))
        room.sequences[:] = 0
        sides: dict[str, Side] = {
            "ours": lambda: _ours(history, room),
            "floor": lambda: _floor(history, room),
        }
        for side in sides.values():
            side()
        yield sides

    def values(self, measured: Round) -> dict[str, float]:
        """Return both figures of one round, in CPU time of the one thread."""
        ours, floor = measured["ours"]["rows_per_s"], measured["floor"]["rows_per_s"]
        return {
            "kernel_vs_floor": ours / floor,
            "offline_kernel_rows_per_s": ours,
            "floor_rows_per_s": floor,
        }


def _ours(history: History, room: _Room) -> Sample:
    """Advance all cards, then every entity with its labels: what a training set computes."""
    rows = history.rows
    places = np.arange(len(rows))
    terminal = history.entities[Entity.TERMINAL]
    cards = np.zeros(int(history.card.max()) + 1, CARD_STATE)
    shared = np.zeros(int(terminal.max()) + 1, SHARED_STATE)
    card_labels = np.zeros(len(cards), SHARED_STATE)
    log = np.zeros(len(rows), SHARED_ROW)
    for name in ("event_ms", "amount", "kind"):
        log[name] = rows[name]
    readers = (rows["event_ms"].copy(), rows["amount"].copy(), places)
    began, began_cpu = time.perf_counter(), time.thread_time()
    unusual = advance_cards(cards, history.card, rows, (room.vectors, room.sequences), places)
    log["is_unusual"] = unusual
    replay_shared(
        Entity.TERMINAL, shared, (terminal, log), Readers(places, terminal, *readers), room.vectors
    )
    none = np.zeros(len(rows), np.int64)
    replay_shared(
        Entity.CARD,
        card_labels,
        (none[:0], log[:0]),
        Readers(none, history.card, *readers),
        room.vectors,
    )
    return _sample(len(rows), began, began_cpu)


def _floor(history: History, room: _Room) -> Sample:
    terminal = history.entities[Entity.TERMINAL]
    cards = np.zeros((int(history.card.max()) + 1, CARD_STATE.itemsize // 8), np.uint64)
    terminals = np.zeros((int(terminal.max()) + 1, SHARED_STATE.itemsize // 8), np.uint64)
    sequences = room.sequences.reshape(len(history.rows), -1)
    began, began_cpu = time.perf_counter(), time.thread_time()
    _move_bytes(cards, history.card, terminals, terminal, room.vectors, sequences)
    return _sample(len(history.rows), began, began_cpu)


def _sample(rows: int, began: float, began_cpu: float) -> Sample:
    cpu_s = time.thread_time() - began_cpu
    return {"rows_per_s": rows / cpu_s, "wall_s": time.perf_counter() - began, "cpu_s": cpu_s}


class StateSizes:
    """Bytes that the store holds of a card and of a shared entity."""

    figures = (
        Figure(
            "state_bytes_per_card",
            "stored value of a card: state, 32 transactions, last vector",
            "bytes",
            must=4_096.0,
            aim=2_048.0,
            is_cost=True,
        ),
        Figure(
            "state_bytes_per_shared_entity",
            "stored value of a shared entity, labels included",
            "bytes",
            must=1_024.0,
            aim=768.0,
            is_cost=True,
        ),
    )

    def lacking(self) -> str:
        """Return the empty text: any machine can tell."""
        return ""

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Yield the one side: the layouts."""
        del plan
        card, shared = float(CARD_VALUE.itemsize), float(SHARED_STATE.itemsize)
        yield {"layout": lambda: {"card": card, "shared": shared}}

    def values(self, measured: Round) -> dict[str, float]:
        """Return both sizes."""
        sizes = measured["layout"]
        return {
            "state_bytes_per_card": sizes["card"],
            "state_bytes_per_shared_entity": sizes["shared"],
        }


class CardGrowth:
    """What a transaction costs with a million cards, against ten thousand."""

    figures = (
        Figure(
            "cost_growth_10k_to_1m_cards",
            "kernel CPU per transaction: a million cards / ten thousand, cards drawn at random",
            "ratio",
            must=1.3,
            aim=1.1,
            is_cost=True,
        ),
    )

    def lacking(self) -> str:
        """Return the empty text: it needs 3 GB of memory and nothing else."""
        return ""

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Fill the states of both populations with a month, then measure the next rows."""
        rows = plan.rows(100_000)
        yield {
            "few": _population(plan.rows(10_000), rows),
            "many": _population(plan.rows(1_000_000), rows),
        }

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of one round."""
        few, many = measured["few"]["cpu_us"], measured["many"]["cpu_us"]
        return {"cost_growth_10k_to_1m_cards": many / few, "few cpu_us": few, "many cpu_us": many}


def _population(cards: int, count: int) -> Side:
    """Return a side that walks rows of random cards through states that are all in use."""
    rng: Any = np.random.default_rng(cards)
    states = np.zeros(cards, CARD_STATE)
    rows = np.zeros(count, ROW)
    rows["kind"], rows["amount"] = 1, rng.integers(100, 20_000, count)
    rows["event_ms"] = _BEGIN_MS + np.arange(count) * 1_000
    every = np.arange(cards)
    first = np.zeros(cards, ROW)
    first["kind"], first["amount"], first["event_ms"] = 1, 1_000, _BEGIN_MS - 3_600_000
    advance_cards(states, every, first, empty_outputs(0), np.full(cards, -1, np.int64))
    outputs = empty_outputs(count)
    outputs[1][:] = 0

    def run() -> Sample:
        card = rng.integers(0, cards, count)
        began = time.thread_time()
        advance_cards(states, card, rows, outputs, np.arange(count))
        return {"cpu_us": (time.thread_time() - began) / count * 1e6}

    return run
