"""Fit the sequence model: every fraud, a fresh sample of genuine rows each epoch, early stop.

Sampling changes the prevalence, so its logarithm goes back into the graph: raw scores are odds at
the true prevalence already, and calibration only mends their shape.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.dataset import Examples
from training.evaluation.metrics import average_precision
from training.models.fit_scaling import fit_scaling
from training.models.network import SequenceNetwork
from training.models.scaling import SECONDS_BEFORE, NetworkShape

Report = Callable[[str], None]
_SCORED_AT_ONCE = 2_048


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How to fit.

    Attributes:
        epochs: Passes at most; the learning rate rises and falls once over them.
        batch_rows: Rows of a step.
        learning_rate: Highest of the cycle.
        weight_decay: Of AdamW.
        genuine_share: Share of the genuine rows drawn for each epoch.
        cut_share: Share of rows whose history is cut at a random step, so that a card cannot be
            learned by heart and a new one is nothing strange.
        patience: Epochs without a better AP on the later slice before stopping.
        seed: Of weights, order and samples.
        threads: Threads of PyTorch.
    """

    epochs: int = 8
    batch_rows: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    genuine_share: float = 1.0
    cut_share: float = 0.7
    patience: int = 3
    seed: int = 1
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted network, and how many epochs gave the best AP on the later slice."""

    network: SequenceNetwork
    epochs: int


def fit_network(
    train: Examples, later: Examples | None, shape: NetworkShape, plan: FitPlan, report: Report
) -> Fitted:
    """Fit to `train`; with a `later` slice keep the epoch that ranks it best.

    The same arguments give the same network on the same kind of machine.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    scaling = fit_scaling(train.vectors, train.sequences, train.is_fraud, shape)
    network = SequenceNetwork(shape, scaling)
    network.prior_shift.fill_(math.log(plan.genuine_share))
    loop = _Loop(network, train, plan)
    best, best_ap, best_epoch = network, -1.0, plan.epochs
    for epoch in range(1, plan.epochs + 1):
        began = time.monotonic()
        loss = loop.epoch()
        line = f"epoch {epoch}/{plan.epochs} loss {loss:.4f} {time.monotonic() - began:.0f} s"
        if later is None:
            report(line)
            best = network
            continue
        ap = average_precision(raw_scores(network, later), later.is_fraud)
        report(f"{line} AP on the later slice {ap:.4f}")
        if ap > best_ap:
            best, best_ap, best_epoch = copy.deepcopy(network), ap, epoch
        elif epoch - best_epoch >= plan.patience:
            break
    return Fitted(best.eval(), best_epoch)


def raw_scores(network: SequenceNetwork, examples: Examples) -> NDArray[np.float64]:
    """Return the raw score of each example, float64 [N]."""
    network.eval()
    parts = []
    with torch.no_grad():
        for begin in range(0, len(examples), _SCORED_AT_ONCE):
            rows = slice(begin, begin + _SCORED_AT_ONCE)
            vector = torch.from_numpy(examples.vectors[rows])
            sequence = torch.from_numpy(examples.sequences[rows])
            parts.append(network(vector, sequence).numpy())
    return np.concatenate([*parts, np.zeros(0, np.float32)]).astype(np.float64)


def cut_histories(sequences: torch.Tensor, share: float) -> torch.Tensor:
    """Return sequences of which a share begins later: what lies before becomes padding.

    Args:
        sequences: float32 [B, T, C]; not changed.
        share: Share of rows that are cut, each after a random step; the last step always stays.
    """
    rows, steps, _ = sequences.shape
    first = torch.randint(0, steps, (rows, 1)) * (torch.rand(rows, 1) < share)
    is_cut = torch.arange(steps) < first  # [B, T]
    padding = torch.zeros(sequences.shape[2])
    padding[SECONDS_BEFORE] = -1.0
    return torch.where(is_cut.unsqueeze(2), padding, sequences)


class _Loop:
    """Steps of one fit."""

    def __init__(self, network: SequenceNetwork, train: Examples, plan: FitPlan) -> None:
        self._network = network
        self._plan = plan
        self._batch_rows = plan.batch_rows
        self._rng = np.random.default_rng((plan.seed, 3))
        self._frauds = np.flatnonzero(train.is_fraud)
        self._genuine = np.flatnonzero(~train.is_fraud)
        self._drawn = round(plan.genuine_share * len(self._genuine))
        self._vectors = torch.from_numpy(train.vectors)
        self._sequences = torch.from_numpy(train.sequences)
        self._truth = torch.from_numpy(train.is_fraud.astype(np.float32))
        self._optimiser = torch.optim.AdamW(
            network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
        )
        steps = plan.epochs * math.ceil((self._drawn + len(self._frauds)) / plan.batch_rows)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, plan.learning_rate, total_steps=max(steps, 2)
        )

    def epoch(self) -> float:
        """Take one pass and return its mean loss."""
        self._network.train()
        drawn = self._rng.choice(self._genuine, self._drawn, replace=False)
        order = self._rng.permutation(np.concatenate([self._frauds, drawn]))
        total = 0.0
        for begin in range(0, len(order), self._batch_rows):
            rows = torch.from_numpy(order[begin : begin + self._batch_rows])
            total += self._step(rows) * len(rows)
        return total / len(order)

    def _step(self, rows: torch.Tensor) -> float:
        self._optimiser.zero_grad()
        sequence = cut_histories(self._sequences[rows], self._plan.cut_share)
        logit = self._network.logit(self._vectors[rows], sequence)
        loss = functional.binary_cross_entropy_with_logits(logit, self._truth[rows])
        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it without types
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach())
