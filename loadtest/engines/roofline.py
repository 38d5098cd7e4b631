"""What the hardware allows: operations of a row, and the speed of a large matrix product."""

from __future__ import annotations

import statistics
import time
from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from fraudstream.features.catalogue import SEQUENCE_LENGTH
from loadtest.engines.networks import Subject, sample_rows
from training.models.network import SequenceNetwork
from training.models.scaling import NetworkKind

FORMULA: Final = (
    "FLOPs of a row: 2 x multiply-adds of its matrix products. An LSTM layer of H units on D "
    "inputs takes T x 2 x 4H x (D + H); a Linear 2 x in x out; a transformer is counted by "
    "torch.utils.flop_counter. Roofline: measured FLOP/s of a large square matrix product (fp16 "
    "on a GPU, fp32 on a CPU) / FLOPs of a row, in rows/s."
)
_PRODUCTS: Final = 10
_WARM_UP_PRODUCTS: Final = 3
_GPU_SIDE: Final = 8_192
_CPU_SIDE: Final = 1_024


def flops_per_row(subject: Subject) -> int:
    """Return the floating-point operations of one row's matrix products."""
    network = subject.network
    if network.shape.kind is NetworkKind.LSTM:
        return _lstm_flops(network)
    vectors, sequences = (torch.from_numpy(rows) for rows in sample_rows(1, seed=1))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(vectors, sequences)
    return int(counter.get_total_flops())


def _lstm_flops(network: SequenceNetwork) -> int:
    shape, steps = network.shape, network.inputs.step_width
    hidden = shape.hidden
    layers = [steps] + [hidden] * (shape.layers - 1)
    recurrent = sum(SEQUENCE_LENGTH * 2 * 4 * hidden * (width + hidden) for width in layers)
    linears = (network.branch, network.joint, network.head)
    return recurrent + sum(2 * each.in_features * each.out_features for each in linears)


def matmul_flops(*, is_gpu: bool) -> float:
    """Return the FLOP/s that a large square product reaches: fp16 on a GPU, fp32 on a CPU."""
    device, dtype = ("cuda", torch.float16) if is_gpu else ("cpu", torch.float32)
    side = _GPU_SIDE if is_gpu else _CPU_SIDE
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times_s = []
    for _ in range(_WARM_UP_PRODUCTS + _PRODUCTS):
        began_s = time.perf_counter()
        torch.mm(left, right)
        if is_gpu:
            torch.cuda.synchronize()
        times_s.append(time.perf_counter() - began_s)
    return 2.0 * side**3 / statistics.median(times_s[_WARM_UP_PRODUCTS:])
