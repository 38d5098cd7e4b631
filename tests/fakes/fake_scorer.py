"""A scorer that approves: the internal door in this process, with what it was asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.scoring_pb2 import (
    FeatureBatchRequest,
    FeatureRow,
    RowError,
    RowResult,
    ScoreBatchResponse,
)
from fraudstream.v1.scoring_pb2_grpc import (
    InternalScoringServicer,
    add_InternalScoringServicer_to_server,
)


class FakeScorer(InternalScoringServicer):
    """Approves every row, or refuses as many batches as `refusals` says; records nothing."""

    def __init__(self) -> None:
        self.refusals = 0
        self.refused = 0
        self._lock = threading.Lock()
        self._rows: list[FeatureRow] = []
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4))
        add_InternalScoringServicer_to_server(  # type: ignore[no-untyped-call]  # generated
            self, self._server
        )
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    @property
    def rows(self) -> list[FeatureRow]:
        """All rows that it decided, in order."""
        with self._lock:
            return list(self._rows)

    def seen(self) -> list[str]:
        """Return the transaction ids that it decided, in order."""
        return [row.transaction.transaction_id for row in self.rows]

    def vector_of(self, transaction_id: str) -> dict[str, float]:
        """Return the features that came with a transaction, by name."""
        row = next(r for r in self.rows if r.transaction.transaction_id == transaction_id)
        return dict(zip(FEATURE_NAMES, np.frombuffer(row.vector, "<f4").tolist(), strict=True))

    def stop(self) -> None:
        """Stop listening."""
        self._server.stop(None)

    def ScoreBatch(  # noqa: N802  # gRPC's name
        self, request: FeatureBatchRequest, context: Any
    ) -> ScoreBatchResponse:
        """Decide one batch."""
        with self._lock:
            if self.refused < self.refusals:
                self.refused += 1
                conflict = RowError(reason="ID_CONFLICT", message="decided with another digest")
                return ScoreBatchResponse(results=[RowResult(error=conflict)] * len(request.rows))
            self._rows += request.rows
        return ScoreBatchResponse(
            results=[
                RowResult(decision=Decision(decision_id="d", action=Action.ACTION_APPROVE))
                for _ in request.rows
            ]
        )
