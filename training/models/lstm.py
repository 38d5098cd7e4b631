"""The recurrent encoder: LSTM layers over a card's last transactions, oldest first.

Axes: B rows, T steps, D numbers of a step, H hidden units.
"""

from __future__ import annotations

from torch import Tensor, nn

from training.models.scaling import NetworkShape


class LstmEncoder(nn.Module):
    """What a card did, in H numbers: the last state of the last layer."""

    def __init__(self, shape: NetworkShape, step_width: int) -> None:
        super().__init__()
        between = shape.dropout if shape.layers > 1 else 0.0
        self.recurrent = nn.LSTM(step_width, shape.hidden, shape.layers, dropout=between)

    def states(self, steps: Tensor, present: Tensor, ago: Tensor) -> Tensor:  # noqa: ARG002
        """Return the state after each step, float32 [B, T, H]; it knows nothing of later ones."""
        states, _ = self.recurrent(steps.transpose(0, 1))  # [T, B, H]
        along: Tensor = states.transpose(0, 1)
        return along

    def forward(self, steps: Tensor, present: Tensor, ago: Tensor) -> Tensor:  # noqa: ARG002
        """Return float32 [B, H] of float32 [B, T, D]; padding and ages are in the steps already."""
        states, _ = self.recurrent(steps.transpose(0, 1))  # [T, B, H]
        last: Tensor = states[-1]
        return last
