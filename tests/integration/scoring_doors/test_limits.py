"""What the gRPC listeners refuse, and how they stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fraudstream.v1.scoring_pb2 import ScoreBatchRequest, ScoreRequest
from services.scoring.rpc.messages import MAX_ROWS, UNARY_BYTES
from tests.conftest import ServiceLauncher
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import (
    ScoringWorld,
    batch_of,
    feature_rows,
    free_ports,
    open_shards,
    open_store,
    scoring_world,
    some_transaction,
)
from tests.worlds.trust import model_settings

SCORE = "/fraudstream.v1.Scoring/Score"
SCORE_BATCH = "/fraudstream.v1.Scoring/ScoreBatch"
INTERNAL_BATCH = "/fraudstream.v1.InternalScoring/ScoreBatch"


@pytest.fixture
async def world(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ScoringWorld]:
    """Scoring with the tiny model, four calls at once at most."""
    tiny_artefact(tmp_path / "model")
    async with scoring_world(topics, tmp_path / "model", max_in_flight=4) as running:
        yield running


async def status_of_bytes(
    world: ScoringWorld, door: int, method: str, raw: bytes
) -> grpc.StatusCode:
    """Return the status of a call with these bytes."""
    try:
        await world.channel(door).unary_unary(method, bytes, bytes)(raw, timeout=10)
    except grpc.aio.AioRpcError as exc:
        return exc.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize(("door", "method"), [(0, SCORE), (0, SCORE_BATCH), (1, INTERNAL_BATCH)])
async def test_bytes_that_are_no_message_are_invalid_argument(
    world: ScoringWorld, door: int, method: str
) -> None:
    """Malformed bytes are the caller's fault, not INTERNAL."""
    assert (
        await status_of_bytes(world, door, method, b"\x0a\xff\xff\xff\xff")
        is grpc.StatusCode.INVALID_ARGUMENT
    )


async def test_unary_message_over_64_kib_is_refused(world: ScoringWorld) -> None:
    """One transaction is never that large."""
    raw = b"\x00" * (UNARY_BYTES + 1)

    assert await status_of_bytes(world, 0, SCORE, raw) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(("door", "method"), [(0, SCORE_BATCH), (1, INTERNAL_BATCH)])
async def test_batch_message_over_4_mib_is_refused(
    world: ScoringWorld, door: int, method: str
) -> None:
    """A batch has a bound in bytes, kept by gRPC before our code sees it."""
    raw = b"\x00" * (4 * 1024 * 1024 + 1)

    assert await status_of_bytes(world, door, method, raw) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("rows", [0, MAX_ROWS + 1])
async def test_batch_of_none_or_too_many_is_invalid_argument(
    world: ScoringWorld, rows: int
) -> None:
    """1 to 1,024 rows, at both doors."""
    transactions = [some_transaction(number) for number in range(rows)]
    front = ScoreBatchRequest(transactions=transactions).SerializeToString()
    internal = batch_of(feature_rows(transactions) if rows else []).SerializeToString()

    assert await status_of_bytes(world, 0, SCORE_BATCH, front) is grpc.StatusCode.INVALID_ARGUMENT
    assert (
        await status_of_bytes(world, 1, INTERNAL_BATCH, internal)
        is grpc.StatusCode.INVALID_ARGUMENT
    )


async def test_metadata_over_the_bound_is_refused(world: ScoringWorld) -> None:
    """Headers have a bound too."""
    call = world.front.Score(
        ScoreRequest(transaction=some_transaction(1)),
        metadata=(("x-large", "x" * 20_000),),
        timeout=10,
    )

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call

    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_unknown_method_is_unimplemented(world: ScoringWorld) -> None:
    """What is not there says so."""
    method = "/fraudstream.v1.Scoring/Guess"

    assert await status_of_bytes(world, 0, method, b"") is grpc.StatusCode.UNIMPLEMENTED


async def test_calls_over_the_cap_are_refused_at_once(world: ScoringWorld) -> None:
    """At the in-flight cap a caller is told so, and the others are answered."""
    stub = world.front
    requests = [ScoreRequest(transaction=some_transaction(n, card=n)) for n in range(40)]

    outcomes = await asyncio.gather(
        *(stub.Score(request, timeout=10) for request in requests), return_exceptions=True
    )

    codes = {exc.code() for exc in outcomes if isinstance(exc, grpc.aio.AioRpcError)}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) >= 4


async def test_flood_is_dropped_before_it_is_taken(world: ScoringWorld) -> None:
    """What comes faster than it can be refused is reset by gRPC, and the service is well after."""
    stub = world.front
    requests = [ScoreRequest(transaction=some_transaction(n, card=n)) for n in range(1_500)]

    outcomes = await asyncio.gather(
        *(stub.Score(request, timeout=10) for request in requests), return_exceptions=True
    )

    codes = {exc.code() for exc in outcomes if isinstance(exc, grpc.aio.AioRpcError)}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
    after = await stub.Score(ScoreRequest(transaction=some_transaction(2_000)), timeout=10)
    assert not after.stand_in


async def test_health_and_reflection_answer(world: ScoringWorld) -> None:
    """Standard tools find the service, and see that it serves."""
    channel = world.channel(0)
    health = health_pb2_grpc.HealthStub(channel)
    name = "fraudstream.v1.Scoring"

    answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    async for found in reflection.ServerReflectionInfo(iter([ask]), timeout=10):
        assert name in {s.name for s in found.list_services_response.service}


async def test_reflection_can_be_switched_off(topics: Mapping[str, str]) -> None:
    """A door that shall not tell what it offers does not; health stays."""
    async with scoring_world(topics, None, has_reflection=False) as world:
        channel = world.channel(0)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        info = stub.ServerReflectionInfo(iter([ask]), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await info.read()
        health = health_pb2_grpc.HealthStub(channel)
        name = "fraudstream.v1.Scoring"
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)

    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_sigterm_answers_what_is_in_flight(
    topics: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """On SIGTERM calls in flight are answered, new ones refused, and the exit code is 0."""
    tiny_artefact(tmp_path / "model")
    ports = free_ports()
    environment = {
        **topics,
        **model_settings(tmp_path / "model"),
        "FRAUD_SCORING_PORT": str(ports[0]),
        "FRAUD_SCORING_INTERNAL_PORT": str(ports[1]),
    }
    async with open_store(topics) as store:
        await open_shards(store)
    process = await asyncio.to_thread(service, "services.scoring", [], environment)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}") as channel:
        rows = feature_rows([some_transaction(n, card=n) for n in range(1_000)])
        call = channel.unary_unary(INTERNAL_BATCH, bytes, bytes)(
            batch_of(rows).SerializeToString(), timeout=20
        )
        await call.wait_for_connection()

        process.terminate()

        assert await call
    assert await asyncio.to_thread(process.wait_end, 15.0)
    assert process.exit_code == 0
