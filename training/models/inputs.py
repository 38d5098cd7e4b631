"""From raw inputs to what networks compute with, inside the graph: scales, pieces, codes, padding.

Inputs come raw, so the exported graph is the whole model.
Axes: B rows, F features, T steps, C channels, D numbers of a step, E numbers of a vector.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

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

KINDS: Final = 5  # numbers of TransactionKind
CHANNELS: Final = 6  # numbers of Channel
NUMBERS: Final = 6  # of a step, before its codes
AGAINST_LAST: Final = 1  # index of the amount against the last step's
_LOG_SCALE: Final = 8.0  # logarithms of seconds reach 16


class RowInputs(nn.Module):
    """Raw vector float32 [B, F] and raw sequence float32 [B, T, C] to scaled numbers."""

    mean: Tensor
    spread: Tensor
    bucket_of_mcc: Tensor
    ceiling: Tensor
    edge: Tensor
    steepness: Tensor

    def __init__(self, shape: NetworkShape, scaling: Scaling) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(scaling.mean))
        self.register_buffer("spread", torch.from_numpy(scaling.spread))
        self.register_buffer("bucket_of_mcc", torch.from_numpy(scaling.bucket_of_mcc))
        self.register_buffer("ceiling", torch.from_numpy(scaling.ceiling))
        self.register_buffer("edge", torch.from_numpy(scaling.edges[:, :-1]))
        widths = np.maximum(np.diff(scaling.edges, axis=1), LEAST_WIDTH)
        self.register_buffer("steepness", torch.from_numpy((1.0 / widths).astype(np.float32)))
        self.amount_mean, self.amount_spread = scaling.amount_mean, scaling.amount_spread
        self.embed_mcc = nn.Embedding(shape.mcc_buckets, shape.mcc_width)
        self.step_width = NUMBERS + (KINDS - 1) + (CHANNELS - 1) + shape.mcc_width  # D
        self.vector_width = (2 + PIECES) * shape.features  # E

    def vectors(self, vector: Tensor) -> Tensor:
        """Return float32 [B, E]: logarithms, which were missing, and pieces.

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

    def present(self, sequence: Tensor) -> Tensor:
        """Return which steps are no padding, float32 [B, T]."""
        return (sequence[:, :, SECONDS_BEFORE] >= 0.0).to(torch.float32)

    def ago(self, sequence: Tensor) -> Tensor:
        """Return the scaled logarithm of each step's age, float32 [B, T]; 0 for now and padding."""
        return torch.log(1.0 + sequence[:, :, SECONDS_BEFORE].clamp(min=0.0)) / _LOG_SCALE

    def steps(self, sequence: Tensor) -> Tensor:
        """Return the numbers of each step, float32 [B, T, D]; a padded step is all zero."""
        seconds = sequence[:, :, SECONDS_BEFORE]
        logs = torch.log(1.0 + sequence[:, :, AMOUNT].clamp(min=0.0))
        amount = (logs - self.amount_mean) / self.amount_spread
        against_last = (logs - logs[:, -1:]) / self.amount_spread
        after = torch.cat([seconds[:, 1:], seconds[:, -1:]], dim=1)
        gap = torch.log(1.0 + (seconds - after).clamp(min=0.0)) / _LOG_SCALE
        angle = sequence[:, :, HOUR] * (2.0 * math.pi / 24.0)
        numbers = torch.stack(
            [amount, against_last, self.ago(sequence), gap, torch.sin(angle), torch.cos(angle)],
            dim=2,
        )
        kinds = _is_each(sequence[:, :, KIND], KINDS)
        channels = _is_each(sequence[:, :, CHANNEL], CHANNELS)
        mcc = self.embed_mcc(self.mcc_buckets(sequence))  # [B, T, mcc_width]
        joined = torch.cat([numbers, kinds, channels, mcc], dim=2)
        return joined * self.present(sequence).unsqueeze(2)

    def mcc_buckets(self, sequence: Tensor) -> Tensor:
        """Return the bucket of each step's merchant code, int64 [B, T]."""
        codes = sequence[:, :, MCC].clamp(0.0, MCCS - 1.0).to(torch.int64)
        return self.bucket_of_mcc[codes]


def _is_each(numbers: Tensor, count: int) -> Tensor:
    """Return float32 [B, T, count - 1]: one-hot of enum numbers from 1 on."""
    each = torch.arange(1, count, dtype=torch.float32, device=numbers.device)
    return (numbers.unsqueeze(2) == each).to(torch.float32)
