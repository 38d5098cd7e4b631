"""W3C trace context: read from a header, passed on as a child; about 1 us each."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Final, Self

TRACEPARENT: Final = "traceparent"
"""Name of the Kafka header and gRPC metadata key that carries a trace (W3C Trace Context)."""
# Ids must differ, not be secret: the system's own random bytes cost twenty times as much a span.
_random_bits = random.getrandbits
_TRACEPARENT_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# Of a trace id, by which every sampler decides.
_LOW_BITS: Final = 2**64 - 1
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_LOWEST_FORBIDDEN_VERSION = "ff"


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where one span stands in its trace; travels as the `traceparent` header (W3C level 1).

    Attributes:
        trace_id: 32 lower-case hex digits, not all zero.
        span_id: 16 lower-case hex digits, not all zero.
        is_sampled: Whether the trace is kept even when nothing in it is flagged.
    """

    trace_id: str
    span_id: str
    is_sampled: bool

    @classmethod
    def start(cls, sample_ratio: float) -> Self:
        """Return the root of a new trace, sampled with probability `sample_ratio`.

        >>> TraceContext.start(1.0).is_sampled, TraceContext.start(0.0).is_sampled
        (True, False)
        """
        bits = _random_bits(192)
        ids = f"{bits:048x}"
        return cls(ids[:32], ids[32:], (bits >> 64 & _LOW_BITS) < sample_ratio * 2.0**64)

    @classmethod
    def parse(cls, traceparent: str | bytes | None) -> Self | None:
        """Return the context in a header, or None where it is absent or malformed.

        >>> TraceContext.parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").is_sampled
        True
        >>> TraceContext.parse(b"nonsense") is None
        True
        """
        if isinstance(traceparent, bytes):
            traceparent = traceparent.decode("ascii", "replace")
        found = _TRACEPARENT_FORM.fullmatch(traceparent) if traceparent else None
        if found is None:
            return None
        version, trace_id, span_id, flags, rest = found.groups()
        is_known_form = version != _LOWEST_FORBIDDEN_VERSION and (version != "00" or rest is None)
        if not is_known_form or trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & 1))

    @classmethod
    def instead_of(cls, outsiders: TraceContext | None, sample_ratio: float) -> Self:
        """Return the root of a trace of ours, for what came in an outsider's trace or in none.

        An outsider's ids are 48 digits of their choice, among which a card number may stand: none
        of them is kept. Whether the trace is sampled is still theirs to say.

        >>> theirs = TraceContext("4" * 32, "4" * 16, True)
        >>> ours = TraceContext.instead_of(theirs, 0.0)
        >>> ours.trace_id == theirs.trace_id, ours.is_sampled
        (False, True)
        """
        return cls.start(sample_ratio if outsiders is None else float(outsiders.is_sampled))

    def child(self) -> TraceContext:
        """Return a new span's context in the same trace.

        >>> root = TraceContext.start(1.0)
        >>> root.child().trace_id == root.trace_id
        True
        """
        return TraceContext(self.trace_id, f"{_random_bits(64):016x}", self.is_sampled)

    def traceparent(self) -> str:
        """Return the header's value.

        >>> TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True).traceparent()
        '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
        """
        return f"00-{self.trace_id}-{self.span_id}-0{int(self.is_sampled)}"
