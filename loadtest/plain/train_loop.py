"""How PyTorch's tutorials fit a network: a DataLoader of all rows, Adam, binary cross-entropy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from training.dataset import Examples
from training.models.network import SequenceNetwork


def fit_plainly(
    network: SequenceNetwork,
    train: Examples,
    is_enough: Callable[[SequenceNetwork], bool],
    seed: int,
) -> None:
    """Fit in fp32 until it is enough, asked after every tenth of an epoch, ten epochs at most.

    Args:
        network: With fresh weights; the same as ours.
        train: All rows of the range.
        is_enough: Looks at the network; what that takes is not counted.
        seed: Of the order.
    """
    rows = TensorDataset(
        torch.from_numpy(train.vectors),
        torch.from_numpy(train.sequences),
        torch.from_numpy(train.is_fraud.astype(np.float32)),
    )
    shuffle = torch.Generator().manual_seed(seed)
    loader = DataLoader(rows, batch_size=128, shuffle=True, generator=shuffle)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    looked = max(1, len(loader) // 10)
    network.train()
    for _ in range(10):
        for number, (vector, sequence, truth) in enumerate(loader):
            optimiser.zero_grad()
            logit = network.logit(vector, sequence)
            loss = functional.binary_cross_entropy_with_logits(logit, truth)
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it without types
            optimiser.step()
            if number % looked == looked - 1 and is_enough(network):
                return
