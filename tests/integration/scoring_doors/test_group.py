"""Workers on shared ports: all serve, a dead one comes back, all drain, bad settings end it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import grpc
import grpc.aio
import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.v1.scoring_pb2 import ScoreRequest
from harness.processes import wait_until
from harness.service_process import ServiceProcess
from services.scoring.process.worker_group import reserve_port
from services.scoring.rpc.calls import RpcService
from services.scoring.rpc.grants import AccessRole
from services.scoring.rpc.server import Listener, RpcServer
from tests.worlds.scoring_group import connections, group_environment, scoring_group
from tests.worlds.scoring_world import batch_of, feature_rows, scoring_world, some_transaction

INTERNAL_BATCH = "/fraudstream.v1.InternalScoring/ScoreBatch"
CALLS = 24


async def test_workers_share_the_port_and_a_dead_one_comes_back(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """Connections are spread; after SIGKILL of one worker the others serve, and it is back."""
    async with scoring_group(topics, tmp_path) as group:

        async def score(first: int) -> list[str]:
            async with connections(group.ports[0], CALLS) as stubs:
                requests = [
                    ScoreRequest(transaction=some_transaction(first + n, card=n % 5))
                    for n in range(CALLS)
                ]
                answers = await asyncio.gather(
                    *(stub.Score(r, timeout=20) for stub, r in zip(stubs, requests, strict=True))
                )
            return [answer.transaction_id for answer in answers]

        answered = await score(0)
        decided = group.decided_by_worker()
        victim = group.pids()[1]
        os.kill(victim, signal.SIGKILL)
        came_back = await asyncio.to_thread(
            wait_until, lambda: group.messages().count("worker 1 is ready") == 2, 60.0
        )
        again = await score(CALLS)

        assert answered == [f"t-{n}" for n in range(CALLS)]
        assert min(decided) > 0
        assert sum(decided) == CALLS
        assert came_back
        assert group.pids()[1] != victim
        assert again == [f"t-{n}" for n in range(CALLS, 2 * CALLS)]
        assert group.process.log_text().splitlines().count("ready") == 1


async def test_worker_that_hangs_is_killed_and_comes_back(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """A stopped worker keeps its connections and answers none: the group ends it."""
    async with scoring_group(topics, tmp_path) as group:
        victim = group.pids()[1]
        os.kill(victim, signal.SIGSTOP)
        came_back = await asyncio.to_thread(
            wait_until, lambda: group.messages().count("worker 1 is ready") == 2, 90.0
        )

        assert came_back
        assert group.pids()[1] != victim
        assert any(message.startswith("worker 1 hangs") for message in group.messages())


async def test_sigterm_drains_every_worker(topics: Mapping[str, str], tmp_path: Path) -> None:
    """Calls in flight at all workers are answered, and the group ends with 0."""
    async with scoring_group(topics, tmp_path) as group:
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{group.ports[1]}"
        channels = [grpc.aio.insecure_channel(address, options) for _ in range(8)]
        calls = []
        for place, channel in enumerate(channels):
            await channel.channel_ready()
            rows = [some_transaction(1000 * place + n, card=n) for n in range(200)]
            request = batch_of(feature_rows(rows)).SerializeToString()
            calls.append(channel.unary_unary(INTERNAL_BATCH, bytes, bytes)(request, timeout=30))
        for call in calls:
            await call.wait_for_connection()

        group.process.terminate()
        answers = await asyncio.gather(*calls)

        assert all(answers)
        assert await asyncio.to_thread(group.process.wait_end, 30.0)
        assert group.process.exit_code == 0
        for channel in channels:
            await channel.close(None)


async def test_workers_end_when_their_parent_is_killed(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """Nobody serves on behind the back of whoever started the group."""
    async with scoring_group(topics, tmp_path) as group:
        pids = group.pids()
        os.kill(group.process.pid, signal.SIGKILL)

        gone = await asyncio.to_thread(
            wait_until,
            lambda: (
                not any(
                    Path(f"/proc/{pid}/cmdline").exists()
                    and Path(f"/proc/{pid}/cmdline").read_bytes()
                    for pid in pids.values()
                )
            ),
            30.0,
        )

        assert len(pids) == 2
        assert gone


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"FRAUD_SCORING_PEOPLE_FILE": "/nowhere/people.json"}, os.EX_CONFIG),
        ({"FRAUD_SCORING_MODEL": "/nowhere/models"}, None),
        ({"FRAUD_SCORING_HOST": "0.0.0.0"}, os.EX_CONFIG),  # noqa: S104  # refused
    ],
)
def test_worker_that_refuses_to_start_ends_the_group(
    topics: Mapping[str, str], tmp_path: Path, fault: dict[str, str], code: int | None
) -> None:
    """Bad settings end it with the code that one process would have, instead of a loop."""
    environment = {**group_environment(topics, tmp_path), **fault}
    arguments = ["--workers", "2"]
    group = ServiceProcess("services.scoring", arguments, environment, tmp_path / "group")

    group.launch()

    assert group.wait_end(60.0), group.log_text()
    assert group.exit_code == code if code else group.exit_code in range(64, 79)
    assert "ready" not in group.log_text().splitlines()


async def test_process_alone_shares_its_port_with_nobody(topics: Mapping[str, str]) -> None:
    """Two services that were started on one port by mistake do not split its calls."""
    async with scoring_world(topics, None) as world:
        listener = Listener(f"127.0.0.1:{world.service.ports[0]}", 1, has_reflection=False)

        with pytest.raises(InvalidSettings, match="another process"):
            RpcServer(RpcService("bank.Scoring", AccessRole.CALLER, {}, {}), listener)


def test_port_of_another_process_is_refused() -> None:
    """Also where that one shares its port: a second group would take half of its calls."""
    with socket.socket() as other, ExitStack() as stack:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()

        with pytest.raises(InvalidSettings, match="another process"):
            reserve_port("127.0.0.1", other.getsockname()[1], stack)


def test_reserved_port_is_free_for_those_who_share_it_alone() -> None:
    """A worker binds it, a stranger does not."""
    with ExitStack() as stack, socket.socket() as worker, socket.socket() as stranger:
        port = reserve_port("127.0.0.1", 0, stack)
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

        worker.bind(("127.0.0.1", port))

        with pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
