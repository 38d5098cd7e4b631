"""Learn how cardholders spend from transactions without labels, before the few with.

Fields of some steps are hidden (amount, kind, channel, merchant code), and the encoder says from
the rest what they were: an LSTM from what came before, a transformer from both sides. When and at
which hour stays to be seen. Only the encoder's weights are kept. Axes: B rows, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.dataset import Examples
from training.learning.bars import with_bar
from training.learning.machine import this_machine
from training.models.inputs import AGAINST_LAST, CHANNELS, KINDS
from training.models.network import SequenceNetwork
from training.models.plan import FitPlan, PretrainPlan
from training.models.scaling import AMOUNT, CHANNEL, KIND

Report = Callable[[str], None]
_REPORTS = 4  # lines an epoch


def pretrain(
    network: SequenceNetwork,
    unlabelled: Examples,
    plan: PretrainPlan,
    fit: FitPlan,
    report: Report,
) -> None:
    """Let a network's encoder learn from masked fields.

    Args:
        network: It is changed.
        unlabelled: Transactions up to the end of the training range; labels are not looked at.
        plan: How.
        fit: Seed and threads.
        report: Told how it goes.
    """
    rng = np.random.default_rng((fit.seed, 5))
    drawn = rng.permutation(len(unlabelled))[: plan.rows]
    sequences = torch.from_numpy(unlabelled.sequences[drawn])
    machine = this_machine(fit.threads)
    torch.manual_seed(fit.seed)
    task = _MaskedFields(network.to(machine.device), plan.masked_share)
    task.to(machine.device).train()
    optimiser = torch.optim.AdamW(task.parameters(), lr=plan.learning_rate)
    steps = math.ceil(len(drawn) / plan.batch_rows)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.learning_rate, total_steps=max(2, steps * plan.epochs)
    )
    for epoch in range(plan.epochs):
        order = torch.from_numpy(rng.permutation(len(drawn)))
        total = 0.0
        for step in with_bar(range(steps), "pre-training"):
            rows = order[step * plan.batch_rows : (step + 1) * plan.batch_rows]
            optimiser.zero_grad()
            with machine.mixed(plan.batch_rows):
                loss = task(machine.placed(sequences[rows]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
            if (step + 1) % max(1, steps // _REPORTS) == 0:
                report(
                    f"pre-training {epoch + 1}/{plan.epochs}, step {step + 1}/{steps}:"
                    f" loss {total / (step + 1):.4f}"
                )
    network.cpu()


class _MaskedFields(nn.Module):
    """Says from each step's state what its hidden fields were."""

    def __init__(self, network: SequenceNetwork, masked_share: float) -> None:
        super().__init__()
        self.network = network
        self.masked_share = masked_share
        hidden, buckets = network.shape.hidden, network.shape.mcc_buckets
        self.amount = nn.Linear(hidden, 1)
        self.kind = nn.Linear(hidden, KINDS)
        self.channel = nn.Linear(hidden, CHANNELS)
        self.mcc = nn.Linear(hidden, buckets)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the mean loss over hidden fields of steps that are no padding."""
        inputs = self.network.inputs
        present, ago = inputs.present(sequence), inputs.ago(sequence)
        steps = inputs.steps(sequence)
        is_masked = (torch.rand_like(present) < self.masked_share) & (present > 0)  # [B, T]
        states = self.network.encoder.states(self._hidden(steps, is_masked), present, ago)
        asked = states[is_masked]  # [M, H]
        wanted = sequence[is_masked]  # [M, C]
        amounts = (torch.log(1.0 + wanted[:, AMOUNT]) - inputs.amount_mean) / inputs.amount_spread
        codes = inputs.mcc_buckets(sequence)[is_masked]
        return (
            functional.smooth_l1_loss(self.amount(asked)[:, 0].float(), amounts)
            + _named(self.kind(asked), wanted[:, KIND])
            + _named(self.channel(asked), wanted[:, CHANNEL])
            + functional.cross_entropy(self.mcc(asked).float(), codes)
        )

    @staticmethod
    def _hidden(steps: Tensor, is_masked: Tensor) -> Tensor:
        """Return the steps without the hidden fields: amount, kind, channel and merchant code.

        How an amount compares with the last one is hidden in every step: it would tell the last.
        """
        shown = torch.zeros(steps.shape[2], device=steps.device)
        shown[2:6] = 1.0  # age, gap and hour
        kept = torch.where(is_masked.unsqueeze(2), steps * shown, steps)
        against = torch.ones(steps.shape[2], device=steps.device)
        against[AGAINST_LAST] = 0.0
        return kept * against


def _named(logits: Tensor, numbers: Tensor) -> Tensor:
    known = numbers.to(torch.int64).clamp(0, logits.shape[1] - 1)
    return functional.cross_entropy(logits.float(), known)
