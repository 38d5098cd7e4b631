"""The load generator against the echo, a real gRPC server in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.scoring_pb2 import ScoreRequest
from harness.processes import free_port
from harness.service_process import ServiceProcess
from loadtest.figures.scoring.doors import METHOD
from loadtest.generator.calls import Call, Outcome, due_times_ns, summarise
from loadtest.generator.generator import Generator, Target
from tests.worlds.scoring_world import some_transaction


@pytest.fixture
def echo_port(tmp_path: Path) -> Iterator[int]:
    """Port of an echo that approves everything."""
    answer = tmp_path / "answer"
    answer.write_bytes(Decision(action=Action.ACTION_APPROVE, score=0.5).SerializeToString())
    port = free_port()
    process = ServiceProcess("loadtest.workers", ["echo", str(port), str(answer)], {}, tmp_path)
    process.start(60.0)
    yield port
    process.stop()


def requests(count: int) -> list[bytes]:
    """Return requests that differ."""
    return [ScoreRequest(transaction=some_transaction(n)).SerializeToString() for n in range(count)]


async def test_each_call_gets_the_answer_to_its_own_request(echo_port: int) -> None:
    """Many are in flight over few connections, and none is mixed up."""
    async with Generator(Target("127.0.0.1", echo_port, METHOD, connections=2)) as generator:
        calls = await generator.run_closed(requests(300), in_flight=64)

    decided = [Decision.FromString(call.answer).transaction_id for call in calls]
    assert decided == [f"t-{number}" for number in range(300)]
    assert summarise(calls)[Outcome.DECIDED] == len(calls) == 300


async def test_open_run_sends_what_is_due(echo_port: int) -> None:
    """Calls are sent one by one and all are answered."""
    due = due_times_ns(200.0, 0.5, seed=1)
    async with Generator(Target("127.0.0.1", echo_port, METHOD, timeout_ms=5_000)) as generator:
        calls = await generator.run_open(requests(len(due)), due, give_up_ms=5_000)

    assert summarise(calls)[Outcome.DECIDED] == len(calls) == 100
    assert all(call.sent_ns >= call.due_ns for call in calls)


async def test_calls_are_given_up_and_the_connection_goes_on(echo_port: int) -> None:
    """A cancelled call has no answer; the next on the same connection has one."""
    due = due_times_ns(10_000.0, 0.1, seed=1)
    async with Generator(Target("127.0.0.1", echo_port, METHOD, connections=1)) as generator:
        given_up = await generator.run_open(requests(len(due)), due, give_up_ms=0)
        answered = await generator.run_closed(requests(10), in_flight=10)

    assert summarise(given_up)[Outcome.LATE] == len(due)
    assert summarise(answered)[Outcome.DECIDED] == len(answered) == 10


async def test_refusals_carry_their_status(echo_port: int) -> None:
    """An error comes as its gRPC status: these bytes are no request."""
    async with Generator(Target("127.0.0.1", echo_port, METHOD)) as generator:
        (call,) = await generator.run_closed([b"\xff\xff"], in_flight=1)

    assert isinstance(call, Call)
    assert call.status == 3


async def test_server_that_is_not_there_is_an_error() -> None:
    """Nothing is measured against nobody."""
    with pytest.raises(ConnectionRefusedError):
        async with asyncio.timeout(5), Generator(Target("127.0.0.1", free_port(), METHOD)):
            pass
