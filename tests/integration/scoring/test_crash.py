"""What a killed scorer leaves behind is published by another; nothing is decided twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import grpc
import grpc.aio
import pytest

from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS
from fraudstream.transaction.actions import needs_person
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.scoring_pb2_grpc import InternalScoringStub, ScoringStub
from tests.conftest import ServiceLauncher
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import (
    batch_of,
    card_shard,
    feature_rows,
    free_ports,
    open_shards,
    open_store,
    scoring_world,
    some_transaction,
)
from tests.worlds.trust import model_settings

ROWS = 40


async def start_doomed(
    service: ServiceLauncher, topics: Mapping[str, str], folder: Path, crash_at: str
) -> tuple[int, int]:
    """Start a scorer that dies at a named point; return its ports."""
    tiny_artefact(folder / "model")
    ports = free_ports()
    environment = {
        **topics,
        **model_settings(folder / "model"),
        "FRAUD_SCORING_PORT": str(ports[0]),
        "FRAUD_SCORING_INTERNAL_PORT": str(ports[1]),
        "FRAUD_CRASH_AT": f"{crash_at}:1",
        "FRAUD_CRASH_LOG": str(folder / "crashes"),
    }
    async with open_store(topics) as store:
        await open_shards(store)
    await asyncio.to_thread(service, "services.scoring", [], environment)
    return ports


async def read_settled(topics: Mapping[str, str], folder: Path, count: int) -> list[Decision]:
    """Start a second scorer, wait until the outbox is empty, return all published decisions."""
    async with scoring_world(
        topics, folder / "model", sweep_every_ms=50, sweep_after_ms=10
    ) as world:
        found = [Decision.FromString(v) for v in await world.log.read(DECISIONS, count)]
        identities = [bytes.fromhex(d.decision_id) for d in found]
        async with asyncio.timeout(20):
            while await world.store.outbox_identities(card_shard(0), identities):
                await world.store.marker(card_shard(0))
        asked = {d.decision_id for d in found if needs_person(d)}
        alerts = [Alert.FromString(v) for v in await world.log.read(ALERTS, len(asked))]
        assert {alert.decision.decision_id for alert in alerts} == asked
        return found


@pytest.mark.parametrize("crash_at", ["scoring.after_record", "scoring.after_publish"])
async def test_another_scorer_sweeps_what_a_killed_one_recorded(
    topics: Mapping[str, str], tmp_path: Path, service: ServiceLauncher, crash_at: str
) -> None:
    """Decisions that were recorded and not settled reach the log, with their alerts."""
    ports = await start_doomed(service, topics, tmp_path, crash_at)
    request = batch_of(feature_rows([some_transaction(n, card=n) for n in range(ROWS)]))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}") as channel:
        stub = InternalScoringStub(channel)  # type: ignore[no-untyped-call]  # generated
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ScoreBatch(request, timeout=20)
    assert (tmp_path / "crashes").read_text() == f"{crash_at}\n"

    found = await read_settled(topics, tmp_path, ROWS)

    by_id: dict[str, set[bytes]] = {}
    for decision in found:
        by_id.setdefault(decision.decision_id, set()).add(decision.SerializeToString())
    assert len(by_id) == ROWS
    assert {len(bodies) for bodies in by_id.values()} == {1}, "copies are the same bytes"


async def test_batch_again_after_the_crash_gets_the_recorded_decisions(
    topics: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """The features service sends its rows again: same decisions, published before the answer."""
    ports = await start_doomed(service, topics, tmp_path, "scoring.after_record")
    request = batch_of(feature_rows([some_transaction(n, card=n) for n in range(ROWS)]))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}") as channel:
        stub = InternalScoringStub(channel)  # type: ignore[no-untyped-call]  # generated
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ScoreBatch(request, timeout=20)

    async with scoring_world(topics, tmp_path / "model", sweep_after_ms=600_000) as world:
        results = (await world.stream(request)).results
        published = [Decision.FromString(v) for v in await world.log.read(DECISIONS, ROWS)]

    assert all(result.decision.replayed for result in results)
    assert {d.decision_id for d in published} == {r.decision.decision_id for r in results}


async def test_unanswered_caller_gets_the_recorded_decision_from_another_scorer(
    topics: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """Recorded and not published, its scorer dead: the repeated call and the log have it."""
    ports = await start_doomed(service, topics, tmp_path, "scoring.after_record")
    request = ScoreRequest(transaction=some_transaction(1))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        stub = ScoringStub(channel)  # type: ignore[no-untyped-call]  # generated
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Score(request, timeout=20)

    told = {"sweep_every_ms": 50, "sweep_after_ms": 10}
    async with scoring_world(topics, tmp_path / "model", is_open=True, **told) as world:
        again = await world.front.Score(request, timeout=20)
        (accepted,) = [AcceptedTransaction.FromString(v) for v in await world.log.read(ACCEPTED, 1)]
        (published,) = [Decision.FromString(v) for v in await world.log.read(DECISIONS, 1)]

    assert again.replayed
    assert accepted.decision == published
    assert published.decision_id == again.decision_id
    assert not published.replayed


async def test_answered_caller_is_in_the_log_although_its_scorer_died(
    topics: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """A decision that a caller may have seen is published by another scorer."""
    ports = await start_doomed(service, topics, tmp_path, "scoring.after_publish")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        stub = ScoringStub(channel)  # type: ignore[no-untyped-call]  # generated
        answered = await stub.Score(ScoreRequest(transaction=some_transaction(1)), timeout=20)

    found = await read_settled(topics, tmp_path, 1)

    assert {decision.decision_id for decision in found} == {answered.decision_id}
