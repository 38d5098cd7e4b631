"""Time to the same validation AP: a plain PyTorch loop against our fit, the same network for both.

The rows are the training week of the Handbook's first validation fold (67,000), the judge its test
week. Both begin with the rows in memory and fit the network's scaling to them; both have two
threads. Who is asked for its AP is not on the clock. The plain loop is asked ten times an epoch,
ours after each epoch in which sequences are read. Each round has a seed of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from loadtest.bench.cpu import spent
from loadtest.bench.figure import (
    MeasurementFailed,
    Plan,
    Sample,
    Side,
    Sides,
    experiment,
    ratio,
)
from loadtest.figures.handbook import handbook_path, lacking_for_handbook
from loadtest.figures.table import figure
from training.dataset import examples_between
from training.evaluation.folds import handbook_folds
from training.learning.fit import new_network, raw_scores
from training.learning.loop import Loop
from training.learning.machine import this_machine
from training.metrics import average_precision
from training.models.network import SequenceNetwork
from training.simulator.histories import handbook_history
from training.train.config import CONFIGS, Override, TrainConfig, load_config
from training.train.slices import Slices, fold_slices

TARGET_AP: Final = 0.755  # both come within 0.006 above it, and stay there
_THREADS: Final = 2
_US_PER_S: Final = 1e6


@experiment(
    figure("train_vs_plain", ratio("plain", "ours", "cpu_s")),
    needs=(lacking_for_handbook,),
)
def train_vs_plain(plan: Plan) -> Iterator[Sides]:
    """Replay the history once; a smaller scale takes a lower AP, to try the sides out."""
    fold = handbook_folds("validation")[0]
    history = handbook_history(handbook_path(plan.machine))
    kept = examples_between(history, fold.train_from_ms, fold.test_until_ms)
    slices = fold_slices(kept, fold)
    config = Override(threads=_THREADS).applied(load_config(CONFIGS / "lstm.toml"))
    target = TARGET_AP * min(1.0, plan.scale)
    yield {
        "plain": _side(_fit_plainly, slices, config, target),
        "ours": _side(_fit_ours, slices, config, target),
    }


class _Judge:
    """Asks for the AP, off the clock, and says whether it is enough."""

    def __init__(self, slices: Slices, target: float) -> None:
        self._test, self._target = slices.test, target
        self.ap = self.cpu_s = self.wall_s = 0.0

    def __call__(self, network: SequenceNetwork) -> bool:
        took = spent(partial(self._ask, network), 1)
        self.cpu_s += took["cpu_us"] / _US_PER_S
        self.wall_s += took["wall_us"] / _US_PER_S
        return self.ap >= self._target

    def _ask(self, network: SequenceNetwork) -> None:
        self.ap = average_precision(raw_scores(network, self._test), self._test.is_fraud)
        network.train()


Fit = Callable[[Slices, TrainConfig, _Judge], None]


def _side(fit: Fit, slices: Slices, config: TrainConfig, target: float) -> Side:
    rounds = iter(range(1, 1_000))

    def run() -> Sample:
        seeded = Override(seed=next(rounds), threads=_THREADS).applied(config)
        judge = _Judge(slices, target)
        took = spent(lambda: fit(slices, seeded, judge), 1)
        if judge.ap < target:
            raise MeasurementFailed(f"expected AP {target:.4f}, reached {judge.ap:.4f}")
        return {
            "cpu_s": took["cpu_us"] / _US_PER_S - judge.cpu_s,
            "wall_s": took["wall_us"] / _US_PER_S - judge.wall_s,
            "ap": judge.ap,
        }

    return run


def _fit_plainly(slices: Slices, config: TrainConfig, is_enough: _Judge) -> None:
    """Fit in fp32 as PyTorch's tutorials do, asked after every tenth of an epoch; ten at most."""
    torch.set_num_threads(_THREADS)
    train, seed = slices.whole, config.fit.seed
    network = new_network(train, config.shape(train.vectors.shape[1]), seed)
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


def _fit_ours(slices: Slices, config: TrainConfig, is_enough: _Judge) -> None:
    train, plan = slices.whole, config.fit
    machine = this_machine(plan.threads)
    network = new_network(train, config.shape(train.vectors.shape[1]), plan.seed)
    loop = Loop(network, train, None, plan, machine)
    for _ in range(plan.branch_epochs + plan.epochs):
        loop.epoch()
        if loop.reads_past and is_enough(network):
            return
