"""Several members as one engine: the batch sizes that it takes, and what it gives back."""

from __future__ import annotations

import pytest

from fraudstream.engines.members import Formula, MembersEngine
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import BUCKETS, GPU_BUCKETS, FloatArray
from tests.fakes.tiny_model import onnx_bytes, some_sequences, some_vectors, tiny_weights


class FakeGpuMember:
    """A member that takes large batches."""

    version = "fake-gpu"
    buckets = GPU_BUCKETS
    is_cpu = False
    is_closed = False

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return the tiny model's scores."""
        return OnnxEngine(onnx_bytes(tiny_weights())).score(vectors, sequences)

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True


def members(*engines: OnnxEngine | FakeGpuMember) -> MembersEngine:
    """Return an engine of equal members."""
    return MembersEngine(engines, Formula((1 / len(engines),) * len(engines), 0.0))


def test_one_member_on_a_gpu_makes_batches_large() -> None:
    """ONNX Runtime takes any size beside it."""
    cpu = OnnxEngine(onnx_bytes(tiny_weights()))
    both = members(FakeGpuMember(), cpu)

    assert (members(cpu).buckets, both.buckets) == (BUCKETS, GPU_BUCKETS)
    assert (members(cpu).is_cpu, both.is_cpu) == (True, False)
    assert both.score(some_vectors(1024), some_sequences(1024)) == pytest.approx(
        cpu.score(some_vectors(1024), some_sequences(1024)), abs=1e-6
    )


def test_closing_closes_every_member() -> None:
    """What one holds on a GPU is given back."""
    gpu = FakeGpuMember()

    members(gpu, OnnxEngine(onnx_bytes(tiny_weights()))).close()

    assert gpu.is_closed
