"""The authorisation path over two workers: order of a burst, one decision whoever asks where."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest

from fraudstream.client import ScoringClient
from fraudstream.errors import ConflictingTransaction
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.topics import ACCEPTED, DECISIONS, partition_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.scoring_pb2 import ScoreBatchResponse, ScoreRequest
from fraudstream.v1.transaction_pb2 import Transaction
from harness.processes import wait_until
from tests.worlds.scoring_group import ScoringGroup, connections, scoring_group
from tests.worlds.scoring_world import (
    PARTITIONS,
    batch_of,
    card_token,
    feature_rows,
    some_transaction,
)

BURST = 20
INTERNAL_BATCH = "/fraudstream.v1.InternalScoring/ScoreBatch"


@pytest.fixture
async def group(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ScoringGroup]:
    """Two workers on one port, with the tiny model."""
    async with scoring_group(topics, tmp_path) as running:
        yield running


async def score_each(group: ScoringGroup, transactions: Sequence[Transaction]) -> list[Decision]:
    """Have each transaction decided at once over a connection of its own."""
    async with connections(group.ports[0], len(transactions)) as stubs:
        calls = [
            stub.Score(ScoreRequest(transaction=transaction), timeout=20)
            for stub, transaction in zip(stubs, transactions, strict=True)
        ]
        return list(await asyncio.gather(*calls))


async def test_burst_of_one_card_sees_itself_in_order_over_two_workers(
    group: ScoringGroup,
) -> None:
    """20 authorisations within 100 ms: each saw exactly those that stood before it in the list."""
    burst = [some_transaction(number) for number in range(BURST)]
    for number, transaction in enumerate(burst):
        transaction.event_time_ms += 5 * number

    answered = await score_each(group, burst)

    assert min(group.decided_by_worker()) > 0, "both workers decided some"
    assert not any(decision.stand_in for decision in answered)
    recorded = [Decision.FromString(v) for v in await group.log.read(DECISIONS, BURST)]
    in_order = sorted(recorded, key=lambda d: len(d.freshness.pending_identities))
    identities = [bytes.fromhex(decision.decision_id) for decision in in_order]
    column = FEATURE_NAMES.index("card_count_1h")
    for place, decision in enumerate(in_order):
        assert list(decision.freshness.pending_identities) == identities[:place]
        assert np.frombuffer(decision.vector, "<f4")[column] == place + 1


async def test_one_transaction_has_one_decision_at_every_worker_and_door(
    group: ScoringGroup,
) -> None:
    """Asked at once, again, after every worker died, and by the stream: it is the same."""
    transaction = some_transaction(1)
    partition = partition_of(card_token(1).encode(), PARTITIONS)
    changed = some_transaction(1, amount_minor=5)
    changed.event_time_ms = transaction.event_time_ms

    at_once = await score_each(group, [transaction] * BURST)
    for pid in group.pids().values():
        os.kill(pid, signal.SIGKILL)
    assert await asyncio.to_thread(wait_until, lambda: _restarted(group), 60.0)
    later = await score_each(group, [transaction] * BURST)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{group.ports[1]}") as channel:
        request = batch_of(feature_rows([transaction]), partition).SerializeToString()
        answer = await channel.unary_unary(INTERNAL_BATCH, bytes, bytes)(request, timeout=20)
    (streamed,) = ScoreBatchResponse.FromString(answer).results
    refused = []
    for _ in range(BURST):
        async with ScoringClient(f"127.0.0.1:{group.ports[0]}", 10) as client:
            refused += await client.score_batch([changed])

    assert sum(not decision.replayed for decision in at_once) == 1
    assert all(decision.replayed for decision in [*later, streamed.decision])
    assert all(isinstance(answer, ConflictingTransaction) for answer in refused)
    published = [Decision.FromString(v) for v in await group.log.read(DECISIONS, 1)]
    bodies = {_body(decision) for decision in [*at_once, *later, streamed.decision, *published]}
    assert len(bodies) == 1


def _restarted(group: ScoringGroup) -> bool:
    messages = group.messages()
    return all(messages.count(f"worker {number} is ready") == 2 for number in range(2))


def _body(decision: Decision) -> bytes:
    """Return a decision without what says how it came: the record's inputs, and the repeat."""
    body = Decision()
    body.CopyFrom(decision)
    for field in ("vector", "sequence", "replayed"):
        body.ClearField(field)
    return body.SerializeToString(deterministic=True)


async def test_decisions_of_a_group_reach_the_log_with_their_transactions(
    group: ScoringGroup,
) -> None:
    """What each worker decided is in both topics, the same bytes in both."""
    transactions = [some_transaction(number, card=number % 5) for number in range(BURST)]

    answered = await score_each(group, transactions)

    published = [Decision.FromString(v) for v in await group.log.read(DECISIONS, BURST)]
    accepted = [AcceptedTransaction.FromString(v) for v in await group.log.read(ACCEPTED, BURST)]
    asked = sorted(decision.decision_id for decision in answered)
    assert sorted(decision.decision_id for decision in published) == asked
    carried = {row.decision.decision_id: row.decision for row in accepted}
    assert {decision.decision_id: decision for decision in published} == carried
