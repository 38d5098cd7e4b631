"""The networks that every engine must run, with weights and rows made from a seed.

A speed does not depend on what a network has learned, so none of them has. Axes: `N` rows, `F`
features, `T` sequence length, `C` channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import torch

from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.protocol import FloatArray
from fraudstream.features.catalogue import FEATURE_NAMES, SEQUENCE_LENGTH
from training.models.network import SequenceNetwork
from training.models.onnx_file import onnx_file
from training.models.scaling import (
    AMOUNT,
    MCCS,
    PIECES,
    SECONDS_BEFORE,
    NetworkKind,
    NetworkShape,
    Scaling,
    feature_ceilings,
)

F: Final = len(FEATURE_NAMES)
GOLDEN_ROWS: Final = 256
# Untrained, all log-odds lie within 0.1 of another, and an engine that is wrong would not show;
# much further apart, they would be further from fp16 than those of a network that has learned.
_LOGIT_SPREAD: Final = 0.3
_MISSING_SHARE: Final = 0.1
_LEAST_SPREAD: Final = 0.1


def _shape(kind: NetworkKind, hidden: int) -> NetworkShape:
    return NetworkShape(features=F, kind=kind, hidden=hidden, ceilings=feature_ceilings())


SHAPES: Final = MappingProxyType(
    {
        "lstm-2x128": _shape(NetworkKind.LSTM, 128),
        "lstm-2x64": _shape(NetworkKind.LSTM, 64),
        "transformer-2x64": _shape(NetworkKind.TRANSFORMER, 64),
    }
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A network on the CPU, and rows with what PyTorch computes for them there in fp32."""

    name: str
    network: SequenceNetwork
    golden: GoldenRows

    def onnx(self) -> bytes:
        """Return the network as ONNX; it needs the package onnx."""
        vectors, sequences = sample_rows(2, seed=1)
        return onnx_file(self.network, torch.from_numpy(vectors), torch.from_numpy(sequences))


def subject(name: str, seed: int = 1) -> Subject:
    """Return the network of a name."""
    torch.manual_seed(seed)
    network = SequenceNetwork(SHAPES[name], _scaling(seed)).eval()
    rows = sample_rows(GOLDEN_ROWS, seed + 1)
    vectors, sequences = (torch.from_numpy(numbers) for numbers in rows)
    with torch.no_grad():
        logit = network.logit(vectors, sequences)
        network.head.weight.mul_(_LOGIT_SPREAD / logit.std())
        scores = network(vectors, sequences).numpy()
    return Subject(name, network, GoldenRows(*rows, scores))


def sample_rows(rows: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return float32 [N, F] and [N, T, C] as raw as served ones: some missing, padded in front."""
    random = np.random.default_rng(seed)
    vectors = random.lognormal(2.0, 2.0, (rows, F)).astype(np.float32)
    vectors[random.random((rows, F)) < _MISSING_SHARE] = np.nan
    drawn = (
        random.lognormal(8.0, 1.5, (rows, SEQUENCE_LENGTH)),  # minor units
        -np.sort(-random.integers(1, 10**6, (rows, SEQUENCE_LENGTH)), axis=1),  # seconds before
        random.integers(1, 5, (rows, SEQUENCE_LENGTH)),  # kind
        random.integers(1, 6, (rows, SEQUENCE_LENGTH)),  # channel
        random.integers(1000, MCCS, (rows, SEQUENCE_LENGTH)),
        random.uniform(0, 24, (rows, SEQUENCE_LENGTH)),  # hour
    )
    sequences = np.stack(drawn, axis=2).astype(np.float32)
    first = random.integers(0, SEQUENCE_LENGTH, (rows, 1))
    is_padding = np.arange(SEQUENCE_LENGTH) < first  # [N, T]
    sequences[is_padding] = 0.0
    sequences[is_padding, SECONDS_BEFORE] = -1.0
    sequences[:, -1, SECONDS_BEFORE] = 0.0
    return vectors, sequences


def _scaling(seed: int) -> Scaling:
    """Return constants of sample rows; where they cut a feature makes no difference here."""
    vectors, sequences = sample_rows(1_000, seed + 2)
    logs = np.log1p(vectors)
    buckets = SHAPES["lstm-2x64"].mcc_buckets
    return Scaling(
        mean=np.nanmean(logs, axis=0),
        spread=np.maximum(np.nanstd(logs, axis=0), _LEAST_SPREAD),
        edges=np.nanquantile(vectors, np.linspace(0, 1, PIECES + 1), axis=0).T.astype(np.float32),
        ceiling=np.array(feature_ceilings(), np.float32),
        amount_mean=float(np.log1p(sequences[:, -1, AMOUNT]).mean()),
        amount_spread=float(np.log1p(sequences[:, -1, AMOUNT]).std()),
        bucket_of_mcc=np.arange(MCCS, dtype=np.int64) % buckets,
    )
