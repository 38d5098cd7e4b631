"""The sequence model: two LSTM layers over the card's last transactions, beside the vector.

Inputs come raw; scaling, missing values and codes are handled inside, so the exported graph is the
whole model. Axes: B rows, F features, T steps, C channels, H hidden units, D inputs of a step.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.scaling import (
    AMOUNT,
    BOUND,
    CHANNEL,
    HOUR,
    KIND,
    LEAST_WIDTH,
    MCC,
    MCCS,
    PIECES,
    SECONDS_BEFORE,
    NetworkShape,
    Scaling,
)

_KINDS: Final = 5  # numbers of TransactionKind
_CHANNELS: Final = 6  # numbers of Channel


class SequenceNetwork(nn.Module):
    """Raw vector float32 [B, F] and raw sequence float32 [B, T, C] to a raw score float32 [B]."""

    mean: Tensor
    spread: Tensor
    bucket_of_mcc: Tensor
    ceiling: Tensor
    edge: Tensor
    steepness: Tensor
    prior_shift: Tensor

    def __init__(self, shape: NetworkShape, scaling: Scaling) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(scaling.mean))
        self.register_buffer("spread", torch.from_numpy(scaling.spread))
        self.register_buffer("bucket_of_mcc", torch.from_numpy(scaling.bucket_of_mcc))
        self.register_buffer("ceiling", torch.from_numpy(scaling.ceiling))
        self.register_buffer("edge", torch.from_numpy(scaling.edges[:, :-1]))
        widths = np.maximum(np.diff(scaling.edges, axis=1), LEAST_WIDTH)
        self.register_buffer("steepness", torch.from_numpy((1.0 / widths).astype(np.float32)))
        self.register_buffer("prior_shift", torch.zeros(()))
        self.amount_mean, self.amount_spread = scaling.amount_mean, scaling.amount_spread
        self.embed_mcc = nn.Embedding(shape.mcc_buckets, shape.mcc_width)
        width = 6 + (_KINDS - 1) + (_CHANNELS - 1) + shape.mcc_width
        between = shape.dropout if shape.layers > 1 else 0.0
        self.recurrent = nn.LSTM(width, shape.hidden, shape.layers, dropout=between)
        self.branch = nn.Linear((2 + PIECES) * shape.features, shape.hidden)
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
        """Return float32 [B, (2 + PIECES) F]: logarithms, which were missing, and pieces.

        Pieces say how far a value has come through each interval of its feature, 0 to 1, so a
        sharp cut is as easy to learn as for a tree (Gorishniy et al. 2022).
        """
        missing = torch.isnan(vector)
        known = torch.where(missing, torch.zeros_like(vector), vector)
        known = torch.where(known > self.ceiling, self.ceiling.expand_as(known), known)
        logs = torch.sign(known) * torch.log(1.0 + torch.abs(known))
        standard = ((logs - self.mean) / self.spread).clamp(-BOUND, BOUND)
        flags = missing.to(torch.float32)
        way = (known.unsqueeze(2) - self.edge) * self.steepness  # [B, F, PIECES]
        pieces = way.clamp(0.0, 1.0) * (1.0 - flags).unsqueeze(2)
        return torch.cat([standard * (1.0 - flags), flags, pieces.flatten(1)], dim=1)

    def _steps(self, sequence: Tensor) -> Tensor:
        """Return the inputs of the LSTM, float32 [B, T, D]; a padded step is all zero."""
        seconds = sequence[:, :, SECONDS_BEFORE]
        present = (seconds >= 0.0).to(torch.float32).unsqueeze(2)  # [B, T, 1]
        logs = torch.log(1.0 + sequence[:, :, AMOUNT].clamp(min=0.0))
        amount = (logs - self.amount_mean) / self.amount_spread
        against_last = (logs - logs[:, -1:]) / self.amount_spread
        ago = torch.log(1.0 + seconds.clamp(min=0.0)) / 8.0
        after = torch.cat([seconds[:, 1:], seconds[:, -1:]], dim=1)
        gap = torch.log(1.0 + (seconds - after).clamp(min=0.0)) / 8.0
        angle = sequence[:, :, HOUR] * (2.0 * math.pi / 24.0)
        numbers = torch.stack(
            [amount, against_last, ago, gap, torch.sin(angle), torch.cos(angle)], dim=2
        )
        kinds = _is_each(sequence[:, :, KIND], _KINDS)
        channels = _is_each(sequence[:, :, CHANNEL], _CHANNELS)
        codes = sequence[:, :, MCC].clamp(0.0, MCCS - 1.0).to(torch.int64)
        mcc = self.embed_mcc(self.bucket_of_mcc[codes])  # [B, T, mcc_width]
        return torch.cat([numbers, kinds, channels, mcc], dim=2) * present


def _is_each(numbers: Tensor, count: int) -> Tensor:
    """Return float32 [B, T, count - 1]: one-hot of enum numbers from 1 on."""
    each = torch.arange(1, count, dtype=torch.float32, device=numbers.device)
    return (numbers.unsqueeze(2) == each).to(torch.float32)
