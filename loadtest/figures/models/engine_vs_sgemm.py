"""How much of the machine's matrix multiplication the CPU engine reaches: LSTM 2 x 128, fp32.

GFLOP of a row, a multiplication and an addition counted each, sums of biases and activations not:
32 steps x (2 x 512 x (21 + 128) + 2 x 512 x (128 + 128)) for the layers, and 2 x (1260 x 128 +
256 x 128 + 128) for the dense part: 13.66 MFLOP. Counted from the graph's own weights.

Beside it NumPy's sgemm (BLAS, one thread, in the same process) of 1024 x 1024 x 1024, about the
best that this machine does.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import FloatArray
from fraudstream.features.catalogue import SEQUENCE_LENGTH
from loadtest.bench.cpu import spent
from loadtest.bench.figure import Plan, Round, Sample, Side, Sides, experiment
from loadtest.figures.models.int8_vs_fp32 import cpu_us_of_row, lacking_for_lstm
from loadtest.figures.table import figure

BATCHES: Final = (32, 64)
ROWS: Final = 1_024
_GFLOP: Final = 8.0  # of the sgemm that is measured


def _shares(measured: Round) -> dict[str, float]:
    """Return the engine's share of the product's rate, by batch size."""
    sgemm = measured["sgemm"]["GFLOP/s"]
    return {batch: rate / sgemm for batch, rate in measured["engine"].items()}


@experiment(
    figure("engine_vs_sgemm", lambda m: statistics.geometric_mean(_shares(m).values())),
    needs=(lacking_for_lstm,),
    apart=lambda measured: {**_shares(measured), "sgemm GFLOP/s": measured["sgemm"]["GFLOP/s"]},
)
def engine_vs_sgemm(plan: Plan) -> Iterator[Sides]:
    """Make the network and warm both sides, on one thread each."""
    from loadtest.engines.networks import sample_rows, subject

    rows = sample_rows(plan.rows(ROWS, max(BATCHES)), seed=5)
    content = subject("lstm-2x128").onnx()
    engine, flop = OnnxEngine(content), flop_of_row(content)

    def rates() -> Sample:
        return {f"batch {b}": flop / cpu_us_of_row(engine, rows, b) / 1e3 for b in BATCHES}

    with threadpool_limits(limits=1, user_api="blas"):
        sides: dict[str, Side] = {
            "engine": rates,
            "sgemm": lambda: {"GFLOP/s": sgemm_rate(1_024, plan.scale)},
        }
        for side in sides.values():
            side()
        yield sides


def flop_of_row(content: bytes) -> float:
    """Return the floating-point operations of a row: 2 for each weight, at each step it is used."""
    graph = onnx.load_from_string(content).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    weights = 0
    for node in graph.node:
        if node.op_type == "LSTM":
            weights += SEQUENCE_LENGTH * (sizes[node.input[1]] + sizes[node.input[2]])
        elif node.op_type in ("Gemm", "MatMul"):
            weights += sizes[node.input[1]]
    return 2.0 * weights


def sgemm_rate(side: int, scale: float) -> float:
    """Return NumPy's GFLOP/s of CPU time for a product of two squares."""
    left, right = np.random.default_rng(1).random((2, side, side), np.float32)
    out = np.empty((side, side), np.float32)
    gflop = 2e-9 * side**3
    count = max(1, round(_GFLOP * scale / gflop))
    return gflop / spent(partial(_multiply, left, right, out, count), count)["cpu_us"] * 1e6


def _multiply(left: FloatArray, right: FloatArray, out: FloatArray, count: int) -> None:
    for _ in range(count):
        np.matmul(left, right, out=out)
