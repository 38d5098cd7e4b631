"""Export a fitted network as one ONNX file, with golden rows that prove it is the same function."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import GOLDEN_TOLERANCE, Precision, score_rows
from fraudstream.errors import ModelRefused
from fraudstream.models.manifest import Member, MemberKind
from training.dataset import Examples
from training.learning.fit import raw_scores
from training.models.network import SequenceNetwork
from training.models.onnx_file import onnx_file

GOLDEN_ROWS: Final = 256
_CHECKED_BATCHES: Final = (1, 7, 64)


def export_onnx(network: SequenceNetwork, examples: Examples) -> bytes:
    """Return the network as ONNX with an open batch, checked against PyTorch on the examples.

    Raises:
        ModelRefused: `MODEL_GOLDEN`, ONNX Runtime computes something else.
    """
    vector = torch.from_numpy(examples.vectors[:2])
    sequence = torch.from_numpy(examples.sequences[:2])
    onnx = onnx_file(network, vector, sequence)
    expected = raw_scores(network, examples)
    engine = OnnxEngine(onnx)
    for batch in _CHECKED_BATCHES:
        found = score_rows(engine, examples.vectors, examples.sequences, batch)
        worst = float(np.max(np.abs(found - expected)))
        if not worst <= GOLDEN_TOLERANCE[Precision.FP32]:
            msg = f"ONNX differs from PyTorch by {worst:.1e} in batches of {batch}"
            raise ModelRefused("MODEL_GOLDEN", msg)
    return onnx


def member_of(
    name: str,
    kind: MemberKind,
    onnx: bytes,
    precision: Precision = Precision.FP32,
    weight: float = 1.0,
) -> Member:
    """Return what the manifest says of a graph, whose file has the member's name."""
    return Member(
        name=name,
        kind=kind,
        file=f"{name}.onnx",
        sha256=hashlib.sha256(onnx).hexdigest(),
        precision=precision,
        weight=weight,
    )


def choose_golden(examples: Examples, scores: NDArray[np.float64], seed: int) -> Examples:
    """Return rows worth proving: the most suspicious, the first of a card, and any others."""
    rng = np.random.default_rng((seed, 4))
    count = min(GOLDEN_ROWS, len(examples))
    top = np.argsort(-scores, kind="stable")[: count // 4]
    short = np.flatnonzero(examples.sequences[:, -2, 1] < 0)[: count // 8]
    chosen = np.unique(np.concatenate([top, short]))
    others = np.setdiff1d(np.arange(len(examples)), chosen)
    chosen = np.concatenate([chosen, rng.choice(others, count - len(chosen), replace=False)])
    mask = np.zeros(len(examples), np.bool_)
    mask[chosen] = True
    return examples.where(mask)
