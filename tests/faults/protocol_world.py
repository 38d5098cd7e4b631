"""The world of the protocol: two workers a role, two scorers, a bank and callers on one schedule.

The real `CardRole`, `EntityRole`, `StreamDoor`, `FrontDoor`, backlog and sweep run here, over the
real scripts on a real Valkey, rather than small actors that imitate them: a rule that is missing
from the services fails here too. Only the edges are ours, and each of their effects is one step:
the connection to the store, the broker, the call to scoring, the group's coordinator, the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fraudstream.broker.clients import OutRecord
from fraudstream.errors import ConflictingTransaction
from fraudstream.store.shard import Role, ShardKeys, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import ACCEPTED, DECISIONS, ENTITIES, partition_of
from fraudstream.transaction.identity import Digest, Identity, digest_of, identity_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.transaction_pb2 import Channel, EntryMode, Transaction, TransactionKind
from services.scoring.settings import AnswerAfter
from tests.faults.memory_log import Group, MemoryBroker
from tests.faults.memory_store import StoreServer, open_store
from tests.faults.processes import Classes, Scorer, Surroundings, Worker, call
from tests.faults.stepping import Process, Schedule, SteppedLoop

# 2023-11-14 22:13:20 UTC; all rows lie in one minute three minutes before.
_NOW_MS: Final = 1_700_000_000_000
_EVENT_MS: Final = _NOW_MS - 180_000
# Amounts are powers of four: a sum tells how often each of them was counted, up to three times.
BASE: Final = 4
_THEIR_OWN: Final = Classes()


@dataclass(frozen=True, slots=True)
class Body:
    """One body of one transaction id: the same id with another body is a conflict.

    Attributes:
        number: Of the body; its amount is `BASE` to this power.
        transaction: As its sender gives it.
    """

    number: int
    transaction: Transaction

    @property
    def identity(self) -> Identity:
        """Return the identity, which it shares with other bodies of the id."""
        t = self.transaction
        return identity_of(t.bank_id, t.card_token, t.transaction_id)

    @property
    def digest(self) -> Digest:
        """Return the digest, which is its own."""
        return digest_of(self.transaction)


def body_of(number: int, transaction: int, card_token: str) -> Body:
    """Return a body of a transaction id of a card."""
    return Body(
        number,
        Transaction(
            bank_id="bank",
            transaction_id=f"t-{transaction}",
            card_token=card_token,
            kind=TransactionKind.TRANSACTION_KIND_PURCHASE,
            merchant_id="m-1",
            terminal_id=f"term-{transaction % 2}",
            mcc="5411",
            amount_minor=BASE**number,
            currency="EUR",
            event_time_ms=_EVENT_MS,
            channel=Channel.CHANNEL_POS,
            entry_mode=EntryMode.ENTRY_MODE_CHIP,
        ),
    )


def card_in(partition: int, partitions: int) -> str:
    """Return the token of a card whose shard is the given one."""
    tokens = (f"bank.k1.{number:032x}" for number in range(1000))
    return next(t for t in tokens if partition_of(t.encode(), partitions) == partition)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a caller was told of a body: a decision, or that the id is known with another body."""

    body: Body
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a world is.

    Attributes:
        cards: Partitions of the accepted topic.
        entities: Partitions of the entities topic.
        answer_after: When the gRPC door answers.
    """

    cards: int = 1
    entities: int = 1
    answer_after: AnswerAfter = AnswerAfter.RECORD


class ProtocolWorld:
    """Everything of one run. Make it inside the loop by `start`."""

    def __init__(
        self,
        server: StoreServer,
        shape: Shape,
        schedule: Schedule,
        classes: Classes = _THEIR_OWN,
    ) -> None:
        self.server = server
        self.schedule = schedule
        self.shape = shape
        self._ticks = 0
        self.broker = MemoryBroker(shape.cards, shape.entities, self.clock_ms)
        self.around = Surroundings(schedule, self.broker, self.clock_us, classes)
        self.groups = {Role.CARD: Group(shape.cards), Role.ENTITY: Group(shape.entities)}
        self.workers: dict[str, Worker] = {}
        self.scorers: dict[str, Scorer] = {}
        self.bank = Process("bank")
        self.callers: dict[str, asyncio.Task[Any]] = {}
        self.answered: list[Answered] = []
        self.sent: list[Body] = []
        self.poll_rows: Callable[[], int] = lambda: 3
        self.wants_beat: Callable[[], bool] = lambda: False
        self.budget_s: Callable[[], float] = lambda: 5.0
        self.pick_scorer: Callable[[Sequence[Scorer]], Scorer] = lambda scorers: scorers[0]

    def clock_us(self) -> int:
        """Return epoch microseconds, never the same twice."""
        self._ticks += 1
        return _NOW_MS * 1000 + int(asyncio.get_running_loop().time() * 1e6) + self._ticks

    def clock_ms(self) -> int:
        """Return epoch milliseconds."""
        return self.clock_us() // 1000

    async def start_worker(self, name: str, role: Role) -> Worker:
        """Start a features worker; it has no partitions until it is assigned some."""
        worker = Worker(name, role, self.around, self.groups[role], self.poll_rows)
        store = await self.open_store(worker.process)
        scoring = self.around.classes.scoring(worker.process, self.schedule, self.living_scorer)
        worker.start(store, scoring, self.wants_beat)
        self.workers[name] = worker
        return worker

    async def start_scorer(self, name: str) -> Scorer:
        """Start a scorer."""
        scorer = Scorer(name, self.around, self.shape.answer_after)
        scorer.start(await self.open_store(scorer.process))
        self.scorers[name] = scorer
        return scorer

    async def open_store(self, process: Process) -> StateStore:
        """Return a store client of a process."""
        return await open_store(process, self.schedule, self.server, self.clock_ms)

    def living_scorer(self) -> Scorer | None:
        """Return a scorer that answers, None where all are dead."""
        living = [s for _, s in sorted(self.scorers.items()) if not s.process.is_dead]
        return self.pick_scorer(living) if living else None

    def services(self) -> dict[str, Process]:
        """Return the processes that may crash, by name."""
        workers = {name: worker.process for name, worker in self.workers.items()}
        return workers | {name: scorer.process for name, scorer in self.scorers.items()}

    def assign(self, role: Role, owners: Mapping[int, str]) -> None:
        """Assign the partitions of a role's topic."""
        self.schedule.trail.append(f"ASSIGN {role}: {dict(owners)}")
        self.groups[role].assign(owners)

    def accept(self, body: Body) -> None:
        """Append a body to the accepted topic, as ingest does."""
        self.sent.append(body)
        transaction = Transaction()
        transaction.CopyFrom(body.transaction)
        transaction.amount_reference_minor = transaction.amount_minor
        key = transaction.card_token.encode()
        value = AcceptedTransaction(transaction=transaction).SerializeToString()
        partition = partition_of(key, self.shape.cards)
        self.schedule.trail.append(f"bank: body {body.number} of {transaction.transaction_id}")
        self.broker.append(ACCEPTED.name, OutRecord(key, value, partition))

    def ask(self, name: str, body: Body) -> Process:
        """Let a downstream system ask for a decision until it has an answer."""
        self.sent.append(body)
        caller = Process(name)
        self.callers[name] = caller.start(self._ask(caller, body))
        return caller

    async def _ask(self, caller: Process, body: Body) -> None:
        while True:
            await self.schedule.turn(caller, "ask")
            scorer = self.living_scorer()
            if scorer is None:
                continue
            work = scorer.score(body.transaction, self.budget_s())
            answer = await call(caller, self.schedule, scorer.process, work)
            if isinstance(answer, Decision):
                self.answered.append(Answered(body, answer))
                return
            if isinstance(answer, ConflictingTransaction):
                self.answered.append(Answered(body, None))
                return

    def card_shard(self, partition: int) -> ShardRef:
        """Return a card shard as workers name it."""
        return ShardRef(Role.CARD, partition, self.broker.accepted.incarnation)

    def entity_shard(self, partition: int) -> ShardRef:
        """Return an entity shard as workers name it."""
        return ShardRef(Role.ENTITY, partition, self.broker.entities.incarnation)

    def served(self, shard: ShardRef) -> ShardRef:
        """Return a shard in the generation that its marker names."""
        named: Any = self.server.client.hget(self.names(shard).marker, "generation")
        return replace(shard, generation=named.decode()) if named else shard

    def is_open(self) -> bool:
        """Return whether the primary that answers now has opened every shard."""
        primary = self.server.primary.encode()
        markers = [self.names(shard).marker for shard, _ in self.shards()]
        return all(self.server.client.hget(name, "primary") == primary for name in markers)

    def shards(self) -> Iterator[tuple[ShardRef, int]]:
        """Yield every shard and the end of its log."""
        for partition in range(self.shape.cards):
            yield self.card_shard(partition), len(self.broker.records(ACCEPTED.name, partition))
        for partition in range(self.shape.entities):
            yield self.entity_shard(partition), len(self.broker.records(ENTITIES.name, partition))

    def decisions(self) -> list[Decision]:
        """Return what was published, in the order of the log."""
        records = self.broker.all_records(DECISIONS.name)
        return [Decision.FromString(record.value) for record in records]

    def is_quiet(self) -> bool:
        """Return whether nothing is left to do but to poll."""
        if self.schedule.steps_of(self.schedule.network):
            return False
        if not all(task.done() for task in self.callers.values()):
            return False
        client = self.server.client
        for shard, end in self.shards():
            names = self.names(shard)
            stands = client.hget(names.marker, "next")
            if int(stands or 0) != end or client.zcard(names.outbox):
                return False
        return True

    def names(self, shard: ShardRef) -> ShardKeys:
        """Return the names of a shard's keys."""
        return ShardKeys(self.server.prefix, shard)

    def end(self) -> None:
        """End every process."""
        for process in self.services().values():
            process.end()
        self.schedule.network.end()
        for task in self.callers.values():
            task.cancel()
        self.server.wipe()


def run_stepped(work: Coroutine[Any, Any, Any]) -> Any:
    """Run on a loop of its own, in which time is a matter of turns."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        return runner.run(work)
