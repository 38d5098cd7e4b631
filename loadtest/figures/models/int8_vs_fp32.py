"""An LSTM 2 x 128 in int8 beside fp32: rows a second at equal AP, in ONNX Runtime with one thread.

The network is fitted to a small simulated history and measured on its last days, so that AP means
something; a round scores the same rows in both forms at each batch size. AP may fall by 0.002, else
there is no figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import Engine, FloatArray, Precision, score_rows
from fraudstream.features.catalogue import FEATURE_NAMES
from loadtest.bench.cpu import spent
from loadtest.bench.figure import MeasurementFailed, Plan, Round, Sample, Side, Sides, experiment
from loadtest.figures.table import figure

if TYPE_CHECKING:
    from training.dataset import Examples
    from training.train.slices import Slices

BATCHES: Final = (1, 8, 32)
ROWS: Final = 512
_MOST_AP_LOST: Final = 0.002
_BOUND_ROWS: Final = 4_096
_CARDS, _DAYS, _SEED, _EPOCHS, _GENUINE_SHARE = 1_500, 60, 11, 4, 0.12


def lacking_for_lstm(_: object = None) -> str:
    """Return why no network can be made here, empty where one can."""
    return "" if find_spec("torch") else "PyTorch is not installed (extra: train)"


def cpu_us_of_row(engine: Engine, rows: tuple[FloatArray, FloatArray], batch: int) -> float:
    """Return the CPU time of a row, vector and sequence, in batches of one size, microseconds."""
    return spent(partial(score_rows, engine, *rows, batch), len(rows[0]))["cpu_us"]


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
    from training.metrics import average_precision
    from training.simulator.simulate import SimulationSettings
    from training.train.slices import simulator_slices

    slices = simulator_slices(SimulationSettings(_SEED, plan.rows(_CARDS, 300), _DAYS))
    content = _fitted_lstm(slices)
    bounds = input_bounds(content, some_rows(slices.tune, _BOUND_ROWS))
    engines = {
        "fp32": OnnxEngine(content),
        "int8": OnnxEngine(quantise_lstm(content, bounds), Precision.INT8),
    }
    ap = {}
    for form, engine in engines.items():
        scores = score_rows(engine, slices.test.vectors, slices.test.sequences).astype(np.float64)
        ap[form] = average_precision(scores, slices.test.is_fraud)
    lost = ap["fp32"] - ap["int8"]
    if lost > _MOST_AP_LOST:
        raise MeasurementFailed(f"int8 loses {lost:.4f} of AP, at most {_MOST_AP_LOST} may go")
    rows = some_rows(slices.test, plan.rows(ROWS, max(BATCHES)))
    yield {form: _side(engine, rows, ap[form]) for form, engine in engines.items()}


def _fitted_lstm(slices: Slices) -> bytes:
    """Return an LSTM 2 x 128 as ONNX, fitted for a minute."""
    import torch

    from training.learning.fit import fit_network, raw_scores
    from training.learning.lesson import Lesson
    from training.models.plan import FitPlan
    from training.models.scaling import NetworkKind, NetworkShape, feature_ceilings
    from training.train.export import choose_golden, export_onnx

    plan = FitPlan(epochs=_EPOCHS, genuine_share=_GENUINE_SHARE)
    ceilings = feature_ceilings()
    shape = NetworkShape(len(FEATURE_NAMES), NetworkKind.LSTM, hidden=128, ceilings=ceilings)
    fitted = fit_network(Lesson(slices.fit, slices.stop), shape, plan, lambda _: None)
    torch.set_num_threads(1)
    scores = raw_scores(fitted.network, slices.stop)
    return export_onnx(fitted.network, choose_golden(slices.stop, scores, seed=1))


def some_rows(examples: Examples, count: int) -> Examples:
    """Return about so many rows, spread over all of them."""
    chosen = np.zeros(len(examples), np.bool_)
    chosen[:: max(1, len(examples) // count)] = True
    return examples.where(chosen)


def _side(engine: Engine, rows: Examples, ap: float) -> Side:
    arrays = rows.vectors, rows.sequences

    def run() -> Sample:
        took = {f"us_{batch}": cpu_us_of_row(engine, arrays, batch) for batch in BATCHES}
        return took | {"ap": ap}

    run()
    return run
