"""What a downstream system imports to have card transactions decided.

Example:
    from fraudstream.client import BlockingScoringClient

    with BlockingScoringClient("127.0.0.1:50051") as client:
        decision = client.score(transaction)
        print(decision.action, decision.score, [reason.text for reason in decision.reasons])

A repeated call with the same transaction gets the same decision, so gRPC itself repeats calls that
met UNAVAILABLE, or for load RESOURCE_EXHAUSTED or CANCELLED, inside their deadline; so may a
caller. Errors are those of `fraudstream.errors`. The protocol, the errors and test transactions are
in docs/integration.md.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio

from fraudstream.errors import (
    REASON_KEY,
    DeadlineExceeded,
    FraudStreamError,
    ServiceUnavailable,
    error_of,
)
from fraudstream.grpc_access import OPEN, Access
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import (
    RowResult,
    ScoreBatchRequest,
    ScoreBatchResponse,
    ScoreRequest,
)
from fraudstream.v1.scoring_pb2_grpc import ScoringStub
from fraudstream.v1.transaction_pb2 import Transaction

Answer = Decision | FraudStreamError
"""The outcome of one row: its decision, or why it has none."""

MAX_BATCH_ROWS: Final = 1024
# Of a request, and half of what an answer may have: a decision holds its transaction and more.
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
# A whole batch has the deadline of one call: this many rows leave time for other callers' too.
BATCH_ROWS: Final = 256
# The server closes a connection after 300 s and 30 s of grace: a stream begins again before.
STREAM_TIMEOUT_S: Final = 300.0

# Asked of gRPC when a call had no answer: a connection that cannot be made says why at once.
_PROBE: Final = "/grpc.health.v1.Health/Check"
_PROBE_S: Final = 0.05
# Tag and length of a row in its request.
_ROW_FRAME_BYTES: Final = 6
# A refusal for load is repeated as well as a lost connection: 0.05 + 0.1 + 0.2 s and their jitter,
# while no more than a tenth of all calls is a repetition. Hedging would ask two scorers at once.
_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "fraudstream.v1.Scoring"}],
                "waitForReady": True,
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
)
_OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.max_send_message_length", MAX_BATCH_BYTES),
    ("grpc.max_receive_message_length", 2 * MAX_BATCH_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    # Answers that nobody reads wait at the service, within its bounds, and not here without any.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 256 * 1024),
    # Two clients of one process are two connections, which two workers of a service may take.
    ("grpc.use_local_subchannel_pool", 1),
)


class ScoringClient:
    """A connection to `Scoring`, for one event loop.

    Every method raises a `FraudStreamError`; docs/integration.md lists them.
    """

    def __init__(self, address: str, timeout_s: float = 1.0, access: Access = OPEN) -> None:
        """Keep the address; gRPC connects at the first call.

        Args:
            address: host:port.
            timeout_s: Deadline of a call; with less time left the service answers by a stand-in.
            access: TLS and token; neither for loopback.

        Raises:
            InvalidSettings: A file is missing, or a token would travel in the clear.
        """
        self._address = address
        self._timeout_s = timeout_s
        self._metadata = access.metadata(address)
        self._channel = access.aio_channel(address, _OPTIONS)
        self._stub = ScoringStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def score(self, transaction: Transaction) -> Decision:
        """Return the decision of one transaction; the recorded one where it was decided before."""
        try:
            decision: Decision = await self._stub.Score(
                ScoreRequest(transaction=transaction),
                timeout=self._timeout_s,
                metadata=self._metadata,
            )
        except grpc.RpcError as exc:
            raise await self._error_of(exc) from exc
        return decision

    async def score_batch(
        self, transactions: Sequence[Transaction], batch_rows: int = BATCH_ROWS
    ) -> list[Answer]:
        """Return decision or error of each of any number of transactions, in order.

        They go in calls of up to `batch_rows` rows (1,024 at most) and 4 MiB; the rows of a call
        that fails have its error.
        """
        answers: list[Answer] = []
        for chunk in split_rows(transactions, batch_rows):
            try:
                response: ScoreBatchResponse = await self._stub.ScoreBatch(
                    ScoreBatchRequest(transactions=chunk),
                    timeout=self._timeout_s,
                    metadata=self._metadata,
                )
                answers += map(answer_of, response.results)
            except grpc.RpcError as exc:
                answers += [await self._error_of(exc)] * len(chunk)
        return answers

    async def score_stream(
        self,
        transactions: AsyncIterable[Transaction] | Iterable[Transaction],
        timeout_s: float = STREAM_TIMEOUT_S,
    ) -> AsyncGenerator[Answer, None]:
        """Yield decision or error of each transaction, in order, while more are sent.

        They come from an asynchronous iterable, or from one that never waits, such as a list.
        Who reads slowly is sent slowly: at most 64 rows are worked on ahead. A stream that ends
        with an error is begun again with the rows that have no answer.
        """
        requests = _requests_of(transactions)
        call = self._stub.ScoreStream(requests, timeout=timeout_s, metadata=self._metadata)
        try:
            async for result in call:
                yield answer_of(result)
        except grpc.RpcError as exc:
            raise await self._error_of(exc) from exc
        finally:
            call.cancel()

    async def _error_of(self, failed: grpc.RpcError) -> FraudStreamError:
        """Return a failed call's error; of one without an answer, what the connection says."""
        if not _is_unanswered(failed):
            return _error_of(failed, self._address)
        probe = self._channel.unary_unary(_PROBE, bytes, bytes)
        try:
            await probe(b"", timeout=_PROBE_S, wait_for_ready=False)
        except grpc.RpcError as exc:
            return _unanswered(self._address, exc)
        return _unanswered(self._address)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()


