"""The gRPC servers: our services with standard health and reflection, their limits, their doors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

from fraudstream.errors import InvalidSettings, InvalidTransaction, Overloaded
from fraudstream.reject_reasons import RejectReason
from services.scoring.access import AccessRole
from services.scoring.calls import (
    Admit,
    Context,
    Doorkeeper,
    Gate,
    StreamHandler,
    UnaryHandler,
    guarded,
    guarded_stream,
)
from services.scoring.operator_methods import health_handler, reflection_handler

UNARY_BYTES: Final = 64 * 1024
BATCH_BYTES: Final = 4 * 1024 * 1024
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
    # A caller who does not read is held back here: bandwidth probing let the window of one stream
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
# Room for health checks and streams when every other place is taken.
_SPARE_CALLS: Final = 256

M = TypeVar("M", bound=Message)


def decode_message(kind: type[M], raw: bytes, limit_bytes: int) -> M:
    """Return a message of bytes that somebody sent.

    Raises:
        Overloaded: The message is larger than this call may be.
        InvalidTransaction: The bytes are not the message.
    """
    if len(raw) > limit_bytes:
        msg = f"the message has {len(raw)} bytes, at most {limit_bytes} are taken"
        raise Overloaded(msg)
    try:
        return kind.FromString(raw)
    except DecodeError as exc:
        raise InvalidTransaction(
            RejectReason.DECODE, f"the bytes are not a {kind.DESCRIPTOR.full_name}"
        ) from exc


@dataclass(frozen=True, slots=True)
class RpcService:
    """One gRPC service.

    Attributes:
        name: Its full name.
        role: Who may call it.
        unary: Handlers by method name.
        streams: Likewise.
    """

    name: str
    role: AccessRole
    unary: Mapping[str, UnaryHandler]
    streams: Mapping[str, StreamHandler]

    def generic_handler(self, admit: Admit, gate: Gate) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Return the service as grpcio takes it, without (de)serialisers."""
        methods = {
            method: grpc.unary_unary_rpc_method_handler(guarded(handler, admit, gate))
            for method, handler in self.unary.items()
        }
        for method, stream in self.streams.items():
            methods[method] = grpc.stream_stream_rpc_method_handler(guarded_stream(stream, admit))
        return grpc.method_handlers_generic_handler(self.name, methods)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server listens, to whom, and how much it takes at once.

    Attributes:
        address: host:port; port 0 takes any free one.
        max_calls: Calls in flight; one more gets RESOURCE_EXHAUSTED before it is parsed. As many
            more may wait to be taken at all.
        has_reflection: Whether the services can be listed by tools.
        is_shared: Whether other processes of ours listen there too (SO_REUSEPORT).
        credentials: TLS; None for none.
        doorkeeper: Makes the access check of a service; None lets everyone in.
    """

    address: str
    max_calls: int
    has_reflection: bool
    is_shared: bool = False
    credentials: grpc.ServerCredentials | None = None
    doorkeeper: Doorkeeper | None = None

    def admit(self, role: AccessRole, service: str) -> Admit:
        """Return the access check of a service."""
        return self.doorkeeper(role, service) if self.doorkeeper else _let_in


class RpcServer:
    """A grpc.aio server with one of our services, standard health and reflection."""

    def __init__(self, service: RpcService, listener: Listener) -> None:
        with _patient_threads():
            self._server = grpc.aio.server(
                options=(*_OPTIONS, *_own_options(listener)),
                maximum_concurrent_rpcs=listener.max_calls + _SPARE_CALLS,
            )
        admit = listener.admit(service.role, service.name)
        gate = Gate(listener.max_calls)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # stubs lack it
        operate = listener.admit(AccessRole.OPERATOR, f"{service.name}'s health and reflection")
        handlers = [service.generic_handler(admit, gate), health_handler(self._health, operate)]
        if listener.has_reflection:
            names: Sequence[str] = (service.name, health.SERVICE_NAME, reflection.SERVICE_NAME)
            handlers.append(reflection_handler(names, operate))
        self._server.add_generic_rpc_handlers(handlers)
        self._service_name = service.name
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
        await self._health.set(self._service_name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no new call, and let those in flight end within `grace_s`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


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
    """Have threads that begin here never take the core from another thread; Linux only.

    gRPC's begin with the first server of a process. Each packet woke them, in the midst of a round
    of decisions; as batch work they take all that came at once, when the event loop next waits.
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


def _let_in(_: Context) -> None:
    """Let everyone in."""
