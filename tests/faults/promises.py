"""What must be true when a run has come to rest: the promises of the design, section 5."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from fraudstream.features.catalogue import Entity
from fraudstream.features.state import CARD_START, SHARED_STATE
from fraudstream.features.stored_values import CARD, CARD_VALUE, entity_key, log_key
from fraudstream.store.shard import ShardRef, unpack_pending
from fraudstream.topics import ACCEPTED, ALERTS, STAND_INS, partition_of
from fraudstream.transaction.actions import needs_person
from fraudstream.transaction.identity import DIGEST_BYTES, Identity, decision_id_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.rescore_pb2 import StandIn
from tests.faults.protocol_world import BASE, Answered, Body, ProtocolWorld

_OFFSET_BYTES: Final = 8


def card_spend(world: ProtocolWorld, card_token: str) -> int:
    """Return the sum of all amounts that a card's state has counted."""
    shard = world.served(world.card_shard(partition_of(card_token.encode(), world.shape.cards)))
    value: Any = world.server.client.get(world.names(shard).state(CARD, card_token))
    if value is None:
        return 0
    day = np.frombuffer(value, CARD_VALUE)["state"]["spend"][0][CARD_START[-1] :]
    return int(day.sum())


def terminal_spend(world: ProtocolWorld, terminal_id: str) -> int:
    """Return the sum of all amounts that a terminal's state has counted."""
    key = entity_key("bank", terminal_id)
    partition = partition_of(log_key(Entity.TERMINAL, key), world.shape.entities)
    names = world.names(world.served(world.entity_shard(partition)))
    value: Any = world.server.client.get(names.state(Entity.TERMINAL.value, key))
    return 0 if value is None else int(np.frombuffer(value, SHARED_STATE)["day_spend"].sum())


def times_counted(spend: int, body: Body) -> int:
    """Return how often a body is in a sum.

    >>> from tests.faults.protocol_world import body_of
    >>> times_counted(1 + 2 * 4, body_of(1, 1, "card"))
    2
    """
    amount: int = BASE**body.number
    return spend // amount % BASE


def first_decisions(world: ProtocolWorld) -> dict[str, Decision]:
    """Return the decision of each identity: its first record in the log."""
    first: dict[str, Decision] = {}
    for decision in world.decisions():
        first.setdefault(decision.decision_id, decision)
    return first


def forked(world: ProtocolWorld) -> set[str]:
    """Return the ids of decisions that have a later, different record."""
    first = first_decisions(world)
    return {d.decision_id for d in world.decisions() if d != first[d.decision_id]}


