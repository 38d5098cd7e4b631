"""The methods of both gRPC services: decode, decide, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final, Protocol

from fraudstream.errors import (
    FraudStreamError,
    PermissionDenied,
    QuotaExceeded,
    reason_of,
)
from fraudstream.store.shard import Role, ShardRef
from fraudstream.telemetry.metrics import ROWS_REFUSED
from fraudstream.telemetry.trace_context import TRACEPARENT, TraceContext
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import (
    DESCRIPTOR,
    CheckRecordsRequest,
    CheckRecordsResponse,
    FeatureBatchRequest,
    RowError,
    RowResult,
    ScoreBatchRequest,
    ScoreBatchResponse,
    ScoreRequest,
)
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.authorise.event_time import Deadlines, TimeLeft
from services.scoring.authorise.intake import Arrival, Caller, Reception, is_private
from services.scoring.authorise.recording import Answer
from services.scoring.rpc.calls import RpcService, status_of
from services.scoring.rpc.grants import AccessRole
from services.scoring.rpc.messages import UNARY_BYTES, check_size, decode_batch, decode_message
from services.scoring.rpc.open_calls import OpenCall
from services.scoring.rpc.refusals import RefusalLog
from services.scoring.shards.sealed_store import SealedStore
from services.scoring.stream.pipeline import StreamDoor

# Rows of one stream that are worked on at once; a caller who sends faster is held back by HTTP/2.
STREAM_WINDOW: Final = 64


class Decider(Protocol):
    """Decides arrivals: the front door, or the sandbox before it."""

    async def decide(self, arrivals: Sequence[Arrival], time: TimeLeft) -> Sequence[Answer]:
        """Return the decision of each arrival, or its error, in order."""
        ...


class ScoringMethods:
    """`Scoring`: the door of downstream systems."""

    def __init__(self, door: Decider, reception: Reception, deadlines: Deadlines) -> None:
        self._door = door
        self._reception = reception
        self._deadlines = deadlines
        self._refusals = RefusalLog()

    def service(self) -> RpcService:
        """Return the service as the server takes it."""
        name = DESCRIPTOR.services_by_name["Scoring"].full_name
        unary = {"Score": self.score, "ScoreBatch": self.score_batch}
        return RpcService(name, AccessRole.CALLER, unary, {"ScoreStream": self.score_stream})

    async def score(self, raw: bytes, call: OpenCall) -> bytes:
        """Decide one transaction."""
        time = self._deadlines.time_left(call.context.time_remaining())
        request = decode_message(ScoreRequest, raw, UNARY_BYTES)
        arrival = self._receive(request.transaction, _caller(call))
        (answer,) = await self._door.decide([arrival], time)
        if isinstance(answer, FraudStreamError):
            raise answer
        return answer.SerializeToString()

    async def score_batch(self, raw: bytes, call: OpenCall) -> bytes:
        """Decide many transactions; a bad one fails alone."""
        time = self._deadlines.time_left(call.context.time_remaining())
        request = decode_batch(ScoreBatchRequest, raw)
        check_size(len(request.transactions))
        caller = _caller(call)
        answers: list[Answer | None] = [None] * len(request.transactions)
        arrivals: dict[int, Arrival] = {}
        for index, transaction in enumerate(request.transactions):
            try:
                arrivals[index] = self._receive(transaction, caller)
            except FraudStreamError as exc:
                answers[index] = exc
        decided = await self._door.decide(list(arrivals.values()), time)
        for index, answer in zip(arrivals, decided, strict=True):
            answers[index] = answer
        results = [_result(answer) for answer in answers if answer is not None]
        return ScoreBatchResponse(results=results).SerializeToString()

    async def score_stream(
        self, requests: AsyncIterator[bytes], call: OpenCall
    ) -> AsyncGenerator[bytes, None]:
        """Decide one transaction after another; results come in the order of the requests."""
        caller = _caller(call)
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
            arrival = self._receive(request.transaction, caller)
            (answer,) = await self._door.decide([arrival], self._deadlines.time_left(None))
        except FraudStreamError as exc:
            answer = exc
        return _result(answer).SerializeToString()

    def _receive(self, transaction: Transaction, caller: Caller) -> Arrival:
        try:
            return self._reception.receive(transaction, caller)
        except (PermissionDenied, QuotaExceeded) as exc:
            is_quota = isinstance(exc, QuotaExceeded)
            ROWS_REFUSED.labels("pan_quota" if is_quota else "another_bank").inc()
            self._refusals.note(caller.name, caller.peer, caller.method, exc)
            raise


class InternalMethods:
    """`InternalScoring`: the features service's door."""

    def __init__(self, door: StreamDoor, store: SealedStore) -> None:
        self._door = door
        self._store = store

    def service(self) -> RpcService:
        """Return the service as the server takes it."""
        name = DESCRIPTOR.services_by_name["InternalScoring"].full_name
        unary = {"ScoreBatch": self.score_batch, "CheckRecords": self.check_records}
        return RpcService(name, AccessRole.FEATURES, unary, {})

    async def score_batch(self, raw: bytes, _: OpenCall) -> bytes:
        """Decide rows of one shard."""
        return await self._door.score_batch(decode_batch(FeatureBatchRequest, raw))

    async def check_records(self, raw: bytes, _: OpenCall) -> bytes:
        """Take forged records of some identities out of a shard."""
        request = decode_message(CheckRecordsRequest, raw, UNARY_BYTES)
        check_size(len(request.identities))
        shard = ShardRef(Role.CARD, request.partition, "")  # a record belongs to no generation
        taken_out = await self._store.take_out_forged(shard, request.identities)
        return CheckRecordsResponse(taken_out=taken_out).SerializeToString()


def _caller(call: OpenCall) -> Caller:
    context = call.context
    found = next(
        (value for key, value in context.invocation_metadata() or () if key == TRACEPARENT), None
    )
    is_safe = is_private(call.peer, context.auth_context)
    return Caller(is_safe, TraceContext.parse(found), call.grant, call.peer, call.method)


def _result(answer: Answer) -> RowResult:
    if isinstance(answer, Decision):
        return RowResult(decision=answer)
    code = status_of(answer).value[0]
    return RowResult(error=RowError(code=code, reason=reason_of(answer), message=str(answer)))
