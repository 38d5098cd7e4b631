"""The command line of the echo, which serves until a signal."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc.aio
import uvloop

from fraudstream.readiness import say_ready
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import DESCRIPTOR, ScoreRequest
from services.scoring.access import AccessRole
from services.scoring.calls import Context
from services.scoring.rpc import UNARY_BYTES, Listener, RpcServer, RpcService
from services.scoring.rpc import decode_message as decode

# As many as scoring takes by default.
_MAX_CALLS: Final = 128


class Echo:
    """Answers each request with the same decision, about the request's transaction.

    Args:
        answer: A decision that scoring gave: so an answer has the size of a real one.
    """

    def __init__(self, answer: Decision) -> None:
        self._answer = answer

    async def score(self, raw: bytes, _: Context) -> bytes:
        """Decode the request, and encode a decision."""
        transaction = decode(ScoreRequest, raw, UNARY_BYTES).transaction
        decision = Decision()
        decision.CopyFrom(self._answer)
        decision.transaction_id = transaction.transaction_id
        decision.card_token = transaction.card_token
        decision.transaction.CopyFrom(transaction)
        return decision.SerializeToString()


def run(arguments: Sequence[str]) -> int:
    """Serve until a signal; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.echo", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("answer", type=Path, help="file with a serialised decision")
    parser.add_argument(
        "--patient",
        action="store_true",
        help="have gRPC's threads wait as scoring's do (ADR 17); else they are as gRPC starts them",
    )
    asked = parser.parse_args(arguments)
    echo = Echo(Decision.FromString(asked.answer.read_bytes()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(echo, asked.port, is_patient=asked.patient))
    return 0


async def _serve(echo: Echo, port: int, *, is_patient: bool) -> None:
    if is_patient:
        await _serve_until_signal(echo, port)
        return
    # gRPC starts its threads with the first channel or server: here before ours could slow them.
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}"):
        await _serve_until_signal(echo, port)


async def _serve_until_signal(echo: Echo, port: int) -> None:
    name = DESCRIPTOR.services_by_name["Scoring"].full_name
    service = RpcService(name, AccessRole.CALLER, {"Score": echo.score}, {})
    server = RpcServer(service, Listener(f"127.0.0.1:{port}", _MAX_CALLS, has_reflection=False))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await server.start()
    say_ready()
    await stopped.wait()
    await server.stop(grace_s=1.0)
