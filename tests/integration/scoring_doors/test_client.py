"""The client that a downstream system imports, against a running service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import grpc
import grpc.aio
import pytest

from fraudstream.client import MAX_BATCH_BYTES, BlockingScoringClient, ScoringClient, split_rows
from fraudstream.errors import (
    ConflictingTransaction,
    DeadlineExceeded,
    FraudStreamError,
    InvalidSettings,
    InvalidTransaction,
    Overloaded,
    ServiceUnavailable,
    Unauthenticated,
)
from fraudstream.grpc_access import Access, ClientTls
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.rpc.grants import AccessRole, Grant, Grants, new_token, token_digest
from tests.fakes.tiny_model import tiny_artefact
from tests.servers.tls_files import TestCa
from tests.worlds.scoring_world import (
    BANK,
    ScoringWorld,
    free_ports,
    scoring_world,
    some_transaction,
)


@pytest.fixture
async def world(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ScoringWorld]:
    """Scoring with the tiny model."""
    tiny_artefact(tmp_path / "model")
    async with scoring_world(topics, tmp_path / "model") as running:
        yield running


def address_of(world: ScoringWorld) -> str:
    """Return where `Scoring` listens."""
    return f"127.0.0.1:{world.service.ports[0]}"


async def test_client_scores_one_and_many(world: ScoringWorld) -> None:
    """One call gives a decision; any number of transactions come back in order, errors too."""
    many = [some_transaction(n, card=n) for n in range(50)]
    many[7].amount_minor = -1
    async with ScoringClient(address_of(world), timeout_s=10) as client:
        decision = await client.score(many[0])
        answers = await client.score_batch(many, batch_rows=20)

    ids = [a.transaction_id if isinstance(a, Decision) else None for a in answers]
    assert ids == [None if n == 7 else f"t-{n}" for n in range(50)]
    assert isinstance(answers[0], Decision)
    assert (answers[0].decision_id, answers[0].replayed) == (decision.decision_id, True)
    assert isinstance(answers[7], InvalidTransaction)
    assert answers[7].reason == "AMOUNT_SIGN"


async def test_blocking_client_answers_the_same(world: ScoringWorld) -> None:
    """A program without an event loop gets the same decisions and errors."""

    def call() -> tuple[Decision, list[Decision | FraudStreamError]]:
        with BlockingScoringClient(address_of(world), timeout_s=10) as client:
            first = client.score(some_transaction(0))
            with pytest.raises(ConflictingTransaction):
                client.score(some_transaction(0, amount_minor=5))
            return first, client.score_batch([some_transaction(n, card=9) for n in (1, 2)])

    decision, answers = await asyncio.to_thread(call)

    assert decision.transaction_id == "t-0"
    assert [a.transaction_id for a in answers if isinstance(a, Decision)] == ["t-1", "t-2"]


async def test_stream_answers_in_order(world: ScoringWorld) -> None:
    """Decisions and errors come in the order of the transactions."""

    async def send() -> AsyncIterator[Transaction]:
        for number in range(100):
            transaction = some_transaction(number, card=number % 7)
            if number == 40:
                transaction.currency = "XXX?"
            yield transaction

    async with ScoringClient(address_of(world)) as client:
        answers = [answer async for answer in client.score_stream(send())]

    ids = [a.transaction_id if isinstance(a, Decision) else type(a).__name__ for a in answers]
    assert ids == ["InvalidTransaction" if n == 40 else f"t-{n}" for n in range(100)]


async def test_call_that_fails_is_the_error_of_each_of_its_rows(
    topics: Mapping[str, str],
) -> None:
    """Rows of one chunk share its failure; nothing else is lost."""
    async with (
        scoring_world(topics, None, max_in_flight=1) as world,
        ScoringClient(address_of(world), timeout_s=5) as client,
    ):
        large = some_transaction(2)
        large.customer_id = "c" * (MAX_BATCH_BYTES + 1)
        answers = await client.score_batch([some_transaction(1), large, some_transaction(3)])

    assert [type(answer).__name__ for answer in answers] == ["Decision", "Overloaded", "Decision"]


async def test_client_waits_for_a_service_that_comes_up_and_no_longer() -> None:
    """A service that is away is tried again until the deadline; then it is told where and why."""
    address = f"127.0.0.1:{free_ports()[0]}"

    async with ScoringClient(address, timeout_s=0.3) as client:
        with pytest.raises(ServiceUnavailable, match=f"{address}.*refused"):
            await client.score(some_transaction(1))
        (answer,) = await client.score_batch([some_transaction(1)])
        assert isinstance(answer, ServiceUnavailable)
        with pytest.raises(ServiceUnavailable, match=address):
            _ = [each async for each in client.score_stream([some_transaction(1)], timeout_s=0.3)]


def test_blocking_client_says_where_nobody_could_be_reached() -> None:
    """As the other: the address and gRPC's own words."""
    address = f"127.0.0.1:{free_ports()[0]}"

    with BlockingScoringClient(address, timeout_s=0.3) as client:
        with pytest.raises(ServiceUnavailable, match=f"{address}.*refused"):
            client.score(some_transaction(1))
        (answer,) = client.score_batch([some_transaction(1)])

    assert isinstance(answer, ServiceUnavailable)


