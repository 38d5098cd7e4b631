"""Decisions while the store or the broker is gone: never without an answer, never lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
import redis.asyncio as redis

from fraudstream.card_data.numbers import has_luhn_check
from fraudstream.topics import ACCEPTED
from fraudstream.v1.decision_pb2 import AcceptedTransaction, StandInCause
from fraudstream.v1.scoring_pb2 import ScoreRequest
from harness.servers import EmbeddedBroker, ValkeyServer
from tests.conftest import create_topics, environment_of_test
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import (
    ScoringWorld,
    batch_of,
    feature_rows,
    scoring_world,
    some_transaction,
)


@pytest.fixture
def mortal_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of this test's own, which it may end."""
    (tmp_path / "broker").mkdir()
    server = EmbeddedBroker(tmp_path / "broker")
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def mortal_world(
    broker: EmbeddedBroker, valkey: ValkeyServer, folder: Path
) -> AsyncIterator[tuple[ScoringWorld, Mapping[str, str]]]:
    """Yield scoring over servers that the test may end."""
    environment = environment_of_test(broker, valkey)
    create_topics(environment, folder)
    tiny_artefact(folder / "model")
    async with scoring_world(environment, folder / "model", default_deadline_ms=5_000) as world:
        yield world, environment


async def test_store_gone_gives_a_provisional_stand_in(
    mortal_broker: EmbeddedBroker, mortal_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """The caller gets a review, and the accepted row that carries it is in the log by then."""
    async with mortal_world(mortal_broker, mortal_valkey, tmp_path) as (world, _):
        mortal_valkey.kill()

        request = ScoreRequest(transaction=some_transaction(1))
        decision = await world.front.Score(request, timeout=10)

        assert decision.stand_in_cause == StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE
        assert decision.provisional
        (row,) = [AcceptedTransaction.FromString(v) for v in await world.log.read(ACCEPTED, 1)]
        assert row.decision.decision_id == decision.decision_id
        assert row.decision.stand_in


async def test_full_store_is_named_in_its_own_words(
    mortal_broker: EmbeddedBroker,
    mortal_valkey: ValkeyServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Caller and stream go on as documented, and the log says `OOM`, for many rows once."""
    async with mortal_world(mortal_broker, mortal_valkey, tmp_path) as (world, _):
        server = redis.Redis.from_url(mortal_valkey.url)
        await server.config_set("maxmemory", 1)
        await server.aclose()

        calls = [ScoreRequest(transaction=some_transaction(n, card=n)) for n in range(40)]
        decisions = [await world.front.Score(call, timeout=10) for call in calls]
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await world.stream(batch_of(feature_rows([some_transaction(99)])))

    assert all(decision.provisional for decision in decisions)
    assert "OOM command not allowed" in str(failed.value.details())
    said = [r.getMessage() for r in caplog.records if "could not be recorded" in r.getMessage()]
    assert all("OOM command not allowed" in message for message in said)
    assert 2 <= len(said) < 20


async def test_store_gone_is_unavailable_for_the_stream(
    mortal_broker: EmbeddedBroker, mortal_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """The features service is told to wait: its rows are in the log anyway."""
    async with mortal_world(mortal_broker, mortal_valkey, tmp_path) as (world, _):
        mortal_valkey.kill()

        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await world.stream(batch_of(feature_rows([some_transaction(1)])))

        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_pan_becomes_a_token_at_the_door(topics: Mapping[str, str], tmp_path: Path) -> None:
    """With token keys a PAN is taken over loopback, and no answer or record holds it."""
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"active": "k1", "keys": {"k1": "0f" * 32}}))
    keys.chmod(0o400)
    tiny_artefact(tmp_path / "model")
    head = "411111" + "0" * 9
    pan = next(f"{head}{digit}" for digit in range(10) if has_luhn_check(f"{head}{digit}"))
    transaction = some_transaction(1)
    transaction.pan = pan
    async with scoring_world(topics, tmp_path / "model", token_keys_file=str(keys)) as world:
        decision = await world.front.Score(ScoreRequest(transaction=transaction), timeout=10)

        assert decision.card_token.startswith("bank.k1.")
        (row,) = await world.log.read(ACCEPTED, 1)
        assert pan.encode() not in row + decision.SerializeToString()
