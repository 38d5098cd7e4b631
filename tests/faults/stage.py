"""A small world for one trace: who moves, and which effect fails, is told step by step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from fraudstream.features.stored_values import CARD
from fraudstream.store.generations import Generations, Switch
from fraudstream.store.shard import Marker, Role, ShardRef
from fraudstream.store.shard_store import RECORD_LIFE_S, StateStore, StoredValue
from tests.faults.memory_store import StoreServer
from tests.faults.processes import Scorer, Worker
from tests.faults.promises import Promises
from tests.faults.protocol_world import Body, ProtocolWorld, Shape, body_of, card_in, run_stepped
from tests.faults.stepping import Fate, Process, Schedule
from tests.faults.without import NOTHING, Without

_CARD: Final = card_in(0, 1)
_REST_TURNS: Final = 500
_AFTERWARDS_TURNS: Final = 60


class Fates:
    """Fates that were told, each for the next effect of its kind; all others are good."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], list[Fate]] = {}

    def tell(self, process: Process, step: str, *fates: Fate) -> None:
        """Tell the fates of a process's next steps of one name."""
        self._told.setdefault((process.name, step), []).extend(fates)

    def __call__(self, process: Process, name: str, _possible: tuple[Fate, ...]) -> Fate:
        """Return the fate of an effect."""
        told = self._told.get((process.name, name))
        return told.pop(0) if told else Fate.OK


class Stage:
    """One card shard with two workers (the second idle), one entity shard, two scorers.

    Attributes:
        world: The world.
        fates: What fails.
        without: The rule that is taken away.
        seen: Further faults, of which the promises know nothing.
    """

    def __init__(self, url: str, without: Without) -> None:
        server = StoreServer(url, "stage", without.scripts)
        server.wipe()
        self.fates = Fates()
        self.schedule = Schedule(self.fates)
        self.world = ProtocolWorld(server, Shape(), self.schedule, without.classes)
        self.without = without
        self.seen: list[str] = []

    @property
    def card(self) -> Worker:
        """The worker that owns the card shard at first."""
        return self.world.workers["card-0"]

    @property
    def second_card(self) -> Worker:
        """The worker that may take it over."""
        return self.world.workers["card-1"]

    @property
    def scorer(self) -> Scorer:
        """The scorer that is asked while it lives."""
        return self.world.scorers["scorer-0"]

    @property
    def shard(self) -> ShardRef:
        """The card shard."""
        return self.world.card_shard(0)

    @property
    def client(self) -> Any:
        """A plain connection to the store."""
        return self.world.server.client

    async def start(self) -> None:
        """Start everybody, and wait until both shards are open."""
        for name in ("card-0", "card-1"):
            await self.world.start_worker(name, Role.CARD)
        await self.world.start_worker("entity-0", Role.ENTITY)
        for name in ("scorer-0", "scorer-1"):
            await self.world.start_scorer(name)
        self.give_shard_to(self.card)
        self.world.assign(Role.ENTITY, {0: "entity-0"})
        await self.rest()

    def give_shard_to(self, worker: Worker) -> None:
        """Assign the card shard."""
        self.world.assign(Role.CARD, {0: worker.process.name})

    def ask_second_scorer(self) -> None:
        """Let calls go to the second scorer from now on."""
        self.world.pick_scorer = lambda scorers: scorers[-1]

    @staticmethod
    def body(transaction: int, variant: int = 0) -> Body:
        """Return a body of a transaction; another variant is a conflict."""
        return body_of(2 * transaction + variant, transaction, _CARD)

    def accept(self, *bodies: Body) -> None:
        """Append rows to the accepted log."""
        for body in bodies:
            self.world.accept(body)

    def ask(self, body: Body) -> Process:
        """Let a caller ask the gRPC door."""
        return self.world.ask(f"caller-{len(self.world.callers)}", body)

    async def run_until_answered(self) -> None:
        """Let all move until every caller has its answer."""
        callers = self.world.callers
        await self.schedule.run_until(
            lambda: all(task.done() for task in callers.values()), "an answer"
        )

    async def rest(self) -> None:
        """Let all move until nothing is left to do, or for long enough."""
        for process in self.world.services().values():
            process.is_paused = False
        for turn in range(_REST_TURNS):
            await self.schedule.move()
            if turn % 10 == 0 and self.world.is_quiet():
                break
        for _ in range(_AFTERWARDS_TURNS):
            await self.schedule.move()

    def close_shard(self) -> None:
        """Close the card shard, as another layout would."""
        self.client.hset(self.world.names(self.shard).marker, "primary", "another")

    async def run_until_open(self) -> None:
        """Let all move until the owners have rebuilt every shard."""
        await self.schedule.run_until(self.world.is_open, "every shard open")

    async def plain_store(self, name: str) -> tuple[Process, StateStore]:
        """Return a store client of a process that nothing else is known of."""
        process = Process(name)
        return process, await self.world.open_store(process)

    @property
    def generation(self) -> str:
        """The generation of the card shard that is served."""
        return self.world.served(self.shard).generation

    def stored(self, generation: str) -> list[StoredValue]:
        """Return states and claims of the card shard as they are, named for a generation."""
        begin = f"{self.world.server.prefix}:{{p0}}:{self.generation}:"
        other = f"{self.world.server.prefix}:{{p0}}:{generation}:"
        kinds = (f":{CARD}:", ":claim:")
        names = [name.decode() for name in self.world.server.names()]
        wanted = [n for n in names if n.startswith(begin) and any(kind in n for kind in kinds)]
        return [
            StoredValue(name.replace(begin, other), self.client.get(name), RECORD_LIFE_S)
            for name in wanted
        ]

    async def fill_and_switch(
        self, values: Sequence[StoredValue], read: Marker, next_offset: int, generation: str
    ) -> Switch:
        """Fill a generation of the card shard as a rebuilder that is late, then switch to it."""
        process, store = await self.plain_store("slow")
        generations = Generations(store)

        async def work() -> Switch:
            await generations.fill(values)
            shard = replace(self.shard, generation=generation)
            return await generations.switch(read, shard, next_offset)

        task = process.start(work())
        await self.schedule.run_until(task.done, "the slow rebuilder ends")
        outcome: Switch = task.result()
        return outcome

    async def marker(self) -> Marker:
        """Return the card shard's marker."""
        process, store = await self.plain_store("reader")
        task = process.start(store.marker(self.shard))
        await self.schedule.run_until(task.done, "the marker is read")
        found: Marker = task.result()
        return found


Trace = Callable[[Stage], Awaitable[None]]


def play(url: str, trace: Trace, without: Without = NOTHING) -> list[str]:
    """Play a trace to its rest, and return the promises that it broke."""

    async def run() -> list[str]:
        stage = Stage(url, without)
        try:
            await stage.start()
            await trace(stage)
            await stage.rest()
            return [*stage.seen, *Promises(stage.world).broken()]
        finally:
            stage.world.end()

    broken: list[str] = run_stepped(run())
    return broken
