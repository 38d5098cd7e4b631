"""Seeded runs: whoever the seed picks moves, effects fail, processes crash; then comes the calm."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from fraudstream.store.shard import Role
from services.scoring.settings import AnswerAfter
from tests.faults.loss import LossPlan
from tests.faults.memory_store import StoreServer
from tests.faults.promises import Promises, forked
from tests.faults.protocol_world import Body, ProtocolWorld, Shape, body_of, card_in
from tests.faults.stepping import Fate, Process, Schedule
from tests.faults.without import NOTHING, Without

_WORKERS: Final = {Role.CARD: ("card-0", "card-1"), Role.ENTITY: ("entity-0", "entity-1")}
_SCORERS: Final = ("scorer-0", "scorer-1")
_STORM_TURNS: Final = 350
_CALM_TURNS: Final = 3000
# After the first moment of rest: whoever still holds an old batch must have come to its end.
_AFTERWARDS_TURNS: Final = 100


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad a run is, in chances a turn or an effect.

    Attributes:
        fault: Of an effect to fail in one of its ways.
        crash: Of a process to crash.
        pause: Of a process to stand still or to go on.
        rebalance: Of partitions to change hands.
    """

    fault: float
    crash: float
    pause: float
    rebalance: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        broken: Promises that were not kept.
        forks: Ids of decisions that were made twice.
        exposed: Ids that were decided and not in the log when the store lost its writes.
        trail: All that happened.
    """

    broken: list[str]
    forks: set[str]
    exposed: frozenset[str]
    trail: list[str]

    @property
    def faults(self) -> list[str]:
        """Return what must not be: broken promises, and forks that no loss excuses."""
        forks = sorted(self.forks - self.exposed)
        return [*self.broken, *(f"decision {fork} forked" for fork in forks)]


class Storm:
    """One seeded run."""

    def __init__(
        self, seed: int, url: str, *, has_loss: bool = False, without: Without = NOTHING
    ) -> None:
        self._random = Random(seed)  # noqa: S311  # a test's dice
        self._loss = LossPlan(self._random, _STORM_TURNS) if has_loss else None
        pick = self._random
        self._weather = Weather(
            fault=pick.choice((0.0, 0.02, 0.08)),
            crash=pick.choice((0.0, 0.005, 0.02)),
            pause=pick.choice((0.0, 0.01, 0.03)),
            rebalance=pick.choice((0.0, 0.01, 0.03)),
        )
        shape = Shape(pick.choice((1, 2)), pick.choice((1, 2)), pick.choice(list(AnswerAfter)))
        self._is_calm = False
        schedule = Schedule(self._choose)
        self._server = StoreServer(url, f"storm{seed}", without.scripts)
        self.world = ProtocolWorld(self._server, shape, schedule, without.classes)
        self.world.poll_rows = lambda: pick.randint(1, 4)
        self.world.wants_beat = lambda: not self._is_calm and pick.random() < 0.2
        self.world.budget_s = lambda: 5.0 if self._is_calm else pick.choice((0.1, 0.5, 5.0))
        self.world.pick_scorer = pick.choice
        self._to_accept: list[Body] = []
        self._to_ask: list[Body] = []

    def _choose(self, _process: Process, _name: str, possible: tuple[Fate, ...]) -> Fate:
        if self._is_calm or self._random.random() >= self._weather.fault:
            return Fate.OK
        return self._random.choice(possible)

    def _plan(self) -> None:
        """Make up what is sent, and by which door."""
        pick = self._random
        cards = [card_in(p, self.world.shape.cards) for p in range(self.world.shape.cards)]
        for transaction in range(pick.randint(3, 7)):
            card = pick.choice(cards)
            first, other = (body_of(2 * transaction + n, transaction, card) for n in (0, 1))
            rows, asked = pick.choice(_PLANS)
            for plan, chunk in ((rows, self._to_accept), (asked, self._to_ask)):
                chunk += [(first, other)[int(place)] for place in plan]
        pick.shuffle(self._to_accept)
        pick.shuffle(self._to_ask)

    async def run(self) -> Outcome:
        """Run to rest, and look at what is left."""
        try:
            await self._start()
            for turn in range(_STORM_TURNS):
                if self._loss:
                    self._loss.tick(self.world, turn)
                await self._disturb()
                await self._move()
            await self._calm_down()
            exposed = self._loss.exposed if self._loss else frozenset()
            broken = Promises(self.world, exposed).broken()
            return Outcome(broken, forked(self.world), exposed, self.world.schedule.trail)
        finally:
            self.world.end()

    async def _start(self) -> None:
        self._plan()
        for role, names in _WORKERS.items():
            for name in names:
                await self.world.start_worker(name, role)
            self._rebalance(role)
        for name in _SCORERS:
            await self.world.start_scorer(name)
        await self.world.schedule.settle()

    async def _move(self) -> None:
        """Give one turn to somebody, or let a row or a call arrive."""
        pick, world = self._random, self.world
        steps = [step for step in world.schedule.waiting if not step.process.is_paused]
        arrivals = len(self._to_accept) + len(self._to_ask)
        if arrivals and pick.random() < (0.5 if self._is_calm else 0.04):
            self._arrive(pick.randrange(arrivals))
        if steps:
            await world.schedule.release(pick.choice(steps))
        else:
            await world.schedule.settle()

    def _arrive(self, place: int) -> None:
        if place < len(self._to_accept):
            self.world.accept(self._to_accept.pop(place))
        else:
            body = self._to_ask.pop(place - len(self._to_accept))
            self.world.ask(f"caller-{len(self.world.callers)}", body)

    async def _disturb(self) -> None:
        pick, weather = self._random, self._weather
        name, process = pick.choice(sorted(self.world.services().items()))
        if pick.random() < weather.crash:
            self.world.schedule.crash(process)
            if pick.random() < 0.5:
                await self._restart(name)
        if pick.random() < weather.pause:
            process.is_paused = not process.is_paused
        if pick.random() < weather.rebalance:
            self._rebalance(pick.choice(list(_WORKERS)))

    async def _restart(self, name: str) -> None:
        if name in _SCORERS:
            await self.world.start_scorer(name)
            return
        role = next(role for role, names in _WORKERS.items() if name in names)
        await self.world.start_worker(name, role)
        self._rebalance(role)

    def _rebalance(self, role: Role) -> None:
        """Deal the partitions of a topic out again."""
        count = self.world.groups[role].partitions
        living = [n for n in _WORKERS[role] if not self.world.workers[n].process.is_dead]
        if living:
            self.world.assign(role, {p: self._random.choice(living) for p in range(count)})

    async def _calm_down(self) -> None:
        """End all faults, and let everybody work until nothing is left to do."""
        self._is_calm = True
        for name, process in sorted(self.world.services().items()):
            process.is_paused = False
            if process.is_dead:
                await self._restart(name)
        for _ in range(2):
            for role in _WORKERS:
                self._rebalance(role)
            await self._rest()

    async def _rest(self) -> None:
        for turn in range(_CALM_TURNS):
            await self._move()
            is_done = not self._to_accept and not self._to_ask
            if turn % 25 == 0 and is_done and self.world.is_quiet():
                break
        for _ in range(_AFTERWARDS_TURNS):
            await self._move()


# Rows of the accepted log, then calls at the door: 0 is the first body of an id, 1 the other one.
_PLANS: Final = (
    ("0", ""),
    ("00", ""),
    ("01", ""),
    ("", "0"),
    ("", "00"),
    ("0", "0"),
    ("00", "0"),
    ("01", "0"),
    ("10", "0"),
    ("1", "0"),
    ("0", "01"),
    ("01", "01"),
    ("011", "0"),
)
