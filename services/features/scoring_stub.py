"""The call to scoring: one shard's rows with their features, answered after publication."""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio

from fraudstream.errors import FraudStreamError, ModelNotLoaded, ShardClosed
from fraudstream.grpc_access import OPEN, Access
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, ScoreBatchResponse
from fraudstream.v1.scoring_pb2_grpc import InternalScoringStub

_MESSAGE_BYTES: Final = 4 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class ScoringStub:
    """Connection to the scoring service's internal door."""

    def __init__(self, address: str, timeout_s: float, access: Access = OPEN) -> None:
        """Keep the address; gRPC connects at the first call.

        Raises:
            InvalidSettings: A file is missing, or a token would travel in the clear.
        """
        self._timeout_s = timeout_s
        self._metadata = access.metadata(address)
        self._channel = (
            grpc.aio.secure_channel(address, access.tls.credentials(), _OPTIONS)
            if access.tls
            else grpc.aio.insecure_channel(address, _OPTIONS)
        )
        self._stub = InternalScoringStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def decide(self, request: FeatureBatchRequest) -> list[Decision]:
        """Have rows decided: one decision a row, in order.

        Raises:
            ShardClosed: Scoring refused the shard, the features or one of the rows; read the
                marker again and start again.
            ModelNotLoaded: No scorer answers.
        """
        try:
            response: ScoreBatchResponse = await self._stub.ScoreBatch(
                request, timeout=self._timeout_s, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as exc:
            raise _error_of(exc) from exc
        decisions = []
        for result in response.results:
            if result.WhichOneof("outcome") != "decision":
                msg = f"scoring refused a row: {result.error.reason}: {result.error.message}"
                raise ShardClosed(msg)
            decisions.append(result.decision)
        return decisions


def _error_of(exc: grpc.aio.AioRpcError) -> FraudStreamError:
    """Return our error for a failed call."""
    msg = f"scoring answered {exc.code().name}: {exc.details()}"
    if exc.code() is grpc.StatusCode.FAILED_PRECONDITION:
        return ShardClosed(msg)
    return ModelNotLoaded(msg)
