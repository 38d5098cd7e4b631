"""One gRPC call at the edge: let in, counted, its errors turned into status codes.

Handlers take bytes, because grpcio answers INTERNAL for bytes that are not the message.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import grpc
import grpc.aio

from fraudstream.errors import REASON_KEY, FraudStreamError, Overloaded, reason_of
from services.scoring.access import AccessRole

Context = grpc.aio.ServicerContext[bytes, bytes]
UnaryHandler = Callable[[bytes, Context], Awaitable[bytes]]
StreamHandler = Callable[[AsyncIterator[bytes], Context], AsyncIterator[bytes]]
# Raises an error where a call may not go on.
Admit = Callable[[Context], None]
# Makes the check of one service from the role that it needs and its name.
Doorkeeper = Callable[[AccessRole, str], Admit]

_LOG: Final = logging.getLogger(__name__)


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


def status_of(error: FraudStreamError) -> grpc.StatusCode:
    """Return the status code of an error, from the error table.

    >>> status_of(Overloaded("full"))
    <StatusCode.RESOURCE_EXHAUSTED: (8, 'resource exhausted')>
    """
    return grpc.StatusCode[error.outcome.status]


async def refuse(context: Context, error: FraudStreamError) -> None:
    """End a call with the status of an error; what it is exactly travels as trailing metadata."""
    await context.abort(status_of(error), str(error), ((REASON_KEY, reason_of(error)),))


async def hide(context: Context) -> None:
    """End a call that failed by a fault of ours: the caller gets an id to look for in the log."""
    fault_id = secrets.token_hex(8)
    _LOG.exception("a call failed, fault %s", fault_id)
    await context.abort(grpc.StatusCode.INTERNAL, f"internal error, fault {fault_id}")


def guarded(handler: UnaryHandler, admit: Admit, gate: Gate) -> UnaryHandler:
    """Return the handler behind access check and gate, with its errors turned into status codes.

    The message is still bytes when both have been passed.
    """

    async def guard(raw: bytes, context: Context) -> bytes:
        try:
            admit(context)
            with gate:
                return await handler(raw, context)
        except FraudStreamError as exc:
            await refuse(context, exc)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception:  # the outermost loop of a call
            await hide(context)
            raise

    return guard


def guarded_stream(handler: StreamHandler, admit: Admit) -> StreamHandler:
    """Return a stream's handler behind the access check. Its rows are bounded by its own window."""

    async def guard(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            admit(context)
            async for answer in handler(requests, context):
                yield answer
        except FraudStreamError as exc:
            await refuse(context, exc)
        except grpc.aio.AbortError:
            raise
        except Exception:  # the outermost loop of a call
            await hide(context)
            raise

    return guard
