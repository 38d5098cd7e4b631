"""Health and reflection of a listener, for operators: the standard services behind our own doors.

grpcio's registration functions know no access check, and its health service writes to a watcher
inside its lock: one that does not read would hold up the end of the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from fraudstream.errors import UnknownService
from services.scoring.rpc.calls import RpcService
from services.scoring.rpc.grants import AccessRole
from services.scoring.rpc.messages import UNARY_BYTES, decode_message
from services.scoring.rpc.open_calls import OpenCall

_LOOK_EVERY_S: Final = 0.5


class Health:
    """The standard health service, without its `List`.

    Args:
        name: The service that it tells of, beside the server as a whole (the empty name).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._status = health_pb2.HealthCheckResponse.NOT_SERVING

    def serves(self, *, is_serving: bool) -> None:
        """Keep whether calls are taken."""
        answer = health_pb2.HealthCheckResponse
        self._status = answer.SERVING if is_serving else answer.NOT_SERVING

    def service(self) -> RpcService:
        """Return the service as the server takes it."""
        unary, streams = {"Check": self.check}, {"Watch": self.watch}
        return RpcService(health.SERVICE_NAME, AccessRole.OPERATOR, unary, streams)

    async def check(self, raw: bytes, _: OpenCall) -> bytes:
        """Answer whether calls are taken.

        Raises:
            UnknownService: The service asked for is not here.
        """
        asked = decode_message(health_pb2.HealthCheckRequest, raw, UNARY_BYTES).service
        if asked not in ("", self._name):
            raise UnknownService(f"expected {self._name} or no name, found another service")
        return _answer(self._status)

    async def watch(
        self, requests: AsyncIterator[bytes], call: OpenCall
    ) -> AsyncGenerator[bytes, None]:
        """Answer whether calls are taken, now and whenever that changes."""
        async for raw in requests:
            call.may_rest = True
            asked = decode_message(health_pb2.HealthCheckRequest, raw, UNARY_BYTES).service
            last: int | None = None
            while True:
                is_here = asked in ("", self._name)
                status = self._status if is_here else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
                if status != last:
                    yield _answer(status)
                last = status
                await asyncio.sleep(_LOOK_EVERY_S)


def reflection_service(names: Sequence[str]) -> RpcService:
    """Return the reflection service, which lists the services of these names."""
    servicer = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]  # stubs lack it

    async def info(requests: AsyncIterator[bytes], call: OpenCall) -> AsyncGenerator[bytes, None]:
        async def asked() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            async for raw in requests:
                yield decode_message(reflection_pb2.ServerReflectionRequest, raw, UNARY_BYTES)

        async for answer in servicer.ServerReflectionInfo(asked(), call.context):
            yield answer.SerializeToString()

    streams = {"ServerReflectionInfo": info}
    return RpcService(reflection.SERVICE_NAME, AccessRole.OPERATOR, {}, streams)


def _answer(status: int) -> bytes:
    answer: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return answer