class Promises:
    """Checks one world at rest.

    Args:
        world: The world.
        excused: Ids of decisions that a loss may have forked: of these nothing is promised.
    """

    def __init__(self, world: ProtocolWorld, excused: frozenset[str] = frozenset()) -> None:
        self._world = world
        self._excused = excused
        self._bodies = {(b.identity, bytes(b.digest)): b for b in world.sent}.values()
        self._first = first_decisions(world)

    def broken(self) -> list[str]:
        """Return what is broken, a line each; empty where every promise is kept."""
        return [
            *self._broken_decisions(),
            *self._broken_stand_ins(),
            *self._broken_alerts(),
            *self._broken_counts(),
            *self._broken_records(),
            *self._broken_shards(),
            *self._broken_pending(),
            *self._broken_answers(),
        ]

    def _is_excused(self, body: Body) -> bool:
        return decision_id_of(body.identity) in self._excused

    def _broken_decisions(self) -> Iterator[str]:
        for fork in sorted(forked(self._world) - self._excused):
            yield f"decision {fork} forked"
        accepted = [
            AcceptedTransaction.FromString(record.value).transaction.transaction_id
            for record in self._world.broker.all_records(ACCEPTED.name)
        ]
        decided = {decision.transaction_id for decision in self._first.values()}
        for transaction_id in sorted(set(accepted) - decided):
            yield f"{transaction_id} is accepted and has no decision"
        for transaction_id in sorted(decided - set(accepted)):
            yield f"{transaction_id} is decided and not in the accepted log"

    def _broken_stand_ins(self) -> Iterator[str]:
        kept = {
            StandIn.FromString(record.value).decision.decision_id
            for record in self._world.broker.all_records(STAND_INS.name)
        }
        stood_in = {decision.decision_id for decision in self._first.values() if decision.stand_in}
        for decision_id in sorted(stood_in - kept - self._excused):
            yield f"decision {decision_id} is a stand-in that no model will ever score"

    def _broken_alerts(self) -> Iterator[str]:
        raised = {
            Alert.FromString(record.value).decision.decision_id
            for record in self._world.broker.all_records(ALERTS.name)
        }
        asked = {decision_id for decision_id, each in self._first.items() if needs_person(each)}
        for decision_id in sorted(asked - raised - self._excused):
            yield f"decision {decision_id} asks for an alert and has none"

    def _broken_counts(self) -> Iterator[str]:
        for body in self._bodies:
            if self._is_excused(body):
                continue
            transaction = body.transaction
            decision = self._first.get(decision_id_of(body.identity))
            expected = int(decision is not None and decision.digest == body.digest)
            on_card = times_counted(card_spend(self._world, transaction.card_token), body)
            at_terminal = times_counted(terminal_spend(self._world, transaction.terminal_id), body)
            if on_card != expected:
                yield f"{transaction.transaction_id}/{body.number}: card counts it {on_card} times"
            if at_terminal != expected:
                yield (
                    f"{transaction.transaction_id}/{body.number}:"
                    f" terminal counts it {at_terminal} times, expected {expected}"
                )

    def _broken_records(self) -> Iterator[str]:
        client: Any = self._world.server.client
        for body in self._bodies:
            decision = self._first.get(decision_id_of(body.identity))
            if decision is None or decision.digest != body.digest or self._is_excused(body):
                continue
            name = body.transaction.transaction_id
            names = self._world.names(self._shard_of(body))
            record = client.get(names.record(body.identity)) or b""
            claim = client.get(names.claim(body.identity)) or b""
            if record[:DIGEST_BYTES] != body.digest:
                yield f"{name}: its record has another digest"
            elif Decision.FromString(record[DIGEST_BYTES:]) != decision:
                yield f"{name}: its record is not its first decision"
            if claim[:DIGEST_BYTES] != body.digest:
                yield f"{name}: its claim has another digest"
            elif not self._has_row(body, int.from_bytes(claim[DIGEST_BYTES:], "little")):
                yield f"{name}: its claim names another row"

    def _shard_of(self, body: Body) -> ShardRef:
        token = body.transaction.card_token.encode()
        shard = self._world.card_shard(partition_of(token, self._world.shape.cards))
        return self._world.served(shard)

    def _has_row(self, body: Body, offset: int) -> bool:
        log = self._world.broker.records(ACCEPTED.name, self._shard_of(body).partition)
        if offset >= len(log):
            return False
        row = AcceptedTransaction.FromString(log[offset].value).transaction
        sent = body.transaction
        return (row.transaction_id, row.amount_minor) == (sent.transaction_id, sent.amount_minor)

    def _broken_shards(self) -> Iterator[str]:
        client = self._world.server.client
        for shard, end in self._world.shards():
            names = self._world.names(shard)
            stands = client.hget(names.marker, "next")
            if int(stands or 0) != end:
                yield f"shard {shard.role}{shard.partition} stands at {stands!r}, its log at {end}"
            if client.zcard(names.outbox):
                yield f"shard {shard.role}{shard.partition} has decisions in its outbox"

    def _broken_pending(self) -> Iterator[str]:
        """Look for entries that were decided; those that were not are dropped by their age."""
        for token in sorted({body.transaction.card_token for body in self._bodies}):
            shard = self._world.card_shard(partition_of(token.encode(), self._world.shape.cards))
            client: Any = self._world.server.client
            pending = client.lrange(self._world.names(shard).pending(token), 0, -1)
            for entry in map(unpack_pending, pending):
                decision_id = decision_id_of(Identity(entry.identity))
                if decision_id in self._excused:
                    continue
                decision = self._first.get(decision_id)
                if decision is not None and decision.digest == entry.digest:
                    yield f"card {token[-2:]} has {decision.transaction_id} in its pending list"

    def _broken_answers(self) -> Iterator[str]:
        for told in self._world.answered:
            if not self._is_excused(told.body) and not self._is_kept(told):
                yield f"{told.body.transaction.transaction_id}: the answer is not the decision"

    def _is_kept(self, told: Answered) -> bool:
        """Return whether an answer is the decision; a provisional one may be an accepted row only.

        A conflict is the truth where the id came with another body, whichever is decided later.
        """
        if told.decision is None:
            identity, digest = told.body.identity, told.body.digest
            return any(b.identity == identity and b.digest != digest for b in self._bodies)
        decision = self._first.get(decision_id_of(told.body.identity), Decision())
        kept = [decision]
        if told.decision.provisional:
            rows = self._world.broker.all_records(ACCEPTED.name)
            kept += [AcceptedTransaction.FromString(row.value).decision for row in rows]
        expected = _comparable(told.decision)
        return any(_comparable(each) == expected for each in kept)


def _comparable(decision: Decision) -> Decision:
    """Return a decision as callers see it, without what an answer alone says."""
    seen = Decision()
    seen.CopyFrom(decision)
    for field in ("vector", "sequence", "replayed", "provisional", "seal"):
        seen.ClearField(field)
    return seen
