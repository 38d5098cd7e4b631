"""The network: an encoder of the card's last transactions beside the vector, to one raw score.

Axes: B rows, F features, T steps, C channels, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.inputs import RowInputs
from training.models.lstm import LstmEncoder
from training.models.scaling import NetworkKind, NetworkShape, Scaling
from training.models.transformer import TransformerEncoder


class SequenceNetwork(nn.Module):
    """Raw vector float32 [B, F] and raw sequence float32 [B, T, C] to a raw score float32 [B]."""

    prior_shift: Tensor
    encoder: LstmEncoder | TransformerEncoder

    def __init__(self, shape: NetworkShape, scaling: Scaling) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("prior_shift", torch.zeros(()))
        self.inputs = RowInputs(shape, scaling)
        encoder = TransformerEncoder if shape.kind is NetworkKind.TRANSFORMER else LstmEncoder
        self.encoder = encoder(shape, self.inputs.step_width)
        self.branch = nn.Linear(self.inputs.vector_width, shape.hidden)
        self.joint = nn.Linear(2 * shape.hidden, shape.hidden)
        self.head = nn.Linear(shape.hidden, 1)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, vector: Tensor, sequence: Tensor) -> Tensor:
        """Return raw scores in [0, 1], float32 [B]."""
        return torch.sigmoid(self.logit(vector, sequence) + self.prior_shift)

    def logit(self, vector: Tensor, sequence: Tensor) -> Tensor:
        """Return the log-odds among the rows that it learns from, float32 [B]."""
        inputs = self.inputs
        did = self.encoder(
            inputs.steps(sequence), inputs.present(sequence), inputs.ago(sequence)
        )  # [B, H]
        return self._judged(did, vector)

    def branch_logit(self, vector: Tensor) -> Tensor:
        """Return the log-odds of the vector alone, as if the encoder said nothing, float32 [B]."""
        return self._judged(vector.new_zeros(len(vector), self.shape.hidden), vector)

    def _judged(self, did: Tensor, vector: Tensor) -> Tensor:
        seen = self.dropout(functional.relu(self.branch(self.inputs.vectors(vector))))  # [B, H]
        joint = functional.relu(self.joint(torch.cat([did, seen], dim=1)))  # [B, H]
        logit: Tensor = self.head(self.dropout(joint))[:, 0]
        return logit
