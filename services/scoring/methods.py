"""The methods of both gRPC services: decode, decide, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fraudstream.errors import DeadlineExceeded, FraudStreamError, reason_of
from fraudstream.telemetry import TRACEPARENT, TraceContext
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import (
    DESCRIPTOR,
    FeatureBatchRequest,
    RowError,
    RowResult,
    ScoreBatchRequest,
    ScoreBatchResponse,
    ScoreRequest,
)
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.access import AccessRole
from services.scoring.calls import Context, status_of
from services.scoring.door_records import Answer
from services.scoring.door_row import Arrival, Caller, Reception, is_private
from services.scoring.feature_batch import check_size
from services.scoring.rpc import BATCH_BYTES, UNARY_BYTES, RpcService, decode_message
from services.scoring.stream_door import StreamDoor

# Rows of one stream that are worked on at once; a caller who sends faster is held back by HTTP/2.
STREAM_WINDOW: Final = 64
# With less than this left no work is begun: the answer could not arrive in time.
_TOO_LATE_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How much time a call has.

    Attributes:
        default_s: Of a caller who set no deadline.
        reserve_s: Kept back to record and answer a stand-in.
    """

    default_s: float
    reserve_s: float

    def budget_s(self, remaining_s: float | None) -> float:
        """Return the time for state, features and model, of what the caller has left.

        Raises:
            DeadlineExceeded: The deadline is over, or as good as over.

        >>> Deadlines(default_s=1.0, reserve_s=0.25).budget_s(None)
        0.75
        """
        left_s = self.default_s if remaining_s is None else min(remaining_s, self.default_s)
        if left_s < _TOO_LATE_S:
            msg = f"{max(left_s, 0) * 1000:.1f} ms were left on arrival"
            raise DeadlineExceeded(msg)
        return max(left_s - self.reserve_s, 0.0)


class Decider(Protocol):
    """Decides arrivals: the front door, or the sandbox before it."""

    async def decide(self, arrivals: Sequence[Arrival], budget_s: float) -> Sequence[Answer]:
        """Return the decision of each arrival, or its error, in order."""
        ...


class ScoringMethods:
    """`Scoring`: the door of downstream systems."""

    def __init__(self, door: Decider, reception: Reception, deadlines: Deadlines) -> None:
        self._door = door
        self._reception = reception
        self._deadlines = deadlines

    def service(self) -> RpcService:
        """Return the service as the server takes it."""
        name = DESCRIPTOR.services_by_name["Scoring"].full_name
        unary = {"Score": self.score, "ScoreBatch": self.score_batch}
        return RpcService(name, AccessRole.CALLER, unary, {"ScoreStream": self.score_stream})

    async def score(self, raw: bytes, context: Context) -> bytes:
        """Decide one transaction."""
        budget_s = self._deadlines.budget_s(context.time_remaining())
        request = decode_message(ScoreRequest, raw, UNARY_BYTES)
        arrival = self._reception.receive(request.transaction, _caller(context))
        (answer,) = await self._door.decide([arrival], budget_s)
        if isinstance(answer, FraudStreamError):
            raise answer
        return answer.SerializeToString()

    async def score_batch(self, raw: bytes, context: Context) -> bytes:
        """Decide many transactions; a bad one fails alone."""
        budget_s = self._deadlines.budget_s(context.time_remaining())
        request = decode_message(ScoreBatchRequest, raw, BATCH_BYTES)
        check_size(len(request.transactions))
        caller = _caller(context)
        answers: list[Answer | None] = [None] * len(request.transactions)
        arrivals: dict[int, Arrival] = {}
        for place, transaction in enumerate(request.transactions):
            received = self._receive(transaction, caller)
            if isinstance(received, FraudStreamError):
                answers[place] = received
            else:
                arrivals[place] = received
        decided = await self._door.decide(list(arrivals.values()), budget_s)
        for place, answer in zip(arrivals, decided, strict=True):
            answers[place] = answer
        results = [_result(answer) for answer in answers if answer is not None]
        return ScoreBatchResponse(results=results).SerializeToString()

    async def score_stream(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Decide one transaction after another; results come in the order of the requests."""
        caller = _caller(context)
        rows: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(STREAM_WINDOW)

        async def read() -> None:
            async for raw in requests:
                await rows.put(asyncio.create_task(self._score_row(raw, caller)))
            await rows.put(None)

        reader = asyncio.create_task(read())
        try:
            while (row := await rows.get()) is not None:
                yield await row
        finally:
            reader.cancel()
            while not rows.empty():
                left = rows.get_nowait()
                if left is not None:
                    left.cancel()

    async def _score_row(self, raw: bytes, caller: Caller) -> bytes:
        """Decide one message of a stream; its error is its result."""
        try:
            request = decode_message(ScoreRequest, raw, UNARY_BYTES)
            arrival = self._reception.receive(request.transaction, caller)
            (answer,) = await self._door.decide([arrival], self._deadlines.budget_s(None))
        except FraudStreamError as exc:
            answer = exc
        return _result(answer).SerializeToString()

    def _receive(self, transaction: Transaction, caller: Caller) -> Arrival | FraudStreamError:
        try:
            return self._reception.receive(transaction, caller)
        except FraudStreamError as exc:
            return exc


class InternalMethods:
    """`InternalScoring`: the features service's door."""

    def __init__(self, door: StreamDoor) -> None:
        self._door = door

    def service(self) -> RpcService:
        """Return the service as the server takes it."""
        name = DESCRIPTOR.services_by_name["InternalScoring"].full_name
        return RpcService(name, AccessRole.FEATURES, {"ScoreBatch": self.score_batch}, {})

    async def score_batch(self, raw: bytes, _: Context) -> bytes:
        """Decide rows of one shard."""
        return await self._door.score_batch(decode_message(FeatureBatchRequest, raw, BATCH_BYTES))


def _caller(context: Context) -> Caller:
    found = next(
        (value for key, value in context.invocation_metadata() or () if key == TRACEPARENT), None
    )
    return Caller(is_private(context.peer(), context.auth_context), TraceContext.parse(found))


def _result(answer: Answer) -> RowResult:
    if isinstance(answer, Decision):
        return RowResult(decision=answer)
    code = status_of(answer).value[0]
    return RowResult(error=RowError(code=code, reason=reason_of(answer), message=str(answer)))
