"""The load generator: when calls are due, what became of them, and the bytes on the wire."""

from __future__ import annotations

import numpy as np
import pytest

from fraudstream.v1.decision_pb2 import Decision
from loadtest.generator.calls import Call, Outcome, due_times_ns, summarise
from loadtest.generator.frames import (
    END_STREAM,
    FrameKind,
    frame,
    request_frames,
    status_of,
    take_frames,
)

MS = 1_000_000


def call(sent_ms: int, ended_ms: int, status: int | None = 0, *, stand_in: bool = False) -> Call:
    """Return a call that was due at 0."""
    answer = Decision(decision_id="d", stand_in=stand_in).SerializeToString()
    return Call(b"", 0, sent_ms * MS, ended_ms * MS, status, answer)


def test_calls_come_at_the_rate_that_was_asked_for() -> None:
    """A run has its calls, in order, inside its time."""
    due = due_times_ns(500.0, 4.0, seed=3)

    assert len(due) == 2_000
    assert (np.diff(due) >= 0).all()
    assert 0 <= due[0] < due[-1] < 4e9


def test_poisson_gaps_vary_as_much_as_they_last() -> None:
    """The gaps of a Poisson process have a deviation like their mean."""
    gaps = np.diff(due_times_ns(1_000.0, 10.0, seed=1))

    assert 0.9 < gaps.std() / gaps.mean() < 1.1


def test_latency_counts_from_when_a_call_was_due() -> None:
    """A generator that falls behind does not hide the wait."""
    summary = summarise([call(sent_ms=40, ended_ms=50)])

    assert summary["p50_ms"] == 50.0
    assert summary["lag_p99_ms"] == 40.0


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (call(0, 5), Outcome.DECIDED),
        (call(0, 5, stand_in=True), Outcome.STAND_IN),
        (call(0, 150), Outcome.LATE),
        (call(0, 100, None), Outcome.LATE),
        (call(0, 5, 4), Outcome.LATE),
        (call(0, 5, 8), Outcome.REFUSED),
        (call(0, 5, 13), Outcome.FAILED),
    ],
)
def test_only_a_decision_of_the_model_in_time_counts(made: Call, outcome: Outcome) -> None:
    """Everything else is told apart."""
    assert made.outcome(deadline_ms=100) is outcome


def test_refused_calls_are_no_latencies() -> None:
    """They have a time of their own: how long it took to be refused."""
    summary = summarise([call(0, 5), call(0, 2, 8)], deadline_ms=100)

    assert summary["p99_ms"] == 5.0
    assert summary["refused_p50_ms"] == 2.0


def test_frames_come_in_any_pieces() -> None:
    """What is not whole yet stays for the next piece."""
    sent = frame(FrameKind.DATA, 0, 3, b"abc") + frame(FrameKind.HEADERS, END_STREAM, 5, b"")
    buffer, found = bytearray(), []

    for byte in sent:
        buffer.append(byte)
        found += list(take_frames(buffer))

    assert [(f.kind, f.flags, f.stream, f.payload) for f in found] == [
        (FrameKind.DATA, 0, 3, b"abc"),
        (FrameKind.HEADERS, END_STREAM, 5, b""),
    ]
    assert not buffer


def test_request_is_headers_and_one_message() -> None:
    """gRPC's message has a flag and its length before it."""
    headers, message = take_frames(bytearray(request_frames(7, b"block", b"body")))

    assert (headers.kind, headers.stream, headers.payload) == (FrameKind.HEADERS, 7, b"block")
    assert message.payload == bytes.fromhex("0000000004") + b"body"
    assert message.flags == END_STREAM


@pytest.mark.parametrize(
    ("block", "status"), [(b"\x00\x0bgrpc-status\x0214", 14), (b"\x00\x04date\x010", None)]
)
def test_status_is_found_in_plain_headers(block: bytes, status: int | None) -> None:
    """The server was told to keep no table, so names and values are plain."""
    assert status_of(block) == status
