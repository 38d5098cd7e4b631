"""The gRPC servers: our services with standard health and reflection, their limits, their doors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from fraudstream.errors import InvalidSettings
from services.scoring.rpc.calls import Doorkeeper, RpcService
from services.scoring.rpc.grants import AccessRole
from services.scoring.rpc.health import Health, reflection_service
from services.scoring.rpc.messages import BATCH_BYTES
from services.scoring.rpc.open_calls import Bounds, Context, OpenCalls

_METADATA_BYTES: Final = 8192

# The reasons behind each value are in the security baseline of grpcio servers: bounded messages,
# streams and metadata; dead peers found in 35 s; connections renewed so that balancers can act.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", BATCH_BYTES),
    # A decision holds its transaction, and what else was pending of its card: up to 5 KB.
    ("grpc.max_send_message_length", 2 * BATCH_BYTES),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_metadata_size", _METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
    # A caller that reads slowly is slowed down here: bandwidth probing let the window of one stream
    # grow for as long as it was sent to. 256 KiB is a batch of 128 feature rows.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 256 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
)

# So many calls may always wait to be taken: some 20 ms of refusals.
_LEAST_UNTAKEN: Final = 128
# Calls until their answer is on its way, those without a token too: what may be open at once is
# counted by caller (`open_calls.py`), so this is for what cannot be: answers that nobody reads.
_MOST_CALLS: Final = 4_096


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server listens, to whom, and how much it takes at once.

    Attributes:
        address: host:port; port 0 takes any free one.
        max_calls: Calls worked on; one more gets RESOURCE_EXHAUSTED before it is parsed. As many
            more may wait to be taken at all.
        has_reflection: Whether the services can be listed by tools.
        is_shared: Whether other processes of ours listen there too (SO_REUSEPORT).
        credentials: TLS; None for none.
        doorkeeper: Makes the access check of a service; None lets everyone in.
        streams_of_one: Streams that one caller may have open.
        read_s: How long the message of a call may take to arrive, seconds.
        idle_s: How long a stream stays open on which nothing moves, seconds.
    """

    address: str
    max_calls: int
    has_reflection: bool
    is_shared: bool = False
    credentials: grpc.ServerCredentials | None = None
    doorkeeper: Doorkeeper | None = None
    streams_of_one: int = 16
    read_s: float = 5.0
    idle_s: float = 60.0

    def open_calls(self, role: AccessRole, service: str) -> OpenCalls:
        """Return what counts the calls of a service, behind its access check."""
        check = self.doorkeeper(role, service) if self.doorkeeper else _let_in
        # Without names there is no part for each: behind a mesh all come from one address.
        of_one = max(1, self.max_calls * 3 // 4) if self.doorkeeper else self.max_calls
        bounds = Bounds(self.max_calls, of_one, self.streams_of_one, self.read_s, self.idle_s)
        return OpenCalls(bounds, check)


class RpcServer:
    """A grpc.aio server with one of our services, standard health and reflection."""

    def __init__(self, service: RpcService, listener: Listener) -> None:
        with _patient_threads():
            self._server = grpc.aio.server(
                options=(*_OPTIONS, *_own_options(listener)),
                maximum_concurrent_rpcs=_MOST_CALLS,
            )
        self._health = Health(service.name)
        for_operators = [self._health.service()]
        if listener.has_reflection:
            names = (service.name, health.SERVICE_NAME, reflection.SERVICE_NAME)
            for_operators.append(reflection_service(names))
        # Operators have slots of their own: a full door still tells them that it serves.
        operated = f"{service.name}'s health and reflection"
        self._calls = (
            listener.open_calls(service.role, service.name),
            listener.open_calls(AccessRole.OPERATOR, operated),
        )
        handlers = [service.generic_handler(self._calls[0])]
        handlers += [each.generic_handler(self._calls[1]) for each in for_operators]
        self._server.add_generic_rpc_handlers(handlers)
        self._watching: list[asyncio.Task[None]] = []
        self.port = self._listen(listener)

    def _listen(self, listener: Listener) -> int:
        try:
            if listener.credentials is None:
                return self._server.add_insecure_port(listener.address)
            return self._server.add_secure_port(listener.address, listener.credentials)
        except RuntimeError as exc:
            msg = f"cannot listen on {listener.address}; is another process there?"
            raise InvalidSettings(msg) from exc

    async def start(self) -> None:
        """Listen, and say SERVING."""
        await self._server.start()
        self._watching = [asyncio.create_task(calls.watch_forever()) for calls in self._calls]
        self._health.serves(is_serving=True)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no new call, and let those in flight end within `grace_s`."""
        self._health.serves(is_serving=False)
        await self._server.stop(grace_s)
        for task in self._watching:
            task.cancel()


def _own_options(listener: Listener) -> Sequence[tuple[str, int]]:
    """Return the options that are a listener's own.

    Python takes calls from gRPC one by one, and to refuse one costs as much as an echo: in a flood
    calls would wait for that until their deadline. So gRPC itself drops what comes while as many
    wait untaken as may be in flight. A caller sees a reset stream, as CANCELLED.
    """
    waiting = max(listener.max_calls, _LEAST_UNTAKEN)
    return (
        ("grpc.so_reuseport", int(listener.is_shared)),
        ("grpc.server.max_pending_requests", waiting),
        ("grpc.server.max_pending_requests_hard_limit", waiting + waiting // 4),
    )


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Start threads with SCHED_BATCH, so that they never preempt others; Linux only.

    gRPC starts its own with the first server of a process. Each packet would wake them amid a round
    of decisions; as batch work they take all packets when the event loop next waits.
    """
    if not hasattr(os, "SCHED_BATCH"):
        yield
        return
    ordinary, level = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):  # a sandbox may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, level)
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, ordinary, level)


def _let_in(_context: Context, _method: str) -> None:
    """Let everyone in."""
