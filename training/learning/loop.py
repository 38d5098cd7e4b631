"""The steps of a fit, on one process or several.

Axes: N training rows, B rows of a batch, T steps of a sequence, C channels.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.dataset import Examples
from training.learning.machine import Machine
from training.learning.plan import FitPlan
from training.models.network import SequenceNetwork
from training.models.scaling import SECONDS_BEFORE

_EDGE = 1e-6  # a teacher's score of 0 or 1 has no log-odds


@dataclass(frozen=True, slots=True)
class Targets:
    """What the rows should score, and which are frauds.

    Attributes:
        wanted: float32 [N], in [0, 1], among the rows that a network learns from.
        is_fraud: bool [N].
    """

    wanted: Tensor
    is_fraud: NDArray[np.bool_]

    @classmethod
    def of(
        cls, is_fraud: NDArray[np.bool_], teacher: NDArray[np.float64] | None, plan: FitPlan
    ) -> Self:
        """Return the labels, or their mixture with a teacher's scores (Hinton et al. 2015).

        Args:
            is_fraud: bool [N].
            teacher: float64 [N] at the true prevalence: brought to that of the sample here.
            plan: How genuine rows are drawn, and how much the teacher counts.
        """
        labels = is_fraud.astype(np.float32)
        if teacher is not None:
            known = np.clip(teacher, _EDGE, 1.0 - _EDGE)
            odds = known / (1.0 - known) / plan.genuine_share
            soft = odds / (1.0 + odds)
            share = plan.taught_share
            labels = ((1.0 - share) * labels + share * soft).astype(np.float32)
        return cls(torch.from_numpy(labels), is_fraud)


class Loop:
    """Steps of one fit; every process of it draws the same order and takes its part of a batch."""

    def __init__(
        self,
        network: SequenceNetwork,
        train: Examples,
        targets: Targets,
        plan: FitPlan,
        machine: Machine,
    ) -> None:
        self.network = network
        self._plan = plan
        self._machine = machine
        self._rng = np.random.default_rng((plan.seed, 3))
        self._frauds = np.flatnonzero(targets.is_fraud)
        self._genuine = np.flatnonzero(~targets.is_fraud)
        self._drawn = round(plan.genuine_share * len(self._genuine))
        self._vectors = torch.from_numpy(train.vectors)
        self._sequences = torch.from_numpy(train.sequences)
        self._wanted = targets.wanted
        self._loss = machine.joined(_Loss(network))
        self._optimiser = torch.optim.AdamW(
            network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
        )
        steps = plan.epochs * math.ceil((self._drawn + len(self._frauds)) / plan.batch_rows)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, plan.learning_rate, total_steps=max(steps, 2)
        )
        self._average = _Average(network, plan.averaged_steps) if plan.averaged_steps else None

    def epoch(self) -> float:
        """Take one pass and return its mean loss."""
        self.network.train()
        drawn = self._rng.choice(self._genuine, self._drawn, replace=False)
        order = self._rng.permutation(np.concatenate([self._frauds, drawn]))
        total = 0.0
        for begin in range(0, len(order), self._plan.batch_rows):
            batch = order[begin : begin + self._plan.batch_rows]
            own = batch[self._machine.rank :: self._machine.ranks]
            # A last batch may be too small for all: then each takes all of it.
            total += self._step(torch.from_numpy(own if len(own) else batch)) * len(batch)
        return total / len(order)

    def averaged(self) -> SequenceNetwork:
        """Return a copy of the network with what is kept of its weights."""
        network = copy.deepcopy(self.network)
        if self._average is not None:
            self._average.write_to(network)
        return network

    def state(self) -> dict[str, Any]:
        """Return all that the next epoch depends on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "average": None if self._average is None else self._average.state(),
            "order": _plain(self._rng.bit_generator.state),
            "torch": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where `state` was returned."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        if self._average is not None:
            self._average.restore(state["average"])
        self._rng.bit_generator.state = _number(state["order"])
        torch.set_rng_state(state["torch"])

    def _step(self, rows: Tensor) -> float:
        placed = self._machine.placed
        self._optimiser.zero_grad()
        sequence = cut_histories(self._sequences[rows], self._plan.cut_share)
        with self._machine.mixed():
            loss = self._loss(
                placed(self._vectors[rows]), placed(sequence), placed(self._wanted[rows])
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()
        self._schedule.step()
        if self._average is not None:
            self._average.add(self.network)
        return float(loss.detach())


class _Loss(nn.Module):
    """The loss of a batch, as one module: gradients of several processes meet in its backward."""

    def __init__(self, network: SequenceNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, vector: Tensor, sequence: Tensor, wanted: Tensor) -> Tensor:
        logit = self.network.logit(vector, sequence)
        return functional.binary_cross_entropy_with_logits(logit.float(), wanted)


class _Average:
    """Moving average of the weights, without the bias of its beginning."""

    def __init__(self, network: SequenceNetwork, steps: int) -> None:
        self._keep = 1.0 - 1.0 / steps
        self._weight = 0.0
        self._sums = [torch.zeros_like(each) for each in network.parameters()]

    def add(self, network: SequenceNetwork) -> None:
        with torch.no_grad():
            parameters = [each.detach() for each in network.parameters()]
            torch._foreach_lerp_(self._sums, parameters, 1.0 - self._keep)
        self._weight = self._keep * self._weight + 1.0 - self._keep

    def write_to(self, network: SequenceNetwork) -> None:
        with torch.no_grad():
            for each, summed in zip(network.parameters(), self._sums, strict=True):
                each.copy_(summed / self._weight if self._weight else each)

    def state(self) -> dict[str, Any]:
        return {"weight": self._weight, "sums": self._sums}

    def restore(self, state: dict[str, Any]) -> None:
        self._weight = float(state["weight"])
        for own, kept in zip(self._sums, state["sums"], strict=True):
            own.copy_(kept)


def cut_histories(sequences: Tensor, share: float) -> Tensor:
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


def _plain(state: Any) -> Any:
    """Return a generator's state with its 128-bit numbers as text: files hold 64 bits."""
    if isinstance(state, dict):
        return {name: _plain(each) for name, each in state.items()}
    return str(state) if isinstance(state, int) else state


def _number(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _number(each) for name, each in state.items()}
    return int(state) if isinstance(state, str) and state.isdecimal() else state
