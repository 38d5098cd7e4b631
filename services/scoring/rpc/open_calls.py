"""The calls that are open at one door: whose they are, what they hold, and for how long.

A call is let in by its metadata, before its message is read: until then HTTP/2 keeps no more of it
than one window. What it takes afterwards is counted for its caller, who can fill a part of the door
and never all of it. Budget: 5 microseconds a call.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc.aio

from fraudstream.errors import (
    DeadlineExceeded,
    FraudStreamError,
    InvalidTransaction,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
)
from fraudstream.reject_reasons import RejectReason
from fraudstream.runtime.address_blocks import block_of_peer
from fraudstream.telemetry.metrics import CALLS_REFUSED
from services.scoring.rpc.grants import Grant

Context = grpc.aio.ServicerContext[bytes, bytes]
_EOF: Final[object] = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
# Lets a call of a method in by its metadata, or raises the error that ends it; None where everyone
# is let in.
Admit = Callable[[Context, str], Grant | None]

_NEVER: Final = float("inf")
_LOOK_EVERY_S: Final = 0.5
# A caller who takes its call back says so within this, and needs no answer.
_TAKEN_BACK_S: Final = 0.05
# A message up to this size is counted as a call and not by its bytes.
SMALL_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one door takes at once.

    Attributes:
        decided: Calls whose message is worked on.
        decided_of_one: Of these, of one caller.
        streams_of_one: Streams of one caller.
        read_s: How long the message of a call may take to arrive, seconds.
        idle_s: How long a stream stays open on which nothing moves, seconds.
    """

    decided: int
    decided_of_one: int
    streams_of_one: int
    read_s: float
    idle_s: float


# Half of each is the most that one caller gets. A message that arrives may fill 4 MiB, a stream's
# as well: 160 + 256 MiB if four callers and more conspire, half and a quarter for one alone.
_READING: Final = 40
_STREAMS: Final = 64
# Messages and answers over 64 KiB, until the answer is sent: a caller who does not read keeps it.
_LARGE_BYTES: Final = 64 << 20
# Calls until their answer is sent; one whose caller does not read costs some 15 KiB.
_OPEN: Final = 2_048


class Slots:
    """Counts what callers hold, and refuses what is too much for all or for one.

    Args:
        what: Its name in the refusal.
        most: For all.
        most_of_one: For one caller.
    """

    def __init__(self, what: str, most: int, most_of_one: int) -> None:
        self._what = what
        self._most = most
        self._most_of_one = most_of_one
        self._taken = 0
        self._by_caller: defaultdict[str, int] = defaultdict(int)

    def take(self, caller: str, count: int = 1) -> None:
        """Take slots for a caller.

        Raises:
            Overloaded: There are not so many left.
        """
        own = self._by_caller.get(caller, 0) + count
        if own > self._most_of_one:
            CALLS_REFUSED.labels("caller_full").inc()
            msg = f"{self._most_of_one} {self._what} of this caller are in flight"
            raise Overloaded(f"{msg}, no more are taken; try again later")
        if self._taken + count > self._most:
            CALLS_REFUSED.labels("door_full").inc()
            msg = f"{self._most} {self._what} are in flight, no more are taken; try again later"
            raise Overloaded(msg)
        self._taken += count
        self._by_caller[caller] = own

    def give_back(self, caller: str, count: int = 1) -> None:
        """Give back what was taken."""
        self._taken -= count
        self._by_caller[caller] -= count
        if not self._by_caller[caller]:
            del self._by_caller[caller]


class OpenCall:
    """One call that was let in.

    Attributes:
        context: gRPC's side of it.
        method: Its full name, `/package.Service/Method`.
        peer: Where it comes from, as gRPC names it.
        grant: Its entry of the callers file; None where there is no such file.
        error: Why it was ended from this side.
        may_rest: It is no fault of its caller when nothing moves.
    """

    __slots__ = (
        "_ends_s",
        "_held",
        "_task",
        "caller",
        "context",
        "error",
        "grant",
        "may_rest",
        "method",
        "peer",
    )

    def __init__(self, context: Context, method: str, grant: Grant | None) -> None:
        self.context = context
        self.method = method
        self.grant = grant
        self.peer = context.peer()
        self.caller = grant.name if grant else block_of_peer(self.peer.rpartition(":")[0])
        self.error: FraudStreamError | None = None
        self.may_rest = False
        self._held: list[tuple[Slots, int]] = []
        self._task = asyncio.current_task()
        self._ends_s = _NEVER

    def hold(self, slots: Slots, count: int = 1) -> None:
        """Take slots until the call is over, its answer sent or given up.

        Raises:
            Overloaded: There are not so many left.
        """
        slots.take(self.caller, count)
        self._held.append((slots, count))

    def release(self, context: Context) -> None:
        """Give back all that is held; gRPC calls it when the call is over."""
        del context
        for slots, count in self._held:
            slots.give_back(self.caller, count)
        self._held.clear()

    def end_at(self, ends_s: float) -> None:
        """Have the call ended at a time of the monotonic clock, unless that is told again."""
        self._ends_s = ends_s

    def is_over(self, now_s: float) -> bool:
        """Return whether its time is over."""
        return self._ends_s <= now_s and not self.may_rest

    def end(self, error: FraudStreamError) -> None:
        """End the call with an error, wherever it waits."""
        if self.error is None and self._task is not None:
            self.error = error
            self._task.cancel()

    def take_error(self) -> FraudStreamError | None:
        """Return the error that the call was ended with, and take that cancellation back."""
        if self.error is not None and self._task is not None:
            self._task.uncancel()
        return self.error


