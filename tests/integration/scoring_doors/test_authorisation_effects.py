"""What came by gRPC reaches state, archive and training, and the bank's later copy adds nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fraudstream.client import ScoringClient
from fraudstream.store.shard import Role
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.transaction_pb2 import Transaction
from harness.processes import wait_until
from tests.conftest import ServiceLauncher
from tests.worlds.archive_records import transaction_ids
from tests.worlds.scoring_world import canonical, some_transaction
from tests.worlds.shard_line import CARDS, ShardLine, shard_line
from tests.worlds.training_files import set_request
from training.offline.build import make_dataset

ROWS = 24


@pytest.mark.slow
async def test_authorisations_are_counted_archived_and_learned_from_once(
    topics: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """The stream's later record of a transaction gets the recorded decision and moves no state."""
    transactions = [some_transaction(n, card=1 + n % len(CARDS)) for n in range(ROWS)]
    from_bank = [canonical(transaction) for transaction in transactions]
    async with shard_line(topics, tmp_path) as line, line.role(Role.CARD) as card:
        await line.settle(card, applied=0)
        answered = await authorise(line, transactions)
        await line.settle(card, applied=ROWS)
        states = await line.card_values(CARDS)
        await line.accept(from_bank)
        await line.settle(card, applied=2 * ROWS)

        assert await line.counted_rows(CARDS) == ROWS
        assert await line.card_values(CARDS) == states
        assert await line.values_of_kernel(from_bank) == states
        decided = await line.decisions()
    assert not any(decision.stand_in for decision in answered)
    ids = sorted(decision.decision_id for decision in answered)
    assert sorted(decision.decision_id for decision in decided) == ids

    root = tmp_path / "archive"
    environment = {**topics, "FRAUD_ARCHIVE_ROOT": str(root), "FRAUD_ARCHIVE_MAX_AGE_S": "0.5"}
    await asyncio.to_thread(service, "services.archive", [], environment)
    names = sorted(transaction.transaction_id for transaction in transactions)
    copies = sorted([*names, *names])
    assert wait_until(lambda: transaction_ids(root, "accepted") == copies, 60.0, poll_s=0.2)
    assert wait_until(lambda: transaction_ids(root, "decisions") == names, 60.0, poll_s=0.2)
    made = make_dataset(set_request(root, from_ms=0, until_ms=sys.maxsize), tmp_path / "set", 1)
    assert made["counts"]["wanted"] == ROWS


async def authorise(line: ShardLine, transactions: Sequence[Transaction]) -> list[Decision]:
    """Have each transaction decided by a call, one after the other."""
    address = f"127.0.0.1:{line.scoring.service.ports[0]}"
    async with ScoringClient(address, timeout_s=10) as client:
        return [await client.score(transaction) for transaction in transactions]
