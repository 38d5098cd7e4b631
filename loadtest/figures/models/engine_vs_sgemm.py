"""How much of the machine's matrix multiplication the CPU engine reaches: LSTM 2 x 128, fp32.

GFLOP of a row, a multiplication and an addition counted each, sums of biases and activations not:
32 steps x (2 x 512 x (21 + 128) + 2 x 512 x (128 + 128)) for the layers, and 2 x (1260 x 128 +
256 x 128 + 128) for the dense part: 13.66 MFLOP. Counted from the graph's own weights.

Beside it NumPy's sgemm (BLAS, one thread, in the same process) of 1024 x 1024 x 1024, about the
best that this machine does. Its share at the shape of one step, [B, 128] x [128, 512], stands
beside the figure: no engine that goes step by step can do better than that.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import Engine, FloatArray
from fraudstream.features.catalogue import SEQUENCE_LENGTH
from loadtest.bench.figure import Plan, Round, Sample, Side, Sides, experiment
from loadtest.bench.spent import spent
from loadtest.figures.models.lstm_graphs import (
    cpu_us_of_row,
    lacking_for_lstm,
    made_up_rows,
    new_lstm,
)
from loadtest.figures.table import figure

if TYPE_CHECKING:
    from training.dataset import Examples

BATCHES: Final = (32, 64)
ROWS: Final = 1_024
_PEAK: Final = (1_024, 1_024, 1_024)
_GFLOP: Final = 8.0  # of each sgemm that is measured


def _shares(measured: Round) -> dict[str, float]:
    """Return the engine's share of the peak, and of a step's product, by batch size."""
    engine, sgemm = measured["engine"], measured["sgemm"]
    shares = {f"batch {b}": engine[f"batch {b}"] / sgemm[_named(_PEAK)] for b in BATCHES}
    return shares | {
        f"of a step's sgemm, batch {b}": engine[f"batch {b}"] / sgemm[_named((b, 128, 512))]
        for b in BATCHES
    }


def _mean_share(measured: Round) -> float:
    return statistics.geometric_mean(_shares(measured)[f"batch {batch}"] for batch in BATCHES)


@experiment(
    figure("engine_vs_sgemm", _mean_share),
    needs=(lacking_for_lstm,),
    apart=lambda measured: {**_shares(measured), "sgemm GFLOP/s": measured["sgemm"][_named(_PEAK)]},
)
def engine_vs_sgemm(plan: Plan) -> Iterator[Sides]:
    """Make the network and warm both sides, on one thread each."""
    rows = made_up_rows(plan.rows(ROWS, max(BATCHES)))
    content = new_lstm(rows)
    engine, flop = OnnxEngine(content), flop_of_row(content)
    shapes = [_PEAK, *((batch, 128, 512) for batch in BATCHES)]
    with threadpool_limits(limits=1, user_api="blas"):
        sides: dict[str, Side] = {
            "engine": lambda: _engine_rate(engine, rows, flop),
            "sgemm": lambda: sgemm_rates(shapes, plan.scale),
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


def _engine_rate(engine: Engine, rows: Examples, flop: float) -> Sample:
    """Return GFLOP/s of CPU time by batch size."""
    return {f"batch {batch}": flop / cpu_us_of_row(engine, rows, batch) / 1e3 for batch in BATCHES}


def sgemm_rates(shapes: list[tuple[int, int, int]], scale: float) -> Sample:
    """Return NumPy's GFLOP/s of CPU time for products [M, K] x [K, N], by shape."""
    random = np.random.default_rng(1)
    found = {}
    for rows, inner, columns in shapes:
        left = random.random((rows, inner), np.float32)
        right = random.random((inner, columns), np.float32)
        out = np.empty((rows, columns), np.float32)
        gflop = 2e-9 * rows * inner * columns
        count = max(1, round(_GFLOP * scale / gflop))
        took = spent(partial(_multiply, left, right, out, count), count)
        found[_named((rows, inner, columns))] = gflop / took["cpu_us"] * 1e6
    return found


def _multiply(left: FloatArray, right: FloatArray, out: FloatArray, count: int) -> None:
    for _ in range(count):
        np.matmul(left, right, out=out)


def _named(shape: tuple[int, int, int]) -> str:
    return "sgemm " + "x".join(map(str, shape))
