"""The store loses its last writes, or all of them, and its shards are rebuilt as design 4 says."""

from __future__ import annotations

from random import Random
from typing import Any

from redis.exceptions import RedisError

from fraudstream.errors import FraudStreamError
from fraudstream.identity import digest_of, identity_of
from fraudstream.shard import Role, ShardRef
from fraudstream.state_store import RECORD_LIFE_S
from fraudstream.topics import ACCEPTED, DECISIONS
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from tests.faults.memory_store import Snapshot
from tests.faults.protocol_world import ProtocolWorld
from tests.faults.stepping import Process


def published(world: ProtocolWorld) -> set[str]:
    """Return the ids of all decisions in the log."""
    return {decision.decision_id for decision in world.decisions()}


def recorded(world: ProtocolWorld) -> set[str]:
    """Return the ids of all decisions in the store."""
    return {
        name.rpartition(b":")[2].decode() for name in world.server.names() if b":record:" in name
    }


class Rebuilder:
    """Opens closed shards: the decisions first, then the marker; the stream counts all rows anew.

    It is the shortest form of the rule: an empty generation that begins at offset 0, in which a
    row counts if it is the first with the digest of its identity's record.
    """

    def __init__(self, world: ProtocolWorld) -> None:
        self.process = Process("rebuilder")
        self._world = world

    async def open_all(self) -> None:
        """Open every shard that is closed, one step after another, until none is."""
        self._store = await self._world.open_store(self.process)
        await self._wait_for_the_network()
        waiting = [shard for shard, _ in self._world.shards()]
        while waiting:
            try:
                marker = await self._store.marker(waiting[0])
                if not self._store.is_open(waiting[0], marker):
                    await self.open_shard(waiting[0])
                waiting.pop(0)
            except (FraudStreamError, RedisError):
                await self._world.schedule.turn(self.process, "try again")

    async def open_shard(self, shard: ShardRef) -> None:
        """Open one closed shard."""
        await self._forget_generation(shard)
        if shard.role is Role.CARD:
            await self.restore_records(shard)
        await self._store.open_shard(shard, 0)

    async def restore_alone(self, shard: ShardRef) -> None:
        """Put back the records of a shard that is opened by somebody else."""
        self._store = await self._world.open_store(self.process)
        await self.restore_records(shard)

    async def _wait_for_the_network(self) -> None:
        """Wait out what senders gave up: it arrives before the logs are read, or never."""
        schedule = self._world.schedule
        while any(s.name.startswith("late send") for s in schedule.steps_of(schedule.network)):
            await schedule.turn(self.process, "wait for late sends")

    async def _forget_generation(self, shard: ShardRef) -> None:
        names = self._world.names(shard)
        begins = names.state("", "").rpartition(f"{shard.layout}:")[0]

        def forget(client: Any) -> None:
            if client.hget(names.marker, "primary") == self._world.server.primary.encode():
                return
            stale = list(client.scan_iter(match=f"{begins}*", count=1000))
            client.delete(names.marker, *stale)

        await self._exchange("forget generation", forget)

    async def restore_records(self, shard: ShardRef) -> None:
        """Put back each identity's first decision where there is no record.

        One that came by gRPC and whose accepted row is not in the log goes into the outbox again:
        the loss came between the two sends.
        """
        names = self._world.names(shard)
        decisions = [
            Decision.FromString(record.value)
            for record in self._world.broker.records(DECISIONS.name, shard.partition)
        ]
        rows = self._accepted_digests(shard)

        def restore(client: Any) -> None:
            for decision in decisions:
                identity = _identity_of(decision)
                record = decision.digest + decision.SerializeToString()
                is_new = client.set(names.record(identity), record, ex=RECORD_LIFE_S, nx=True)
                if is_new and not decision.HasField("coordinates") and decision.digest not in rows:
                    client.zadd(names.outbox, {identity: 0})

        await self._exchange("restore records", restore)

    def _accepted_digests(self, shard: ShardRef) -> set[bytes]:
        log = self._world.broker.records(ACCEPTED.name, shard.partition)
        return {digest_of(AcceptedTransaction.FromString(r.value).transaction) for r in log}

    async def _exchange(self, name: str, command: Any) -> None:
        client: Any = self._store._client
        await client.exchange(name, command)


def _identity_of(decision: Decision) -> bytes:
    return identity_of(decision.bank_id, decision.card_token, decision.transaction_id)


class LossPlan:
    """When a run's store loses its writes, and how many.

    Attributes:
        exposed: Ids that were recorded and not in the log at the loss.
    """

    def __init__(self, random: Random, turns: int) -> None:
        self._at = random.randrange(turns // 5, turns)
        self._is_total = random.random() < 0.3
        self._kept_at = self._at - random.randrange(1, 50)
        self._snapshot: Snapshot = {}
        self.rebuild_at = self._at + random.randrange(0, 60)
        self.exposed: frozenset[str] = frozenset()

    def tick(self, world: ProtocolWorld, turn: int) -> None:
        """Take the replica's last copy, or lose what came after it."""
        if turn == self._kept_at and not self._is_total:
            self._snapshot = world.server.snapshot()
        if turn == self._at:
            self.exposed = frozenset(recorded(world) - published(world))
            world.schedule.trail.append(f"STORE LOSES WRITES, exposed {sorted(self.exposed)}")
            world.server.fail_over(self._snapshot)
