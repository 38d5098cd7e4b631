"""An LSTM 2 x 128 in int8 beside fp32: rows a second at equal AP, in ONNX Runtime with one thread.

The network is fitted to a small simulated history and measured on its last days, so that AP means
something; a round scores the same rows in both forms at each batch size. AP may fall by 0.002, else
there is no figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import Engine, Precision, score_rows
from loadtest.bench.figure import (
    MeasurementFailed,
    Plan,
    Round,
    Sample,
    Side,
    Sides,
    experiment,
)
from loadtest.figures.models.lstm_graphs import (
    cpu_us_of_row,
    fitted_lstm,
    lacking_for_lstm,
    small_slices,
    some_rows,
)
from loadtest.figures.table import figure

if TYPE_CHECKING:
    from training.dataset import Examples

BATCHES: Final = (1, 8, 32)
ROWS: Final = 512
_MOST_AP_LOST: Final = 0.002
_BOUND_ROWS: Final = 4_096


def _ratios(measured: Round) -> dict[str, float]:
    fp32, int8 = measured["fp32"], measured["int8"]
    return {f"batch {batch}": fp32[f"us_{batch}"] / int8[f"us_{batch}"] for batch in BATCHES}


@experiment(
    figure("int8_vs_fp32", lambda measured: statistics.geometric_mean(_ratios(measured).values())),
    needs=(lacking_for_lstm,),
    apart=lambda m: {**_ratios(m), "AP fp32": m["fp32"]["ap"], "AP int8": m["int8"]["ap"]},
)
def int8_vs_fp32(plan: Plan) -> Iterator[Sides]:
    """Fit the network, quantise it, and compare the two on later days."""
    from training.compression.int8_artefact import input_bounds
    from training.compression.quantise import quantise_lstm

    slices = small_slices(plan)
    content = fitted_lstm(slices)
    bounds = input_bounds(content, some_rows(slices.tune, _BOUND_ROWS))
    engines = {
        "fp32": OnnxEngine(content),
        "int8": OnnxEngine(quantise_lstm(content, bounds), Precision.INT8),
    }
    ap = {form: _ap(engine, slices.test) for form, engine in engines.items()}
    lost = ap["fp32"] - ap["int8"]
    if lost > _MOST_AP_LOST:
        raise MeasurementFailed(f"int8 loses {lost:.4f} of AP, at most {_MOST_AP_LOST} may go")
    rows = some_rows(slices.test, plan.rows(ROWS, max(BATCHES)))
    yield {form: _side(engine, rows, ap[form]) for form, engine in engines.items()}


def _ap(engine: Engine, rows: Examples) -> float:
    from training.metrics import average_precision

    scores = score_rows(engine, rows.vectors, rows.sequences).astype(np.float64)
    return average_precision(scores, rows.is_fraud)


def _side(engine: Engine, rows: Examples, ap: float) -> Side:
    def run() -> Sample:
        return {f"us_{batch}": cpu_us_of_row(engine, rows, batch) for batch in BATCHES} | {"ap": ap}

    run()
    return run
