"""LSTM networks of a given size for the benchmark of engines, fitted or as they are born."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np

from fraudstream.engines.protocol import Engine, score_rows
from fraudstream.features.catalogue import FEATURE_NAMES, SEQUENCE_CHANNELS, SEQUENCE_LENGTH
from loadtest.bench.figure import Plan
from loadtest.bench.spent import spent

if TYPE_CHECKING:
    from training.dataset import Examples
    from training.models.scaling import NetworkShape
    from training.train.slices import Slices

LAYERS: Final = 2
HIDDEN: Final = 128
_CARDS, _DAYS, _SEED, _EPOCHS, _GENUINE_SHARE = 1_500, 60, 11, 4, 0.12


def lacking_for_lstm(_: object = None) -> str:
    """Return why no network can be made here, empty where one can."""
    return "" if find_spec("torch") else "PyTorch is not installed (extra: train)"


def small_slices(plan: Plan) -> Slices:
    """Return slices of a small simulated history; smaller still at a lower scale."""
    from training.simulator.simulate import SimulationSettings
    from training.train.slices import simulator_slices

    return simulator_slices(SimulationSettings(_SEED, plan.rows(_CARDS, 300), _DAYS))


def fitted_lstm(slices: Slices) -> bytes:
    """Return an LSTM 2 x 128 as ONNX, fitted for a minute."""
    import torch

    from training.learning.fit import fit_network, raw_scores
    from training.learning.lesson import Lesson
    from training.models.plan import FitPlan
    from training.train.export import choose_golden, export_onnx

    plan = FitPlan(epochs=_EPOCHS, genuine_share=_GENUINE_SHARE)
    fitted = fit_network(Lesson(slices.fit, slices.stop), _shape(), plan, lambda _: None)
    torch.set_num_threads(1)
    scores = raw_scores(fitted.network, slices.stop)
    return export_onnx(fitted.network, choose_golden(slices.stop, scores, seed=1))


def _shape() -> NetworkShape:
    from training.models.scaling import NetworkKind, NetworkShape, feature_ceilings

    return NetworkShape(
        len(FEATURE_NAMES),
        NetworkKind.LSTM,
        hidden=HIDDEN,
        layers=LAYERS,
        ceilings=feature_ceilings(),
    )


def some_rows(examples: Examples, count: int) -> Examples:
    """Return about so many rows, spread over all of them."""
    chosen = np.zeros(len(examples), np.bool_)
    chosen[:: max(1, len(examples) // count)] = True
    return examples.where(chosen)


def cpu_us_of_row(engine: Engine, rows: Examples, batch: int) -> float:
    """Return the CPU time of a row in batches of one size, microseconds."""
    work = partial(score_rows, engine, rows.vectors, rows.sequences, batch)
    return spent(work, len(rows))["cpu_us"]


def made_up_rows(rows: int) -> Examples:
    """Return rows of plausible size with padded sequences, for speed alone."""
    from training.dataset import Examples

    random = np.random.default_rng(5)
    vectors = random.lognormal(2.0, 2.0, (rows, len(FEATURE_NAMES))).astype(np.float32)
    shape = (rows, SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS))
    sequences = random.uniform(1, 20, shape).astype(np.float32)
    numbers = np.arange(rows, dtype=np.int64)
    return Examples(vectors, sequences, numbers % 100 == 0, numbers, numbers, numbers, numbers)


def new_lstm(rows: Examples) -> bytes:
    """Return an LSTM 2 x 128 as ONNX with the weights it is born with: as much work as any."""
    from training.learning.fit import new_network
    from training.train.export import export_onnx

    return export_onnx(new_network(rows, _shape(), seed=1), rows)
