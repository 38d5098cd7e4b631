"""The store loses its last writes, or all of them; the workers find out and rebuild its shards."""

from __future__ import annotations

from random import Random

from tests.faults.memory_store import Snapshot
from tests.faults.protocol_world import ProtocolWorld


def published(world: ProtocolWorld) -> set[str]:
    """Return the ids of all decisions in the log."""
    return {decision.decision_id for decision in world.decisions()}


def recorded(world: ProtocolWorld) -> set[str]:
    """Return the ids of all decisions in the store."""
    return {
        name.rpartition(b":")[2].decode() for name in world.server.names() if b":record:" in name
    }


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
        self.exposed: frozenset[str] = frozenset()

    def tick(self, world: ProtocolWorld, turn: int) -> None:
        """Take the replica's last copy, or lose what came after it."""
        if turn == self._kept_at and not self._is_total:
            self._snapshot = world.server.snapshot()
        if turn == self._at:
            self.exposed = frozenset(recorded(world) - published(world))
            world.schedule.trail.append(f"STORE LOSES WRITES, exposed {sorted(self.exposed)}")
            world.server.fail_over(self._snapshot)