class OpenCalls:
    """The calls of one door, or of its operators.

    Args:
        bounds: What is taken at once.
        admit: Lets callers in.

    Attributes:
        decided: Slots of the calls that are worked on.
    """

    def __init__(self, bounds: Bounds, admit: Admit) -> None:
        self._bounds = bounds
        self._admit = admit
        self._watched: set[OpenCall] = set()
        self._streaming: set[OpenCall] = set()
        self._open = Slots("calls", _OPEN, _OPEN // 2)
        self._reading = Slots("messages on their way", _READING, _READING // 2)
        self.decided = Slots("calls", bounds.decided, bounds.decided_of_one)
        self._streams = Slots("streams", _STREAMS, bounds.streams_of_one)
        self._large = Slots("bytes of large messages", _LARGE_BYTES, _LARGE_BYTES // 2)

    def let_in(self, context: Context, method: str) -> OpenCall:
        """Return a call that may go on.

        Raises:
            Unauthenticated: Nobody knows its caller.
            PermissionDenied: The caller has another role.
            Overloaded: The caller has too many open.
        """
        call = OpenCall(context, method, self._admit(context, method))
        call.hold(self._open)
        context.add_done_callback(call.release)  # type: ignore[arg-type]  # stubs expect a class
        return call

    async def read(self, call: OpenCall) -> bytes:
        """Return the message of a call, which has to come in time.

        Raises:
            InvalidTransaction: It has none.
            Overloaded: Too many are on their way.
        """
        self._reading.take(call.caller)
        call.end_at(time.monotonic() + self._bounds.read_s)
        self._watched.add(call)
        try:
            raw = await call.context.read()
        finally:
            self._watched.discard(call)
            self._reading.give_back(call.caller)
        if raw is _EOF:
            await asyncio.sleep(_TAKEN_BACK_S)  # a call that was taken back is cancelled here
            raise InvalidTransaction(RejectReason.DECODE, "expected one message, found none")
        self.count_large(call, raw)
        return raw

    def count_large(self, call: OpenCall, message: bytes) -> None:
        """Count a large message until its call is over.

        Raises:
            Overloaded: There are too many.
        """
        if len(message) > SMALL_BYTES:
            call.hold(self._large, len(message))

    @contextmanager
    def streaming(self, call: OpenCall) -> Iterator[None]:
        """Count a stream, and watch it: it ends when nothing moves, or its grant is gone.

        Raises:
            Overloaded: Too many are open.
        """
        call.hold(self._streams)
        self.keep(call)
        self._watched.add(call)
        self._streaming.add(call)
        try:
            yield
        finally:
            self._watched.discard(call)
            self._streaming.discard(call)

    def keep(self, call: OpenCall) -> None:
        """Keep a stream open: something moved."""
        call.end_at(time.monotonic() + self._bounds.idle_s)

    async def messages(self, call: OpenCall) -> AsyncIterator[bytes]:
        """Yield the messages of a stream."""
        while (raw := await call.context.read()) is not _EOF:
            self.keep(call)
            yield raw

    async def watch_forever(self) -> None:
        """End calls whose time is over, and streams whose caller may call no more."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.look(time.monotonic())

    def look(self, now_s: float) -> None:
        """Look at all calls that wait once."""
        for call in [call for call in self._watched if call.is_over(now_s)]:
            call.end(self._time_is_over(call))
        for call in tuple(self._streaming):
            try:
                self._admit(call.context, call.method)
            except (Unauthenticated, PermissionDenied) as exc:
                call.end(exc)

    def _time_is_over(self, call: OpenCall) -> FraudStreamError:
        if call in self._streaming:
            msg = f"nothing moved on this stream for {self._bounds.idle_s:g} s; begin a new one"
            return DeadlineExceeded(msg)
        CALLS_REFUSED.labels("message_late").inc()
        return DeadlineExceeded(f"the call's message did not come within {self._bounds.read_s:g} s")
