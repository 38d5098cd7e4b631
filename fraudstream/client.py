"""What a downstream system imports to have card transactions decided.

Example:
    from fraudstream.client import ScoringClient
    from fraudstream.v1.transaction_pb2 import Transaction

    with ScoringClient("127.0.0.1:50051") as client:
        decision = client.score(transaction)
        print(decision.action, decision.score, [reason.text for reason in decision.reasons])

A repeated call with the same transaction gets the same decision, so a call that failed may be
repeated; only UNAVAILABLE is, by gRPC itself, inside the deadline.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Final, Self

import grpc

from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import (
    RowResult,
    ScoreBatchRequest,
    ScoreBatchResponse,
    ScoreRequest,
)
from fraudstream.v1.scoring_pb2_grpc import ScoringStub
from fraudstream.v1.transaction_pb2 import Transaction

MAX_BATCH_ROWS: Final = 1024
_MESSAGE_BYTES: Final = 4 * 1024 * 1024

# Four attempts within 0.05 + 0.1 + 0.2 s and their jitter; a server that refuses is not asked
# again. Hedging would ask two scorers at once and is left off.
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
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


class ScoringClient:
    """A connection to `Scoring`. Safe to share between threads.

    Raises:
        grpc.RpcError: Every method; `code()` says which of the error table it is.
    """

    def __init__(
        self,
        address: str,
        timeout_s: float = 1.0,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Keep the address; gRPC connects at the first call.

        Args:
            address: host:port.
            timeout_s: Deadline of a call; with less time left the service answers by a stand-in.
            credentials: TLS; none for loopback or a private line.
        """
        options = (
            ("grpc.service_config", _SERVICE_CONFIG),
            ("grpc.enable_retries", 1),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 30_000),
        )
        self._timeout_s = timeout_s
        self._channel = (
            grpc.secure_channel(address, credentials, options)
            if credentials
            else grpc.insecure_channel(address, options)
        )
        self._stub = ScoringStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def score(self, transaction: Transaction) -> Decision:
        """Return the decision of one transaction; the recorded one where it was decided before."""
        decision: Decision = self._stub.Score(
            ScoreRequest(transaction=transaction), timeout=self._timeout_s
        )
        return decision

    def score_batch(self, transactions: Sequence[Transaction]) -> list[RowResult]:
        """Return decision or error of each of up to 1,024 transactions, in order."""
        response: ScoreBatchResponse = self._stub.ScoreBatch(
            ScoreBatchRequest(transactions=transactions), timeout=self._timeout_s
        )
        return list(response.results)

    def score_many(
        self, transactions: Iterable[Transaction], batch_rows: int = 256
    ) -> Iterator[RowResult]:
        """Yield decision or error of each of any number of transactions, in order, by batches."""
        rows = iter(transactions)
        while batch := list(islice(rows, min(batch_rows, MAX_BATCH_ROWS))):
            yield from self.score_batch(batch)

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
