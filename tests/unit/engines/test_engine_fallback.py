"""The GPU engine that fails, comes back, or never opens: the CPU engine serves, and it is said."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from threading import Thread

import numpy as np
import pytest

from fraudstream.engines.fallback import Backoff, EngineChange, FallbackEngine, Retries
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import GPU_BUCKETS, Engine, FloatArray, score_rows
from fraudstream.errors import EngineFailed, ModelRefused
from tests.fakes.tiny_model import onnx_bytes, some_sequences, some_vectors, tiny_weights

AT_ONCE = Retries(first_s=0.0, most_s=0.0)
WAIT_S = 60


class FakeGpuEngine:
    """Scores as the CPU engine does, in batches up to 1024, until it is told to fail."""

    version = "fake-gpu"
    buckets = GPU_BUCKETS
    is_cpu = False

    def __init__(self, onnx: bytes) -> None:
        self._onnx = OnnxEngine(onnx)
        self.failure: EngineFailed | None = None
        self.is_closed = False

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B]."""
        if self.failure is not None:
            raise self.failure
        return self._onnx.score(vectors, sequences)

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True


class Opener:
    """Opens what a test puts here, one after another; an error is raised instead."""

    def __init__(self) -> None:
        self.answers: queue.SimpleQueue[Engine | Exception] = queue.SimpleQueue()
        self.asked: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __call__(self) -> Engine:
        """Return the next engine, when there is one."""
        self.asked.put(None)
        answer = self.answers.get(timeout=WAIT_S)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(scope="module")
def onnx() -> bytes:
    """The tiny model."""
    return onnx_bytes(tiny_weights())


class World:
    """A fallback engine, what opens for it, and what it reported."""

    def __init__(self, onnx: bytes) -> None:
        self.opener = Opener()
        self.changes: list[EngineChange] = []
        self.cpu = OnnxEngine(onnx)
        self.engine = FallbackEngine(self.cpu, self.opener, self.changes.append, AT_ONCE)

    def score(self, rows: int = 8) -> FloatArray:
        """Score a batch."""
        return self.engine.score(some_vectors(rows), some_sequences(rows))

    def open(self, gpu: FakeGpuEngine) -> None:
        """Let the GPU engine open, and score until it serves."""
        self.opener.answers.put(gpu)
        self.opener.asked.get(timeout=WAIT_S)
        while self.engine.version != gpu.version:
            self.score(1)


@pytest.fixture
def world(onnx: bytes) -> Iterator[World]:
    """A fallback engine whose GPU engine is not open yet."""
    world = World(onnx)
    yield world
    world.opener.answers.put(ModelRefused("MODEL_BUILD", "the test is over"))
    world.engine.close()


def test_cpu_serves_until_the_ordered_engine_is_open(world: World, onnx: bytes) -> None:
    """The first row waits for no build; the version says that it was not what was ordered."""
    world.score()
    before = (world.engine.version, world.engine.buckets[-1], world.engine.is_cpu)

    world.open(FakeGpuEngine(onnx))

    assert before == (world.cpu.version + "+fallback", 64, True)
    assert (world.engine.version, world.engine.buckets[-1]) == ("fake-gpu", 1024)
    assert not world.engine.is_cpu


@pytest.mark.parametrize("rows", [8, 1024])
def test_batch_that_fails_is_scored_by_the_cpu_at_once(
    world: World, onnx: bytes, rows: int
) -> None:
    """No row is lost, and a batch of any size gets the CPU's scores in its own batch sizes."""
    gpu = FakeGpuEngine(onnx)
    world.open(gpu)
    gpu.failure = EngineFailed("GPU_MEMORY", "cudaMalloc: cudaErrorMemoryAllocation")

    found = world.score(rows)

    expected = score_rows(OnnxEngine(onnx), some_vectors(rows), some_sequences(rows), min(rows, 64))
    assert np.array_equal(found, expected)
    assert world.engine.version == world.cpu.version + "+fallback"


