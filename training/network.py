"""The sequence model: two LSTM layers over the card's last transactions, beside the vector.

Inputs come raw; scaling, missing values and codes are handled inside, so the exported graph is the
whole model. Axes: B rows, F features, T steps, C channels, H hidden units, D inputs of a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fraudstream.features.catalogue import CATALOGUE, SEQUENCE_CHANNELS, Aggregation

_AMOUNT, _SECONDS, _KIND, _CHANNEL, _MCC, _HOUR = range(len(SEQUENCE_CHANNELS))
_KINDS: Final = 5  # numbers of TransactionKind
_CHANNELS: Final = 6  # numbers of Channel
_MCCS: Final = 10_000
_KNOWN_WELL_S: Final = 30.0 * 86_400  # after a month a card is as well known as it gets
_NO_CEILING: Final = 3e38  # about the largest float32
_BOUND: Final = 6.0  # standard deviations; further out nothing more is learned


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Sizes of the network.

    Attributes:
        features: F.
        hidden: H of each LSTM layer, and of the vector's branch and the head.
        layers: LSTM layers.
        mcc_buckets: Buckets of merchant codes, the first for those not seen in training.
        mcc_width: Numbers that stand for a bucket.
        dropout: Share of units left out while learning.
        ceilings: Value of each feature above which it says no more; empty for no bounds.
    """

    features: int
    hidden: int = 64
    layers: int = 2
    mcc_buckets: int = 48
    mcc_width: int = 6
    dropout: float = 0.1
    ceilings: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scaling:
    """Constants of the training rows, which become part of the graph.

    Attributes:
        mean: float32 [F], of the signed logarithms; missing values left out.
        spread: float32 [F], their standard deviation.
        amount_mean: The same for amounts of the sequence.
        amount_spread: Likewise.
        bucket_of_mcc: int64 [10000].
        ceiling: float32 [F], from the shape.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    amount_mean: float
    amount_spread: float
    bucket_of_mcc: NDArray[np.int64]
    ceiling: NDArray[np.float32]


def feature_ceilings() -> tuple[float, ...]:
    """Return the ceiling of each feature of the catalogue.

    How long a card is known grows with the calendar: without a bound, the weeks after training
    would lie outside everything that was learned.
    """
    return tuple(
        _KNOWN_WELL_S if feature.aggregation is Aggregation.SECONDS_SINCE_FIRST else _NO_CEILING
        for feature in CATALOGUE
    )


def fit_scaling(
    vectors: NDArray[np.float32], sequences: NDArray[np.float32], shape: NetworkShape
) -> Scaling:
    """Return the scaling of some training rows, float32 [N, F] and float32 [N, T, C]."""
    ceiling = np.array(shape.ceilings or (_NO_CEILING,) * shape.features, np.float32)
    bounded = np.minimum(vectors, ceiling)
    mcc_buckets = shape.mcc_buckets
    logs = (np.sign(bounded) * np.log1p(np.abs(bounded))).astype(np.float64)
    seen = ~np.isnan(logs)
    count = seen.sum(axis=0).clip(1)
    mean = np.nansum(logs, axis=0) / count
    spread = np.sqrt(np.nansum((logs - mean) ** 2, axis=0) / count)
    last = sequences[:, -1]
    amounts = np.log1p(last[:, _AMOUNT].astype(np.float64))
    codes = np.clip(last[:, _MCC].astype(np.int64), 0, _MCCS - 1)
    frequent = np.argsort(-np.bincount(codes, minlength=_MCCS), kind="stable")[: mcc_buckets - 1]
    bucket = np.zeros(_MCCS, np.int64)
    present = frequent[np.isin(frequent, codes)]
    bucket[present] = np.arange(1, len(present) + 1)
    return Scaling(
        mean.astype(np.float32),
        np.maximum(spread, 1e-3).astype(np.float32),
        float(amounts.mean()),
        max(float(amounts.std()), 1e-3),
        bucket,
        ceiling,
    )


class SequenceNetwork(nn.Module):
    """Raw vector float32 [B, F] and raw sequence float32 [B, T, C] to a raw score float32 [B]."""

    mean: Tensor
    spread: Tensor
    bucket_of_mcc: Tensor
    ceiling: Tensor
    prior_shift: Tensor

    def __init__(self, shape: NetworkShape, scaling: Scaling) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(scaling.mean))
        self.register_buffer("spread", torch.from_numpy(scaling.spread))
        self.register_buffer("bucket_of_mcc", torch.from_numpy(scaling.bucket_of_mcc))
        self.register_buffer("ceiling", torch.from_numpy(scaling.ceiling))
        self.register_buffer("prior_shift", torch.zeros(()))
        self.amount_mean, self.amount_spread = scaling.amount_mean, scaling.amount_spread
        self.embed_mcc = nn.Embedding(shape.mcc_buckets, shape.mcc_width)
        width = 6 + (_KINDS - 1) + (_CHANNELS - 1) + shape.mcc_width
        between = shape.dropout if shape.layers > 1 else 0.0
        self.recurrent = nn.LSTM(width, shape.hidden, shape.layers, dropout=between)
        self.branch = nn.Linear(2 * shape.features, shape.hidden)
        self.joint = nn.Linear(2 * shape.hidden, shape.hidden)
        self.head = nn.Linear(shape.hidden, 1)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, vector: Tensor, sequence: Tensor) -> Tensor:
        """Return raw scores in [0, 1], float32 [B]."""
        return torch.sigmoid(self.logit(vector, sequence) + self.prior_shift)

    def logit(self, vector: Tensor, sequence: Tensor) -> Tensor:
        """Return the log-odds among the rows that it learns from, float32 [B]."""
        steps = self._steps(sequence)  # [B, T, D]
        states, _ = self.recurrent(steps.transpose(0, 1))  # [T, B, H]
        seen = self.dropout(functional.relu(self.branch(self._scaled(vector))))  # [B, H]
        joint = functional.relu(self.joint(torch.cat([states[-1], seen], dim=1)))  # [B, H]
        logit: Tensor = self.head(self.dropout(joint))[:, 0]
        return logit

    def _scaled(self, vector: Tensor) -> Tensor:
        """Return float32 [B, 2F]: standardised signed logarithms, and which were missing."""
        missing = torch.isnan(vector)
        known = torch.where(missing, torch.zeros_like(vector), vector)
        known = torch.where(known > self.ceiling, self.ceiling.expand_as(known), known)
        logs = torch.sign(known) * torch.log(1.0 + torch.abs(known))
        standard = ((logs - self.mean) / self.spread).clamp(-_BOUND, _BOUND)
        flags = missing.to(torch.float32)
        return torch.cat([standard * (1.0 - flags), flags], dim=1)

    def _steps(self, sequence: Tensor) -> Tensor:
        """Return the inputs of the LSTM, float32 [B, T, D]; a padded step is all zero."""
        seconds = sequence[:, :, _SECONDS]
        present = (seconds >= 0.0).to(torch.float32).unsqueeze(2)  # [B, T, 1]
        logs = torch.log(1.0 + sequence[:, :, _AMOUNT].clamp(min=0.0))
        amount = (logs - self.amount_mean) / self.amount_spread
        against_last = (logs - logs[:, -1:]) / self.amount_spread
        ago = torch.log(1.0 + seconds.clamp(min=0.0)) / 8.0
        after = torch.cat([seconds[:, 1:], seconds[:, -1:]], dim=1)
        gap = torch.log(1.0 + (seconds - after).clamp(min=0.0)) / 8.0
        angle = sequence[:, :, _HOUR] * (2.0 * math.pi / 24.0)
        numbers = torch.stack(
            [amount, against_last, ago, gap, torch.sin(angle), torch.cos(angle)], dim=2
        )
        kinds = _is_each(sequence[:, :, _KIND], _KINDS)
        channels = _is_each(sequence[:, :, _CHANNEL], _CHANNELS)
        codes = sequence[:, :, _MCC].clamp(0.0, _MCCS - 1.0).to(torch.int64)
        mcc = self.embed_mcc(self.bucket_of_mcc[codes])  # [B, T, mcc_width]
        return torch.cat([numbers, kinds, channels, mcc], dim=2) * present


def _is_each(numbers: Tensor, count: int) -> Tensor:
    """Return float32 [B, T, count - 1]: one-hot of enum numbers from 1 on."""
    each = torch.arange(1, count, dtype=torch.float32, device=numbers.device)
    return (numbers.unsqueeze(2) == each).to(torch.float32)
