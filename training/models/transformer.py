"""The attentive encoder: transformer layers over a card's last transactions, with time for place.

A step's position is its age: waves over the logarithm of the seconds before now, so two purchases
a minute apart are near and the same two a week apart are not, however many lie between them.
The last layer asks only for the last step: nothing else of it is read.
Axes: B rows, T steps, D numbers of a step, H width, A heads.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.scaling import NetworkShape

_NEVER: Final = -1e4  # of a padded step's attention; in reach of fp16
_FASTEST: Final = 32.0  # half waves of the fastest position over the scaled logarithm 0 to 2


class TransformerEncoder(nn.Module):
    """What a card did, in H numbers: the last step after attention to all."""

    waves: Tensor

    def __init__(self, shape: NetworkShape, step_width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(step_width, shape.hidden)
        half = shape.hidden // 2
        waves = torch.exp(torch.linspace(0.0, math.log(_FASTEST), half)) * (math.pi / 2.0)
        self.register_buffer("waves", waves)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.hidden)

    def states(self, steps: Tensor, present: Tensor, ago: Tensor) -> Tensor:
        """Return every step after attention to all, float32 [B, T, H]."""
        seen = self._placed(steps, ago)
        mask = _mask_of(present)
        for layer in self.layers:
            seen = layer(seen, seen, mask)
        return self.norm(seen)  # type: ignore[no-any-return]  # PyTorch's modules return Any

    def forward(self, steps: Tensor, present: Tensor, ago: Tensor) -> Tensor:
        """Return float32 [B, H].

        Args:
            steps: float32 [B, T, D].
            present: float32 [B, T], 0 for padding.
            ago: float32 [B, T], scaled logarithm of each step's age.
        """
        seen = self._placed(steps, ago)
        mask = _mask_of(present)
        *earlier, last = self.layers
        for layer in earlier:
            seen = layer(seen, seen, mask)
        asked = last(seen[:, -1:], seen, mask)  # [B, 1, H]
        return self.norm(asked)[:, 0]  # type: ignore[no-any-return]  # as above

    def _placed(self, steps: Tensor, ago: Tensor) -> Tensor:
        phase = ago.unsqueeze(2) * self.waves  # [B, T, H / 2]
        index = torch.cat([torch.sin(phase), torch.cos(phase)], dim=2)
        return self.embed(steps) + index  # type: ignore[no-any-return]  # as above


class _Layer(nn.Module):
    """Attention and a feed-forward part, each normalised first (Xiong et al. 2020)."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        width = shape.hidden
        self.heads = shape.heads
        self.scale = 1.0 / math.sqrt(width // shape.heads)
        self.norm_seen = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, asked: Tensor, seen: Tensor, mask: Tensor) -> Tensor:
        """Return float32 [B, Q, H] for asked float32 [B, Q, H] and seen float32 [B, T, H]."""
        query = self._split(self.query(self.norm_seen(asked)))  # [B, A, Q, H / A]
        normed = self.norm_seen(seen)
        key, value = self._split(self.key(normed)), self._split(self.value(normed))
        logits = query @ key.transpose(2, 3) * self.scale + mask  # [B, A, Q, T]
        mixed = (torch.softmax(logits, dim=3) @ value).transpose(1, 2).flatten(2)  # [B, Q, H]
        asked = asked + self.dropout(self.out(mixed))
        wide = functional.relu(self.widen(self.norm_out(asked)))
        return asked + self.dropout(self.narrow(wide))  # type: ignore[no-any-return]  # as above

    def _split(self, numbers: Tensor) -> Tensor:
        """Return float32 [B, A, Q, H / A] of float32 [B, Q, H]."""
        _, steps, width = numbers.shape
        return numbers.reshape(-1, steps, self.heads, width // self.heads).transpose(1, 2)


def _mask_of(present: Tensor) -> Tensor:
    """Return what is added to attention, float32 [B, 1, 1, T]."""
    return ((1.0 - present) * _NEVER).unsqueeze(1).unsqueeze(1)
