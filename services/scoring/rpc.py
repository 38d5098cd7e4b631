"""gRPC at the edge: raw bytes in and out, errors to status codes, limits, health, reflection.

Handlers take bytes, because grpcio answers INTERNAL for bytes that are not the message.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fraudstream.errors import FraudStreamError, InvalidSettings, InvalidTransaction, Overloaded
from fraudstream.reject_reasons import RejectReason

UNARY_BYTES: Final = 64 * 1024
BATCH_BYTES: Final = 4 * 1024 * 1024
_METADATA_BYTES: Final = 8192

# The reasons behind each value are in the security baseline of grpcio servers: bounded messages,
# streams and metadata; dead peers found in 35 s; connections renewed so that balancers can act.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", BATCH_BYTES),
    ("grpc.max_send_message_length", BATCH_BYTES),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_metadata_size", _METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.so_reuseport", 0),
)

# Room for health checks and streams when every other place is taken.
_SPARE_CALLS: Final = 256

Context = grpc.aio.ServicerContext[bytes, bytes]
UnaryHandler = Callable[[bytes, Context], Awaitable[bytes]]
StreamHandler = Callable[[AsyncIterator[bytes], Context], AsyncIterator[bytes]]
M = TypeVar("M", bound=Message)

_LOG = logging.getLogger(__name__)


class Gate:
    """Counts calls in flight and refuses those over the cap, before they are parsed."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._in_flight = 0

    def __enter__(self) -> None:
        """Let one call in.

        Raises:
            Overloaded: The cap is reached.
        """
        if self._in_flight >= self._cap:
            msg = f"{self._cap} calls are in flight, no more are taken; try again later"
            raise Overloaded(msg)
        self._in_flight += 1

    def __exit__(self, *_: object) -> None:
        """Let it out."""
        self._in_flight -= 1


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


def status_of(error: FraudStreamError) -> grpc.StatusCode:
    """Return the status code of an error, from the error table.

    >>> status_of(Overloaded("full"))
    <StatusCode.RESOURCE_EXHAUSTED: (8, 'resource exhausted')>
    """
    return grpc.StatusCode[error.outcome.status]


async def refuse(context: Context, error: FraudStreamError) -> None:
    """End a call with the status of an error; its reason code travels as trailing metadata."""
    reason = getattr(error, "reason", "")
    trailing = (("fraud-reason", str(reason)),) if reason else ()
    await context.abort(status_of(error), str(error), trailing)


def guarded(handler: UnaryHandler, gate: Gate) -> UnaryHandler:
    """Return the handler behind the gate, with its errors turned into status codes.

    Of a fault of ours the caller gets an id to look for in the log, and nothing of the message.
    """

    async def guard(raw: bytes, context: Context) -> bytes:
        try:
            with gate:
                return await handler(raw, context)
        except FraudStreamError as exc:
            await refuse(context, exc)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception:  # the outermost loop of a call
            fault_id = secrets.token_hex(8)
            _LOG.exception("a call failed, fault %s", fault_id)
            await context.abort(grpc.StatusCode.INTERNAL, f"internal error, fault {fault_id}")
            raise

    return guard


@dataclass(frozen=True, slots=True)
class RpcService:
    """One gRPC service: its full name, and its handlers by method name."""

    name: str
    unary: Mapping[str, UnaryHandler]
    streams: Mapping[str, StreamHandler]

    def generic_handler(self, gate: Gate) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Return the service as grpcio takes it, without (de)serialisers."""
        methods = {
            method: grpc.unary_unary_rpc_method_handler(guarded(handler, gate))
            for method, handler in self.unary.items()
        }
        for method, stream in self.streams.items():
            methods[method] = grpc.stream_stream_rpc_method_handler(stream)
        return grpc.method_handlers_generic_handler(self.name, methods)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server listens, and how much it takes at once.

    Attributes:
        address: host:port; port 0 takes any free one.
        max_calls: Calls in flight; one more gets RESOURCE_EXHAUSTED before it is parsed.
        has_reflection: Whether the services can be listed by tools.
    """

    address: str
    max_calls: int
    has_reflection: bool


class RpcServer:
    """A grpc.aio server with one of our services, standard health and reflection."""

    def __init__(self, service: RpcService, listener: Listener) -> None:
        self._server = grpc.aio.server(
            options=_OPTIONS, maximum_concurrent_rpcs=listener.max_calls + _SPARE_CALLS
        )
        self._server.add_generic_rpc_handlers((service.generic_handler(Gate(listener.max_calls)),))
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # stubs lack it
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if listener.has_reflection:
            names: Sequence[str] = (service.name, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._service_name = service.name
        try:
            self.port = self._server.add_insecure_port(listener.address)
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