async def test_client_without_tls_is_told_that_the_port_does_not_speak_with_it(
    tmp_path: Path,
) -> None:
    """A wrong scheme is no slow service."""
    server = grpc.aio.server()
    leaf = TestCa(tmp_path).leaf("server")
    pair = (leaf.key.read_bytes(), leaf.cert.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()

    async with ScoringClient(f"127.0.0.1:{port}", timeout_s=0.5) as client:
        with pytest.raises(ServiceUnavailable, match=f"127.0.0.1:{port}"):
            await client.score(some_transaction(1))
    await server.stop(None)


async def test_client_names_a_service_that_does_not_answer_in_time() -> None:
    """It is there and silent: the deadline is over, at an address."""

    async def hold(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await asyncio.Event().wait()
        return raw

    server = grpc.aio.server()
    methods = {"Score": grpc.unary_unary_rpc_method_handler(hold)}
    scoring = grpc.method_handlers_generic_handler("fraudstream.v1.Scoring", methods)
    server.add_generic_rpc_handlers((scoring,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async with ScoringClient(f"127.0.0.1:{port}", timeout_s=0.5) as client:
        with pytest.raises(DeadlineExceeded, match=f"127.0.0.1:{port}"):
            await client.score(some_transaction(1))
    await server.stop(None)


async def test_stream_takes_a_list_or_a_generator_too(world: ScoringWorld) -> None:
    """Rows that are there already need no asynchronous iterable."""
    async with ScoringClient(address_of(world)) as client:
        rows = (some_transaction(number, card=number) for number in range(5))
        answers = [answer async for answer in client.score_stream(rows)]

    assert [a.transaction_id for a in answers if isinstance(a, Decision)] == [
        f"t-{number}" for number in range(5)
    ]


def refusing_until(
    attempts: int, code: grpc.StatusCode
) -> tuple[Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]], list[int]]:
    """Return a handler that refuses calls before the N-th, and the list that it counts them in."""
    seen: list[int] = []

    async def score(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        seen.append(len(raw))
        if len(seen) < attempts:
            await context.abort(code, "try again")
        return Decision(transaction_id="t-1").SerializeToString()

    return score, seen


@pytest.mark.parametrize(
    ("code", "attempts", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, 3, None),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 4, None),
        (grpc.StatusCode.UNAVAILABLE, 9, ServiceUnavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 9, Overloaded),
        (grpc.StatusCode.INTERNAL, 2, FraudStreamError),
        (grpc.StatusCode.UNAUTHENTICATED, 2, Unauthenticated),
    ],
)
async def test_only_what_may_pass_is_tried_again_and_four_times_at_most(
    code: grpc.StatusCode, attempts: int, error: type[FraudStreamError] | None
) -> None:
    """gRPC repeats calls that met a lost connection or load; others fail at once."""
    handler, seen = refusing_until(attempts, code)
    server = grpc.aio.server()
    methods = {"Score": grpc.unary_unary_rpc_method_handler(handler)}
    scoring = grpc.method_handlers_generic_handler("fraudstream.v1.Scoring", methods)
    server.add_generic_rpc_handlers((scoring,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async with ScoringClient(f"127.0.0.1:{port}", timeout_s=10) as client:
        if error is None:
            await client.score(some_transaction(1))
        else:
            with pytest.raises(error) as failed:
                await client.score(some_transaction(1))
            assert type(failed.value) is error
    await server.stop(None)

    repeated = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert len(seen) == (min(attempts, 4) if repeated else 1)


async def test_client_brings_tls_and_token(topics: Mapping[str, str], tmp_path: Path) -> None:
    """With both it is served; without the token it is told what was expected."""
    ca = TestCa(tmp_path)
    server = ca.leaf("server")
    token = new_token()
    digest = token_digest(token).hex()
    until = "2199-12-31"
    entry = {"name": "s", "role": AccessRole.CALLER, "until": until, "token_sha256": digest}
    grant = Grant.model_validate({**entry, "banks": [BANK]})
    callers = tmp_path / "callers.json"
    callers.touch(mode=0o600)
    callers.write_text(Grants([grant]).text())
    told = {"tls_cert_file": server.cert, "tls_key_file": server.key, "callers_file": callers}
    async with scoring_world(topics, None, is_open=True, **told) as world:
        tls = ClientTls(ca.file)
        async with ScoringClient(address_of(world), 10, Access(tls, token)) as client:
            decision = await client.score(some_transaction(1))
        async with ScoringClient(address_of(world), 10, Access(tls)) as client:
            with pytest.raises(Unauthenticated, match="Bearer"):
                await client.score(some_transaction(1))

    assert decision.transaction_id == "t-1"


async def test_token_never_travels_in_the_clear() -> None:
    """Beyond loopback a token without TLS is refused before anything is sent."""
    access = Access(token=new_token())

    with pytest.raises(InvalidSettings, match="TLS"):
        ScoringClient("10.0.0.7:50051", 1.0, access)
    assert access.token not in repr(access)


def test_lots_fit_into_a_call() -> None:
    """No chunk has more rows or bytes than a call may have, and no row is lost."""
    rows = [Transaction(transaction_id=str(n), customer_id="c" * 40_000) for n in range(250)]

    chunks = list(split_rows(rows, batch_rows=120))

    assert [t for chunk in chunks for t in chunk] == rows
    assert all(len(chunk) <= 120 for chunk in chunks)
    assert max(sum(t.ByteSize() + 6 for t in chunk) for chunk in chunks) <= MAX_BATCH_BYTES
    assert len(chunks) == 3
