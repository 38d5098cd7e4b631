"""The offline kernels over the Handbook: rows a second, and how far they are from the floor.

One core. Cards, terminals and card labels are warm; the logs are prepared and the outputs reused,
so neither sorting nor fresh memory is in the figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from fraudstream.features.card_kernel import advance_cards, advance_states, empty_outputs
from fraudstream.features.catalogue import Entity
from fraudstream.features.entity_kernel import Readers, advance_shared, replay_shared
from fraudstream.features.history import History, shared_walk
from fraudstream.features.state import CARD_STATE, SHARED_STATE
from fraudstream.features.warm_up import warm_up
from loadtest.bench.cpu import spent
from loadtest.bench.figure import Plan, Sample, Sides, experiment, ratio
from loadtest.figures.features.floor_kernel import Floats, MovedBytes, touch_bytes, words_of
from loadtest.figures.handbook import first_rows, handbook_path, lacking_for_handbook
from loadtest.figures.table import figure
from training.simulator.histories import handbook_history

WARM_ROWS: Final = 800_000
ROWS: Final = 200_000
_US_PER_S: Final = 1_000_000

States = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _SharedPart:
    """The measured part of one shared entity's walk, and the states before it."""

    entity: Entity
    states: States
    log: tuple[Ints, States]
    readers: Readers

    @classmethod
    def of(cls, history: History, entity: Entity, wanted: Ints) -> Self:
        """Return the walk from the first wanted row on; what came before has been applied."""
        walk = shared_walk(history, entity, wanted, np.zeros(len(history.rows), np.int8))
        after, *others = walk.readers.columns
        begin = int(after[0])
        states = np.zeros(walk.states, SHARED_STATE)
        advance_shared(states, walk.log[0][:begin], walk.log[1][:begin])
        rest = (walk.log[0][begin:].copy(), walk.log[1][begin:].copy())
        return cls(entity, states, rest, Readers(after - begin, *others))


@experiment(
    figure("kernel_vs_floor", ratio("floor", "ours")),
    figure("offline_kernel_rows_per_s", lambda measured: _US_PER_S / measured["ours"]["cpu_us"]),
    needs=(lacking_for_handbook,),
)
def offline_kernel(plan: Plan) -> Iterator[Sides]:
    """Warm all states by rows of the Handbook; run the kernels, and the loop of the floor."""
    warm_up()
    warm, count = plan.rows(WARM_ROWS), plan.rows(ROWS)
    history = first_rows(handbook_history(handbook_path(plan.machine)).history, warm + count)
    bench = _Bench(history, warm)
    touch_bytes(*bench.floor_arguments())
    yield {"ours": bench.ours, "floor": bench.floor}


class _Bench:
    """All that the sides need, made once."""

    def __init__(self, history: History, warm: int) -> None:
        count = len(history.rows) - warm
        self._cards = np.zeros(int(history.card.max()) + 1, CARD_STATE)
        advance_states(self._cards, history.card[:warm], history.rows[:warm])
        self._card = np.ascontiguousarray(history.card[warm:])
        self._rows = history.rows[warm:].copy()
        self._terminal = np.ascontiguousarray(history.entities[Entity.TERMINAL][warm:])
        self._places = np.arange(count)
        self._outputs = empty_outputs(count)
        self._outputs[1].fill(0.0)
        wanted = np.arange(warm, warm + count)
        self._parts = [
            _SharedPart.of(history, entity, wanted) for entity in (Entity.CARD, Entity.TERMINAL)
        ]

    def ours(self) -> Sample:
        """Run the kernels over the rows, from the same states each time."""
        cards, shared = self._cards.copy(), [part.states.copy() for part in self._parts]

        def work() -> None:
            advance_cards(cards, self._card, self._rows, self._outputs, self._places)
            for part, states in zip(self._parts, shared, strict=True):
                replay_shared(part.entity, states, part.log, part.readers, self._outputs[0])

        return spent(work, len(self._rows))

    def floor_arguments(self) -> tuple[MovedBytes, tuple[Floats, Floats]]:
        """Return what `touch_bytes` takes: copies of the states, and the same rows and outputs."""
        labels, terminals = (part.states.copy() for part in self._parts)
        vectors, sequences = self._outputs
        moved = MovedBytes(
            cards=words_of(self._cards.copy()),
            terminals=words_of(terminals),
            labels=words_of(labels),
            card_of=self._card,
            terminal_of=self._terminal,
            rows=self._rows.view(np.int32).reshape(len(self._rows), -1),
        )
        return moved, (vectors, sequences.reshape(len(sequences), -1))

    def floor(self) -> Sample:
        """Move the same bytes."""
        arguments = self.floor_arguments()
        return spent(lambda: touch_bytes(*arguments), len(self._rows))
