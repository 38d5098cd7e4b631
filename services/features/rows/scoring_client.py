"""The call to scoring: one shard's rows with their features, answered after publication."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import grpc
import grpc.aio

from fraudstream.errors import FraudStreamError, ModelNotLoaded, ShardClosed
from fraudstream.grpc_access import OPEN, Access
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import (
    CheckRecordsRequest,
    CheckRecordsResponse,
    FeatureBatchRequest,
    ScoreBatchResponse,
)
from fraudstream.v1.scoring_pb2_grpc import InternalScoringStub

# What the service takes and what it sends (`services/scoring/rpc/server.py`).
_REQUEST_BYTES: Final = 4 << 20
_RESPONSE_BYTES: Final = 8 << 20
_MOST_ROWS: Final = 1_024
# A decision is up to some three times as large as its row: it adds reasons, hashes and timings.
_CUT_BYTES: Final = 2 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _RESPONSE_BYTES),
    ("grpc.max_send_message_length", _REQUEST_BYTES),
    # A worker that hangs is killed by its group after 10 s; a host that is gone is noticed here.
    # The service takes a ping every 10 s (`services/scoring/rpc/server.py`).
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 3_000),
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
        self._channel = access.aio_channel(address, _OPTIONS)
        self._stub = InternalScoringStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def decide(self, request: FeatureBatchRequest) -> list[Decision]:
        """Have rows decided: one decision a row, in order.

        What is too large for a message goes in several, one after another: each is published before
        its answer, and a row of one that is sent again gets the decision that it has.

        Raises:
            ShardClosed: Scoring refused the shard, the features or one of the rows; read the
                marker again and start again.
            ModelNotLoaded: No scorer answers.
        """
        decisions: list[Decision] = []
        for part in cut_request(request):
            decisions += await self._decide(part)
        return decisions

    async def check_records(self, partition: int, identities: Sequence[bytes]) -> int:
        """Have scoring look at records of a shard; return how many it did not write and took out.

        Raises:
            ShardClosed: Scoring refused the call.
            ModelNotLoaded: No scorer answers.
        """
        taken_out = 0
        for begin in range(0, len(identities), _MOST_ROWS):
            part = identities[begin : begin + _MOST_ROWS]
            request = CheckRecordsRequest(partition=partition, identities=part)
            try:
                response: CheckRecordsResponse = await self._stub.CheckRecords(
                    request, timeout=self._timeout_s, metadata=self._metadata
                )
            except grpc.aio.AioRpcError as exc:
                if exc.code() is grpc.StatusCode.UNIMPLEMENTED:  # a scorer of an older release
                    return 0
                raise _error_of(exc) from exc
            taken_out += response.taken_out
        return taken_out

    async def _decide(self, request: FeatureBatchRequest) -> list[Decision]:
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


def cut_request(request: FeatureBatchRequest) -> Iterator[FeatureBatchRequest]:
    """Yield a request in as many parts as its size asks for, halved until each fits.

    >>> len(list(cut_request(FeatureBatchRequest(topic_id=b"0"))))
    1
    """
    rows = len(request.rows)
    if rows < 2 or request.ByteSize() <= _CUT_BYTES:
        yield request
        return
    for begin, end in ((0, rows // 2), (rows // 2, rows)):
        part = FeatureBatchRequest(
            topic_id=request.topic_id,
            partition=request.partition,
            from_offset=request.from_offset,
            generation=request.generation,
            feature_hashes=request.feature_hashes,
            sequence_hash=request.sequence_hash,
            rows=request.rows[begin:end],
        )
        yield from cut_request(part)


def _error_of(exc: grpc.aio.AioRpcError) -> FraudStreamError:
    """Return our error for a failed call."""
    msg = f"scoring answered {exc.code().name}: {exc.details()}"
    if exc.code() is grpc.StatusCode.FAILED_PRECONDITION:
        return ShardClosed(msg)
    return ModelNotLoaded(msg)
