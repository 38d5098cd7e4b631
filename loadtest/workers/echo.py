"""The echo: the same gRPC server and messages as scoring, and nothing behind them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import uvloop

from fraudstream.runtime.readiness import say_ready
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import DESCRIPTOR, ScoreRequest
from services.scoring.rpc.calls import RpcService
from services.scoring.rpc.grants import AccessRole
from services.scoring.rpc.messages import UNARY_BYTES
from services.scoring.rpc.messages import decode_message as decode
from services.scoring.rpc.open_calls import OpenCall
from services.scoring.rpc.server import Listener, RpcServer

# As many as scoring takes by default.
_MAX_CALLS = 128


class Echo:
    """Answers each request with a decision that scoring gave, about the request's transaction."""

    def __init__(self, answer: Decision) -> None:
        self._answer = answer

    async def score(self, raw: bytes, _: OpenCall) -> bytes:
        """Decode the request, and encode a decision."""
        transaction = decode(ScoreRequest, raw, UNARY_BYTES).transaction
        decision = Decision()
        decision.CopyFrom(self._answer)
        decision.transaction_id = transaction.transaction_id
        decision.card_token = transaction.card_token
        decision.transaction.CopyFrom(transaction)
        return decision.SerializeToString()


def serve_echo(port: str, answer: str) -> None:
    """Serve decisions like the serialised one in a file, until a signal."""
    echo = Echo(Decision.FromString(Path(answer).read_bytes()))

    async def serve() -> None:
        # gRPC starts its threads with the first channel or server: with this channel they are as
        # gRPC has them, where scoring's server would slow them down (ADR 17).
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}"):
            await serve_score(echo.score, int(port), _MAX_CALLS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


async def serve_score(
    score: Callable[[bytes, OpenCall], Awaitable[bytes]], port: int, max_calls: int
) -> None:
    """Serve `Score` by scoring's own server until a signal."""
    name = DESCRIPTOR.services_by_name["Scoring"].full_name
    service = RpcService(name, AccessRole.CALLER, {"Score": score}, {})
    server = RpcServer(service, Listener(f"127.0.0.1:{port}", max_calls, has_reflection=False))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await server.start()
    say_ready()
    await stopped.wait()
    await server.stop(grace_s=1.0)
