"""Health and reflection of a listener, behind the access check of operators.

grpcio's own registration functions know no such check, so their handlers are built here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from fraudstream.errors import FraudStreamError
from services.scoring.calls import Admit, Context, refuse


def health_handler(servicer: Any, admit: Admit) -> grpc.GenericRpcHandler[Any, Any]:
    """Return the standard health service, without its `List`, which grpcio does not have."""

    async def check(
        request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        await _let_in(admit, context)
        return await servicer.Check(request, context)

    async def watch(request: health_pb2.HealthCheckRequest, context: Context) -> None:
        await _let_in(admit, context)
        await servicer.Watch(request, context)

    forms = (
        health_pb2.HealthCheckRequest.FromString,
        health_pb2.HealthCheckResponse.SerializeToString,
    )
    methods = {
        "Check": grpc.unary_unary_rpc_method_handler(check, *forms),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, *forms),
    }
    return grpc.method_handlers_generic_handler(health.SERVICE_NAME, methods)


def reflection_handler(names: Sequence[str], admit: Admit) -> grpc.GenericRpcHandler[Any, Any]:
    """Return the reflection service, which lists the services of these names."""
    servicer = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]  # stubs lack it

    async def info(
        requests: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: Context
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        await _let_in(admit, context)
        async for answer in servicer.ServerReflectionInfo(requests, context):
            yield answer

    method = grpc.stream_stream_rpc_method_handler(
        info,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(
        reflection.SERVICE_NAME, {"ServerReflectionInfo": method}
    )


async def _let_in(admit: Admit, context: Context) -> None:
    try:
        admit(context)
    except FraudStreamError as exc:
        await refuse(context, exc)
