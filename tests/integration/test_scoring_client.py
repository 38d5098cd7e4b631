"""The client that a downstream system imports, against a running service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from fraudstream.client import ScoringClient
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import RowResult
from tests.scoring_world import free_ports, scoring_world, some_transaction
from tests.tiny_model import tiny_artefact


async def test_client_scores_one_and_many(topics: Mapping[str, str], tmp_path: Path) -> None:
    """One call gives a decision; any number of transactions come back in order."""
    tiny_artefact(tmp_path / "model")
    async with scoring_world(topics, tmp_path / "model") as world:
        address = f"127.0.0.1:{world.service.ports[0]}"

        def call() -> tuple[Decision, list[RowResult]]:
            with ScoringClient(address, timeout_s=10) as client:
                many = [some_transaction(n, card=n) for n in range(50)]
                return client.score(some_transaction(0, card=0)), list(client.score_many(many, 20))

        decision, results = await asyncio.to_thread(call)

        assert [r.decision.transaction_id for r in results] == [f"t-{n}" for n in range(50)]
        assert results[0].decision.decision_id == decision.decision_id
        assert results[0].decision.replayed


async def test_client_waits_for_a_service_that_comes_up_and_no_longer() -> None:
    """A service that is away is tried again until the deadline, and no longer."""
    address = f"127.0.0.1:{free_ports()[0]}"

    with ScoringClient(address, timeout_s=0.3) as client, pytest.raises(grpc.RpcError) as failed:
        await asyncio.to_thread(client.score, some_transaction(1))

    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
