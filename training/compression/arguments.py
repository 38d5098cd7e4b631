"""`python -m training quantise FOLDER --out FOLDER`: LSTM members in int8, with what it costs."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fraudstream.artefact import read_artefact
from training.dataset import Examples
from training.simulate import SimulationSettings
from training.slices import dataset_slices, simulator_slices

_BOUND_ROWS = 4_096


def add_arguments(quantise: argparse.ArgumentParser) -> None:
    """Take the arguments of `quantise`."""
    quantise.add_argument("folder", type=Path, help="artefact in fp32")
    quantise.add_argument("--out", required=True, type=Path, help="folder of the one in int8")
    quantise.add_argument(
        "--data", type=Path, help="training set to measure on; a simulated one without it"
    )
    quantise.add_argument(
        "--simulator-seed", type=int, default=12, help="not the one that the model learned from"
    )
    quantise.add_argument("--cards", type=int, default=3_000, help="simulator only")
    quantise.add_argument("--days", type=int, default=90, help="simulator only")
    quantise.set_defaults(run=_quantise)


def _quantise(parsed: argparse.Namespace) -> int:
    # ONNX's own package belongs to the training extra; a usage error does not need it.
    from training.compression.int8_artefact import make_int8

    artefact = read_artefact(parsed.folder)
    if parsed.data is None:
        slices = simulator_slices(
            SimulationSettings(parsed.simulator_seed, parsed.cards, parsed.days)
        )
    else:
        slices = dataset_slices(parsed.data)
    made, found = make_int8(artefact, parsed.out, _some(slices.tune), slices.test)
    print(found.table())
    print(f"measured on {len(slices.test)} rows, {int(slices.test.is_fraud.sum())} of them fraud")
    print(f"wrote {made.manifest.name} to {parsed.out}; sign it by python -m training sign")
    return 0


def _some(examples: Examples) -> Examples:
    """Return rows spread over the whole slice."""
    chosen = np.zeros(len(examples), np.bool_)
    chosen[:: max(1, len(examples) // _BOUND_ROWS)] = True
    return examples.where(chosen)
