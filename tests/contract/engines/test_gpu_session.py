"""On a GPU, without a TensorRT: copies, captured graphs, and memory that is exhausted."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pytest

from fraudstream.engines.cuda import CudaSession
from fraudstream.errors import EngineFailed

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

pytestmark = pytest.mark.gpu
ROWS, ROW_SHAPE = 64, (3, 5)
ROW_OF_1_MIB = (1 << 18,)
SPARE_BYTES = 64 << 20


@pytest.fixture
def session() -> Iterator[CudaSession]:
    """A stream on the first GPU."""
    try:
        opened = CudaSession.open()
    except EngineFailed as exc:
        pytest.skip(str(exc))
    yield opened
    opened.close()


def test_rows_go_to_the_gpu_and_come_back(session: CudaSession) -> None:
    """As many as were asked for, in their order; what lies behind them stays as it was."""
    buffer = session.buffer(ROWS, ROW_SHAPE)
    sent = np.random.default_rng(1).random((ROWS, *ROW_SHAPE), np.float32)
    buffer.host[:] = sent
    session.copy_in(buffer, ROWS)
    session.synchronize()
    buffer.host[:] = np.nan

    session.copy_out(buffer, 32)
    session.synchronize()

    assert np.array_equal(buffer.host[:32], sent[:32])
    assert np.isnan(buffer.host[32:]).all()


def test_captured_graph_does_its_work_at_each_launch(session: CudaSession) -> None:
    """Capturing runs nothing; each launch copies what the buffer holds then."""
    buffer = session.buffer(ROWS, ROW_SHAPE)
    graph = session.capture(lambda: session.copy_in(buffer, ROWS))
    found = []

    for number in (1.0, 2.0):
        buffer.host[:] = number
        session.launch(graph)
        session.synchronize()
        buffer.host[:] = np.nan
        session.copy_out(buffer, ROWS)
        session.synchronize()
        found.append((float(buffer.host.min()), float(buffer.host.max())))

    assert found == [(1.0, 1.0), (2.0, 2.0)]


def test_stream_works_on_after_a_capture_that_failed(session: CudaSession) -> None:
    """Kernels that cannot be captured run without a graph, on the same stream."""
    buffer = session.buffer(ROWS, ROW_SHAPE)
    with pytest.raises(EngineFailed, match="Capture"):
        session.capture(session.synchronize)  # waiting cannot be captured
    buffer.host[:] = 3.0

    session.copy_in(buffer, ROWS)
    session.synchronize()
    buffer.host[:] = np.nan
    session.copy_out(buffer, ROWS)
    session.synchronize()

    assert (buffer.host == 3.0).all()


def test_exhausted_memory_is_named_and_given_back(session: CudaSession) -> None:
    """The reason says it, and the session has room again when there is some."""
    free_bytes, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(free_bytes - SPARE_BYTES, dtype=torch.uint8, device="cuda")
    with pytest.raises(EngineFailed) as failed:
        session.buffer(4 * SPARE_BYTES >> 20, ROW_OF_1_MIB)
    del ballast
    torch.cuda.empty_cache()

    buffer = session.buffer(4 * SPARE_BYTES >> 20, ROW_OF_1_MIB)

    assert failed.value.reason == "GPU_MEMORY"
    assert buffer.row_bytes == 1 << 20


def test_closed_session_holds_nothing(session: CudaSession) -> None:
    """An engine that is opened again and again must not eat the GPU."""
    free_bytes = []
    for _ in range(3):
        opened = CudaSession.open()
        buffer = opened.buffer(ROWS, ROW_OF_1_MIB)
        opened.capture(functools.partial(opened.copy_in, buffer, ROWS))
        opened.close()
        free_bytes.append(torch.cuda.mem_get_info()[0])

    assert free_bytes[2] >= free_bytes[0]