class BlockingScoringClient:
    """The same for programs without an event loop. Safe to share between threads."""

    def __init__(self, address: str, timeout_s: float = 1.0, access: Access = OPEN) -> None:
        """Keep the address; as `ScoringClient`."""
        self._address = address
        self._timeout_s = timeout_s
        self._metadata = access.metadata(address)
        self._channel = (
            grpc.secure_channel(address, access.tls.credentials(), _OPTIONS)
            if access.tls
            else grpc.insecure_channel(address, _OPTIONS)
        )
        self._stub = ScoringStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def score(self, transaction: Transaction) -> Decision:
        """Return the decision of one transaction; the recorded one where it was decided before."""
        try:
            decision: Decision = self._stub.Score(
                ScoreRequest(transaction=transaction),
                timeout=self._timeout_s,
                metadata=self._metadata,
            )
        except grpc.RpcError as exc:
            raise self._error_of(exc) from exc
        return decision

    def score_batch(
        self, transactions: Sequence[Transaction], batch_rows: int = BATCH_ROWS
    ) -> list[Answer]:
        """Return decision or error of each transaction, in order; as `ScoringClient`."""
        answers: list[Answer] = []
        for chunk in split_rows(transactions, batch_rows):
            try:
                response: ScoreBatchResponse = self._stub.ScoreBatch(
                    ScoreBatchRequest(transactions=chunk),
                    timeout=self._timeout_s,
                    metadata=self._metadata,
                )
                answers += map(answer_of, response.results)
            except grpc.RpcError as exc:
                answers += [self._error_of(exc)] * len(chunk)
        return answers

    def _error_of(self, failed: grpc.RpcError) -> FraudStreamError:
        """Return a failed call's error; as `ScoringClient`."""
        if not _is_unanswered(failed):
            return _error_of(failed, self._address)
        probe = self._channel.unary_unary(_PROBE, bytes, bytes)
        try:
            probe(b"", timeout=_PROBE_S, wait_for_ready=False)
        except grpc.RpcError as exc:
            return _unanswered(self._address, exc)
        return _unanswered(self._address)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()


def split_rows(
    transactions: Iterable[Transaction], batch_rows: int = BATCH_ROWS
) -> Iterator[list[Transaction]]:
    """Yield chunks that each fit into one call: up to `batch_rows` rows and 4 MiB.

    >>> [len(chunk) for chunk in split_rows([Transaction()] * 1030, batch_rows=5_000)]
    [1024, 6]
    """
    most = min(batch_rows, MAX_BATCH_ROWS)
    chunk: list[Transaction] = []
    size_bytes = 0
    for transaction in transactions:
        row_bytes = transaction.ByteSize() + _ROW_FRAME_BYTES
        if chunk and (len(chunk) == most or size_bytes + row_bytes > MAX_BATCH_BYTES):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(transaction)
        size_bytes += row_bytes
    if chunk:
        yield chunk


def answer_of(result: RowResult) -> Answer:
    """Return what a row's result says.

    >>> from fraudstream.v1.scoring_pb2 import RowError
    >>> answer_of(RowResult(error=RowError(code=6, reason="ID_CONFLICT", message="known id")))
    ConflictingTransaction('known id')
    """
    if result.HasField("decision"):
        return result.decision
    error = result.error
    status = next(code for code in grpc.StatusCode if code.value[0] == error.code)
    return error_of(status.name, error.reason, error.message)


async def _requests_of(
    transactions: AsyncIterable[Transaction] | Iterable[Transaction],
) -> AsyncGenerator[ScoreRequest, None]:
    if isinstance(transactions, AsyncIterable):
        async for transaction in transactions:
            yield ScoreRequest(transaction=transaction)
        return
    for transaction in transactions:
        yield ScoreRequest(transaction=transaction)


def _reason_of(failed: Any) -> str:
    """Return what the server said besides the status; both kinds of calls have these methods."""
    return str(dict(failed.trailing_metadata() or ()).get(REASON_KEY, ""))


def _is_unanswered(failed: Any) -> bool:
    """Return whether a deadline ended without a word of the service."""
    return failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not _reason_of(failed)


def _error_of(failed: Any, address: str) -> FraudStreamError:
    """Return what the server said of a failed call, or gRPC of its connection."""
    reason, details = _reason_of(failed), str(failed.details())
    if failed.code() is grpc.StatusCode.UNAVAILABLE and not reason:
        return ServiceUnavailable(f"no worker could be reached at {address} ({details})")
    return error_of(failed.code().name, reason, details)


def _unanswered(address: str, probed: Any = None) -> FraudStreamError:
    """Return the error of a call without an answer: nobody is there, or is too slow.

    Args:
        address: Who was called.
        probed: How a second call failed that did not wait for a connection, None where it did not.
    """
    if probed is not None and probed.code() is grpc.StatusCode.UNAVAILABLE:
        return _error_of(probed, address)
    return DeadlineExceeded(f"no answer from {address} inside the deadline")
