"""`fraudstream training quantise` and `distil`: a smaller form of a model, with what it costs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from fraudstream.models.artefact import read_artefact
from fraudstream.runtime.usage_parser import count
from training.dataset import Examples
from training.simulator.simulate import SimulationSettings
from training.train.arguments import add_config, add_source, origin_of, rows_of, say
from training.train.slices import dataset_slices, simulator_slices

_BOUND_ROWS = 4_096


def add_quantise(quantise: argparse.ArgumentParser) -> None:
    """Take the arguments of `quantise`."""
    quantise.add_argument("folder", type=Path, help="artefact in fp32")
    quantise.add_argument("--out", required=True, type=Path, help="folder of the one in int8")
    quantise.add_argument(
        "--data", type=Path, help="training set to measure on; a simulated one without it"
    )
    quantise.add_argument(
        "--simulator-seed", type=int, default=12, help="not the one that the model learned from"
    )
    quantise.add_argument("--cards", type=count, default=3_000, help="simulator only")
    quantise.add_argument("--days", type=count, default=90, help="simulator only")
    quantise.set_defaults(run=_quantise)


def add_distil(distil: argparse.ArgumentParser) -> None:
    """Take the arguments of `distil`."""
    distil.add_argument("folder", type=Path, help="the teacher's artefact")
    distil.add_argument("--out", required=True, type=Path, help="folder of the student's")
    distil.set_defaults(model="lstm")
    add_config(distil, "the student's TOML file; training/configs/small.toml by default")
    add_source(distil)
    distil.set_defaults(run=_distil)


def _distil(parsed: argparse.Namespace) -> int:
    # PyTorch belongs to the training extra; a usage error does not need it.
    from training.compression.distil import distil
    from training.train.config import CONFIGS, Override, named_config
    from training.train.members import specs_of
    from training.train.train import TrainRequest

    override = Override(parsed.seed, parsed.epochs, parsed.threads)
    path, config = named_config(parsed.model, parsed.config or CONFIGS / "small.toml")
    config = override.applied(config)
    specs = specs_of(path, config, override)
    rows = rows_of(parsed)
    origin = origin_of(parsed, path, rows)
    request = TrainRequest(parsed.out, parsed.out.name, 1, config, specs, origin=origin)
    # The student that is compared is the one that is written: it has not learned from the test.
    slices = replace(rows.slices, served=None)
    student, found, ap_alone = distil(parsed.folder, request, slices, say)
    print(found.table())
    print(f"the same student from labels alone: average precision {ap_alone:.4f}")
    print(f"measured on {len(slices.test)} rows, {int(slices.test.is_fraud.sum())} of them fraud")
    print(f"wrote {student.manifest.name} to {parsed.out}; sign it by fraudstream training sign")
    return 0


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
    print(f"wrote {made.manifest.name} to {parsed.out}; sign it by fraudstream training sign")
    return 0


def _some(examples: Examples) -> Examples:
    """Return rows spread over the whole slice."""
    chosen = np.zeros(len(examples), np.bool_)
    chosen[:: max(1, len(examples) // _BOUND_ROWS)] = True
    return examples.where(chosen)
