"""Fit the sequence model: every fraud, a fresh sample of genuine rows each epoch, early stop.

Sampling changes the prevalence, so its logarithm goes back into the graph: raw scores are odds at
the true prevalence already, and calibration only corrects their shape. Axes: N rows, B of a batch.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.dataset import Examples, content_hash
from training.learning.checkpoint import Checkpoints
from training.learning.lesson import Lesson
from training.learning.loop import Loop
from training.learning.machine import this_machine
from training.metrics import average_precision
from training.models.fit_scaling import fit_scaling
from training.models.network import SequenceNetwork
from training.models.plan import FitPlan
from training.models.scaling import NetworkShape

Report = Callable[[str], None]
_SCORED_AT_ONCE = 2_048


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted network, and how many epochs gave the best AP on the later slice."""

    network: SequenceNetwork
    epochs: int


def new_network(train: Examples, shape: NetworkShape, seed: int) -> SequenceNetwork:
    """Return a network with fresh weights and the scaling of some rows."""
    torch.manual_seed(seed)
    scaling = fit_scaling(train.vectors, train.sequences, train.is_fraud, shape)
    return SequenceNetwork(shape, scaling)


def fit_network(
    lesson: Lesson,
    shape: NetworkShape,
    plan: FitPlan,
    report: Report,
    prepare: Callable[[SequenceNetwork], None] | None = None,
) -> Fitted:
    """Fit a network; with a later slice keep the epoch that ranks it best.

    The same arguments give the same network on the same kind of machine, also where the fit was
    ended in between and went on from its folder.

    Args:
        lesson: What to learn from.
        shape: Of the network.
        plan: How to fit.
        report: Told how it goes.
        prepare: Changes the fresh network first, as pre-training does.

    Raises:
        InvalidSettings: The folder holds the state of another fit.
    """
    network = new_network(lesson.train, shape, plan.seed)
    if prepare is not None:
        prepare(network)
    machine = this_machine(plan.threads)
    begins_as = _hash_of(network)
    loop = Loop(network.to(machine.device), lesson.train, lesson.teacher, plan, machine)
    run = _Run(loop, plan, lesson.later, report if machine.rank == 0 else _silently)
    kept = None
    if lesson.folder is not None:
        where = f"{machine.ranks} x {machine.device.type}"
        what = [shape, plan, where, begins_as, *_hashes_of(lesson)]
        kept = Checkpoints(lesson.folder, " ".join(map(str, what)))
        run.go_on(kept.load())
    return run.fit(kept if machine.rank == 0 else None)


def _hash_of(network: SequenceNetwork) -> str:
    """Return what tells a network's first weights from another's."""
    digest = hashlib.sha256()
    for name, weight in network.state_dict().items():
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()


def _hashes_of(lesson: Lesson) -> list[str]:
    """Return what tells a lesson's rows and teacher from another's."""
    rows = [content_hash(each) for each in (lesson.train, lesson.later) if each is not None]
    if lesson.teacher is not None:
        rows.append(hashlib.sha256(lesson.teacher.tobytes()).hexdigest())
    return rows


def raw_scores(network: SequenceNetwork, examples: Examples) -> NDArray[np.float64]:
    """Return the raw score of each example, float64 [N]."""
    network.eval()
    device = network.prior_shift.device
    parts = []
    with torch.no_grad():
        for begin in range(0, len(examples), _SCORED_AT_ONCE):
            rows = slice(begin, begin + _SCORED_AT_ONCE)
            vector = torch.from_numpy(examples.vectors[rows]).to(device)
            sequence = torch.from_numpy(examples.sequences[rows]).to(device)
            parts.append(network(vector, sequence).cpu().numpy())
    return np.concatenate([*parts, np.zeros(0, np.float32)]).astype(np.float64)


def _silently(_: str) -> None:
    """Report nothing: the first process does."""


class _Run:
    """The epochs of one fit."""

    def __init__(self, loop: Loop, plan: FitPlan, later: Examples | None, report: Report) -> None:
        self._loop = loop
        self._plan = plan
        self._later = later
        self._report = report
        self._done = 0
        self._best: SequenceNetwork | None = None
        self._best_ap = -1.0
        self._best_epoch = plan.epochs

    def go_on(self, state: dict[str, Any] | None) -> None:
        """Stand where an earlier run of the same fit stood."""
        if state is None:
            return
        self._loop.restore(state["loop"])
        self._done, self._best_ap = int(state["done"]), float(state["best_ap"])
        self._best_epoch = int(state["best_epoch"])
        if state["best"] is not None:
            self._best = copy.deepcopy(self._loop.network)
            self._best.load_state_dict(state["best"])
        self._report(f"goes on after epoch {self._done}")

    def fit(self, kept: Checkpoints | None) -> Fitted:
        """Take the epochs that are left."""
        while self._done < self._plan.epochs and not self._is_over():
            self._epoch()
            if kept is not None:
                kept.save(self._state())
        best = self._best or self._loop.network
        return Fitted(best.cpu().eval(), self._best_epoch)

    def _is_over(self) -> bool:
        has_best = self._best is not None
        return has_best and self._done - self._best_epoch >= self._plan.patience

    def _epoch(self) -> None:
        began = time.monotonic()
        loss = self._loop.epoch()
        spent = time.monotonic() - began
        if not self._loop.reads_past:
            self._report(f"the vector's branch alone: loss {loss:.4f} {spent:.1f} s")
            return
        self._done += 1
        left_s = spent * (self._plan.epochs - self._done)
        line = f"epoch {self._done}/{self._plan.epochs} loss {loss:.4f} {spent:.1f} s"
        line += f", at most {left_s:.0f} s more" if left_s else ""
        if self._later is None:
            self._report(line)
            return
        network = self._loop.network
        ap = average_precision(raw_scores(network, self._later), self._later.is_fraud)
        self._report(f"{line} AP on the later slice {ap:.4f}")
        if ap > self._best_ap:
            self._best, self._best_ap = copy.deepcopy(network), ap
            self._best_epoch = self._done

    def _state(self) -> dict[str, Any]:
        best = self._best.state_dict() if self._best is not None else None
        return {
            "loop": self._loop.state(),
            "done": self._done,
            "best": best,
            "best_ap": self._best_ap,
            "best_epoch": self._best_epoch,
        }