def test_change_is_an_error_in_the_log_and_a_report_once(
    world: World, onnx: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """An alarm a change, not one a batch."""
    gpu = FakeGpuEngine(onnx)
    world.open(gpu)
    gpu.failure = EngineFailed("GPU_MEMORY", "no memory")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            world.score()

    assert world.changes == [
        EngineChange(is_fallback=True, reason="NOT_OPENED"),
        EngineChange(is_fallback=False, reason="OPENED"),
        EngineChange(is_fallback=True, reason="GPU_MEMORY"),
    ]
    assert len([record for record in caplog.records if "serves: GPU_MEMORY" in record.message]) == 1


def test_failed_engine_is_closed_and_opened_anew(world: World, onnx: bytes) -> None:
    """It gives its memory back before the next one asks for it."""
    first, second = FakeGpuEngine(onnx), FakeGpuEngine(onnx)
    second.version = "fake-gpu-2"
    world.open(first)
    first.failure = EngineFailed("GPU_FAILED", "lost")
    world.score()

    world.open(second)

    assert first.is_closed
    assert not second.is_closed


def test_engine_that_does_not_open_is_tried_again(
    world: World, onnx: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The same reason is said once."""
    for _ in range(3):
        world.opener.answers.put(EngineFailed("GPU_MEMORY", "no memory"))

    world.open(FakeGpuEngine(onnx))

    assert len([record for record in caplog.records if "cannot open" in record.message]) == 1


def test_model_that_the_engine_cannot_serve_is_not_tried_again(
    onnx: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A graph that cannot be built, or scores off the golden rows: the CPU stays."""
    world = World(onnx)
    world.opener.answers.put(ModelRefused("MODEL_BUILD", "no such operator"))
    world.opener.asked.get(timeout=WAIT_S)

    world.engine.close()

    assert world.opener.asked.empty()
    assert "cannot serve this model: MODEL_BUILD" in caplog.text


def test_opening_that_breaks_is_an_alarm(onnx: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A fault that nobody foresaw ends the attempts, not in silence."""
    world = World(onnx)
    world.opener.answers.put(RuntimeError("not foreseen"))

    world.engine.close()

    assert "the ordered engine broke while it was opened" in caplog.text


def test_closing_closes_the_engine_that_serves(onnx: bytes) -> None:
    """What the GPU holds is given back."""
    world, gpu = World(onnx), FakeGpuEngine(onnx)
    world.open(gpu)

    world.engine.close()

    assert gpu.is_closed


def test_model_that_takes_over_waits_for_its_engine_once(onnx: bytes) -> None:
    """Until it is open, or has failed to open: the former model serves meanwhile."""
    world = World(onnx)
    waiting = Thread(target=world.engine.wait_tried)
    waiting.start()
    world.opener.asked.get(timeout=WAIT_S)
    was_waiting = waiting.is_alive()
    world.opener.answers.put(EngineFailed("GPU_MEMORY", "no memory"))

    waiting.join(WAIT_S)

    assert was_waiting
    assert not waiting.is_alive()
    world.opener.answers.put(ModelRefused("MODEL_BUILD", "the test is over"))
    world.engine.close()


def test_closed_model_is_no_fallback_any_more(onnx: bytes) -> None:
    """A model that left the service raises no alarm."""
    world = World(onnx)
    world.opener.answers.put(ModelRefused("MODEL_BUILD", "no such operator"))

    world.engine.close()

    assert world.changes[-1] == EngineChange(is_fallback=False, reason="CLOSED")


def test_waits_grow_up_to_the_longest() -> None:
    """An engine that fails again and again is tried ever more rarely."""
    backoff = Backoff(Retries(first_s=1.0, most_s=3.0))

    assert [backoff.next_s() for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(("served_s", "next_s"), [(2.9, 2.0), (3.0, 1.0)])
def test_only_a_long_service_makes_waits_short_again(served_s: float, next_s: float) -> None:
    """An engine that opens well and fails at once does not hammer the GPU."""
    backoff = Backoff(Retries(first_s=1.0, most_s=3.0))
    backoff.next_s()

    backoff.note_service(served_s)

    assert backoff.next_s() == next_s
