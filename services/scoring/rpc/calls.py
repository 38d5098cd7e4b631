"""One gRPC call at the edge: let in, counted, read, its errors turned into status codes.

Every method is served as a stream, so that nothing of a message is read before its caller is let
in. Handlers take bytes, because grpcio answers INTERNAL for bytes that are not the message.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from fraudstream.errors import REASON_KEY, FraudStreamError, QuotaExceeded, reason_of
from services.scoring.rpc.grants import AccessRole
from services.scoring.rpc.open_calls import Admit, Context, OpenCall, OpenCalls

UnaryHandler = Callable[[bytes, OpenCall], Awaitable[bytes]]
StreamHandler = Callable[[AsyncIterator[bytes], OpenCall], AsyncGenerator[bytes, None]]
# Makes the check of one service from the role that it needs and its name.
Doorkeeper = Callable[[AccessRole, str], Admit]

_LOG: Final = logging.getLogger(__name__)
# Trailing metadata that says how long gRPC waits before it repeats a call.
_PUSHBACK: Final = "grpc-retry-pushback-ms"


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

    def generic_handler(self, calls: OpenCalls) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Return the service as grpcio takes it, without (de)serialisers.

        On the wire a method of one message is a stream with one message.
        """
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        for method, handler in self.unary.items():
            serve = guarded(handler, calls, f"/{self.name}/{method}")
            methods[method] = grpc.stream_unary_rpc_method_handler(serve)
        for method, stream in self.streams.items():
            serve_stream = guarded_stream(stream, calls, f"/{self.name}/{method}")
            methods[method] = grpc.stream_stream_rpc_method_handler(serve_stream)
        return grpc.method_handlers_generic_handler(self.name, methods)


def status_of(error: FraudStreamError) -> grpc.StatusCode:
    """Return the status code of an error, from the error table.

    >>> from fraudstream.errors import Overloaded
    >>> status_of(Overloaded("full"))
    <StatusCode.RESOURCE_EXHAUSTED: (8, 'resource exhausted')>
    """
    return grpc.StatusCode[error.outcome.status]


async def refuse(context: Context, error: FraudStreamError) -> None:
    """End a call with the status of an error; what it is exactly travels as trailing metadata."""
    told = [(REASON_KEY, reason_of(error))]
    if isinstance(error, QuotaExceeded) and error.retry_after_ms:
        told.append((_PUSHBACK, str(error.retry_after_ms)))
    await context.abort(status_of(error), str(error), tuple(told))


async def hide(context: Context) -> None:
    """End a call that failed by a fault of ours: the caller gets an id to look for in the log."""
    fault_id = secrets.token_hex(8)
    _LOG.exception("a call failed, fault %s", fault_id)
    await context.abort(grpc.StatusCode.INTERNAL, f"internal error, fault {fault_id}")


def guarded(handler: UnaryHandler, calls: OpenCalls, method: str) -> Callable[..., object]:
    """Return what serves a method of one message and one answer."""

    async def guard(_: object, context: Context) -> bytes:
        call: OpenCall | None = None
        try:
            call = calls.let_in(context, method)
            raw = await calls.read(call)
            calls.decided.take(call.caller)
            try:
                answer = await handler(raw, call)
            finally:
                calls.decided.give_back(call.caller)
            calls.count_large(call, answer)
        except BaseException as exc:
            await _end(context, call, exc)
            raise
        else:
            return answer

    return guard


def guarded_stream(handler: StreamHandler, calls: OpenCalls, method: str) -> Callable[..., object]:
    """Return what serves a stream. Its rows are bounded by its own window."""

    async def guard(_: object, context: Context) -> None:
        call: OpenCall | None = None
        try:
            call = calls.let_in(context, method)
            with calls.streaming(call):
                async with aclosing(handler(calls.messages(call), call)) as answers:
                    async for answer in answers:
                        await context.write(answer)
                        calls.keep(call)
        except BaseException as exc:
            await _end(context, call, exc)
            raise

    return guard


async def _end(context: Context, call: OpenCall | None, exc: BaseException) -> None:
    """Answer a call that failed with a status; one that its caller took back needs none."""
    if isinstance(exc, FraudStreamError):
        await refuse(context, exc)
    elif isinstance(exc, asyncio.CancelledError):
        error = call.take_error() if call else None
        if error is not None:
            await refuse(context, error)
    elif isinstance(exc, Exception) and not isinstance(exc, grpc.aio.AbortError):
        await hide(context)  # the outermost loop of a call
