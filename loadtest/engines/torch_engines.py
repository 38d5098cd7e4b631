"""PyTorch as an engine: eager, compiled, and with CUDA graphs. References, never served.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor, nn

from fraudstream.engines.protocol import GPU_BUCKETS, FloatArray, Precision
from fraudstream.errors import EngineFailed
from training.models.network import SequenceNetwork

_WARM_UP_RUNS: Final = 3
# Compiled code is kept by Python function, and all networks share theirs: 3 networks x 4 compiled
# engines x 3 batch sizes are 36. PyTorch stops at 8, and runs the next ones eagerly.
_MOST_COMPILED: Final = 64

Forward = Callable[[Tensor, Tensor], Tensor]
Compiler = Callable[[torch.fx.GraphModule, list[Tensor]], Callable[..., object]]


class TorchMode(StrEnum):
    """How PyTorch runs a network."""

    EAGER = "eager"
    COMPILED = "compiled"
    GRAPHS = "cuda-graphs"
    COMPILED_GRAPHS = "compiled-cuda-graphs"


class TorchEngine:
    """Scores a batch with the network itself, from NumPy to NumPy."""

    buckets = GPU_BUCKETS
    is_cpu = False  # it never serves

    def __init__(
        self, network: SequenceNetwork, device: str, mode: TorchMode, precision: Precision
    ) -> None:
        """Move the network to the device; `EngineFailed` without one."""
        if device != "cpu" and not torch.cuda.is_available():
            raise EngineFailed("GPU_ABSENT", f"PyTorch {torch.__version__} finds no GPU")
        self._device = device
        self._lanes: dict[int, _Lane] = {}
        self._mode = mode
        self._forward = _forward_of(network, device, mode, precision)
        self.version = f"torch-{torch.__version__}-{mode}-{precision}-{device}"

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B]."""
        try:
            lane = self._lanes.get(len(vectors)) or self._open_lane(vectors, sequences)
            return lane.score(vectors, sequences)
        except torch.OutOfMemoryError as exc:
            raise EngineFailed("GPU_MEMORY", str(exc)) from exc

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._lanes.clear()
        del self._forward

    def _open_lane(self, vectors: FloatArray, sequences: FloatArray) -> _Lane:
        lane = _Lane(self._forward, self._device, vectors, sequences)
        if self._mode is TorchMode.GRAPHS:
            lane.capture()
        self._lanes[len(vectors)] = lane
        return lane


class _Lane:
    """One batch size: pinned and device buffers of its own, and a graph if there is one."""

    def __init__(
        self, forward: Forward, device: str, vectors: FloatArray, sequences: FloatArray
    ) -> None:
        self._forward = forward
        self._graph: torch.cuda.CUDAGraph | None = None
        is_gpu = device != "cpu"
        self._pinned = [torch.empty(rows.shape, pin_memory=is_gpu) for rows in (vectors, sequences)]
        self._held = [torch.zeros(rows.shape, device=device) for rows in (vectors, sequences)]
        self._scores = torch.zeros(len(vectors), device=device)

    @torch.inference_mode()
    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B]."""
        for pinned, held, rows in zip(self._pinned, self._held, (vectors, sequences), strict=True):
            pinned.copy_(torch.from_numpy(rows))
            held.copy_(pinned, non_blocking=True)
        if self._graph is None:
            self._scores = self._forward(*self._held)
        else:
            self._graph.replay()
        scores: FloatArray = self._scores.float().cpu().numpy()  # this waits for the GPU
        return scores.copy()

    @torch.inference_mode()
    def capture(self) -> None:
        """Record the network once; later batches replay it."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # PyTorch has no types
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP_RUNS):
                self._forward(*self._held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._scores = self._forward(*self._held)
        self._graph = graph


def _forward_of(
    network: SequenceNetwork, device: str, mode: TorchMode, precision: Precision
) -> Forward:
    """Return the network on a device, as it is to be run."""
    moved = copy.deepcopy(network).eval().to(device)
    if precision is Precision.FP16:
        _halve(moved)
    forward: Forward = moved
    if mode is TorchMode.COMPILED:
        forward = compiled(moved)
    if mode is TorchMode.COMPILED_GRAPHS:
        forward = compiled(moved, torch_mode="reduce-overhead")
    return _in_half(forward, device) if precision is Precision.FP16 else forward


def compiled(
    network: SequenceNetwork, backend: str | Compiler = "inductor", torch_mode: str | None = None
) -> Forward:
    """Return a network that is compiled for each batch size, or fails: it never runs eagerly."""
    from torch._dynamo import config  # not at module level: it takes seconds

    config.recompile_limit = _MOST_COMPILED
    config.fail_on_recompile_limit_hit = True
    forward: Forward = torch.compile(network, dynamic=False, backend=backend, mode=torch_mode)
    return forward


def _halve(network: SequenceNetwork) -> None:
    """Make the weights of matrix products fp16; what is computed of raw values stays fp32."""
    for module in network.modules():
        if isinstance(module, nn.LSTM | nn.Linear):
            module.half()
    network.head.register_forward_hook(lambda _module, _inputs, logit: logit.float())


def _in_half(forward: Forward, device: str) -> Forward:
    """Run with fp16 wherever PyTorch holds it safe; nothing is kept between two runs."""

    def run(vectors: Tensor, sequences: Tensor) -> Tensor:
        with torch.autocast(device, torch.float16, cache_enabled=False):
            return forward(vectors, sequences)

    return run
