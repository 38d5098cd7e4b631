"""The steps of a fit, on one process or several.

Axes: N training rows, B rows of a batch, T steps of a sequence, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.dataset import Examples
from training.learning.bars import with_bar
from training.learning.machine import Machine
from training.models.network import SequenceNetwork
from training.models.plan import FitPlan
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
        cls,
        is_fraud: NDArray[np.bool_],
        teacher: NDArray[np.float64] | None,
        genuine_share: float,
        taught_share: float,
    ) -> Self:
        """Return the labels, or their mixture with a teacher's scores (Hinton et al. 2015).

        Args:
            is_fraud: bool [N].
            teacher: float64 [N] at the true prevalence: brought to that of the sample here.
            genuine_share: Of the genuine rows, drawn.
            taught_share: How far the teacher counts.
        """
        labels = is_fraud.astype(np.float32)
        if teacher is not None:
            known = np.clip(teacher, _EDGE, 1.0 - _EDGE)
            odds = known / (1.0 - known) / genuine_share
            soft = odds / (1.0 + odds)
            labels = ((1.0 - taught_share) * labels + taught_share * soft).astype(np.float32)
        return cls(torch.from_numpy(labels), is_fraud)


@dataclass(frozen=True, slots=True)
class _Phase:
    """Some epochs of one kind.

    Attributes:
        epochs: Passes.
        genuine_share: Of the genuine rows, drawn for each.
        learning_rate: Highest of the cycle over them.
        reads_past: Whether sequences are read, or the vector alone.
    """

    epochs: int
    genuine_share: float
    learning_rate: float
    reads_past: bool


class Loop:
    """Epochs of one fit; every process of it draws the same order and takes its part of a batch."""

    def __init__(
        self,
        network: SequenceNetwork,
        train: Examples,
        teacher: NDArray[np.float64] | None,
        plan: FitPlan,
        machine: Machine,
    ) -> None:
        self.network = network
        self._plan = plan
        self._machine = machine
        self._rng = np.random.default_rng((plan.seed, 3))
        self._is_fraud, self._teacher = train.is_fraud, teacher
        self._vectors = torch.from_numpy(train.vectors)
        self._sequences = torch.from_numpy(train.sequences)
        branch = _Phase(plan.branch_epochs, plan.branch_share, plan.branch_rate, reads_past=False)
        whole = _Phase(plan.epochs, plan.genuine_share, plan.learning_rate, reads_past=True)
        self._phases = [phase for phase in (branch, whole) if phase.epochs]
        self._done = 0
        self._begin(self._phases[0])

    @property
    def reads_past(self) -> bool:
        """Return whether the last epoch was one of the whole network."""
        return self._phase.reads_past

    def epoch(self) -> float:
        """Take one pass and return its mean loss."""
        if self._done == self._phases[0].epochs and len(self._phases) > 1:
            self._turn_to(self._phases[1])
        self.network.train()
        frauds, genuine = np.flatnonzero(self._is_fraud), np.flatnonzero(~self._is_fraud)
        drawn = self._rng.choice(genuine, self._drawn(self._phase), replace=False)
        order = self._rng.permutation(np.concatenate([frauds, drawn]))
        total = 0.0
        what = "all" if self._phase.reads_past else "the vector's branch"
        for begin in with_bar(range(0, len(order), self._plan.batch_rows), what):
            batch = order[begin : begin + self._plan.batch_rows]
            own = batch[self._machine.rank :: self._machine.ranks]
            # A last batch may be too small for all: then each takes all of it.
            total += self._step(torch.from_numpy(own if len(own) else batch)) * len(batch)
        self._done += 1
        return total / len(order)

    def state(self) -> dict[str, Any]:
        """Return all that the next epoch depends on."""
        return {
            "done": self._done,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "order": _plain(self._rng.bit_generator.state),
            "chance": self._machine.chance(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where `state` was returned."""
        self._done = int(state["done"])
        if self._done > self._phases[0].epochs:
            self._begin(self._phases[1])
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._rng.bit_generator.state = _number(state["order"])
        self._machine.restore_chance(state["chance"])

    def _drawn(self, phase: _Phase) -> int:
        return round(phase.genuine_share * int((~self._is_fraud).sum()))

    def _begin(self, phase: _Phase) -> None:
        self._phase = phase
        self.network.prior_shift.fill_(math.log(phase.genuine_share))
        self._loss = self._machine.joined(_Loss(self.network, reads_past=phase.reads_past))
        self._wanted = Targets.of(
            self._is_fraud, self._teacher, phase.genuine_share, self._plan.taught_share
        ).wanted
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=phase.learning_rate, weight_decay=self._plan.weight_decay
        )
        rows = self._drawn(phase) + int(self._is_fraud.sum())
        steps = phase.epochs * math.ceil(rows / self._plan.batch_rows)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, phase.learning_rate, total_steps=max(steps, 2)
        )

    def _turn_to(self, phase: _Phase) -> None:
        """Go on with another sample: what was learned of its odds is put right at once."""
        shift = math.log(self._phase.genuine_share / phase.genuine_share)
        with torch.no_grad():
            self.network.head.bias.add_(shift)
        self._begin(phase)

    def _step(self, rows: Tensor) -> float:
        placed = self._machine.placed
        self._optimiser.zero_grad()
        sequence = self._sequences[:0]
        if self._phase.reads_past:
            sequence = cut_histories(self._sequences[rows], self._plan.cut_share)
        with self._machine.mixed(self._plan.batch_rows // self._machine.ranks):
            loss = self._loss(
                placed(self._vectors[rows]), placed(sequence), placed(self._wanted[rows])
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach())


class _Loss(nn.Module):
    """The loss of a batch, as one module: gradients of several processes meet in its backward."""

    def __init__(self, network: SequenceNetwork, *, reads_past: bool) -> None:
        super().__init__()
        self.network = network
        self.reads_past = reads_past

    def forward(self, vector: Tensor, sequence: Tensor, wanted: Tensor) -> Tensor:
        if self.reads_past:
            logit = self.network.logit(vector, sequence)
        else:
            logit = self.network.branch_logit(vector)
        return functional.binary_cross_entropy_with_logits(logit.float(), wanted)


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
