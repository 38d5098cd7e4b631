"""How to fit a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

# Bounds are checked where a configuration is read.
Count = Annotated[int, Field(ge=1)]
Passes = Annotated[int, Field(ge=0, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=1 << 32)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How to fit.

    First the vector's branch alone may learn, without the card's past: a step costs a tenth of one
    that reads sequences, and most of what a vector tells is learned by then. Then all learns.

    Attributes:
        branch_epochs: Passes of the branch alone.
        branch_share: Share of the genuine rows drawn for each of them.
        branch_rate: Highest learning rate of their cycle.
        epochs: Passes of all at most; the learning rate rises and falls once over them.
        batch_rows: Rows of a step, over all processes.
        learning_rate: Highest of the cycle.
        weight_decay: Of AdamW.
        genuine_share: Share of the genuine rows drawn for each epoch.
        cut_share: Share of rows whose history is cut at a random step, so that a card cannot be
            learned by heart and a new one is nothing strange.
        taught_share: How far a teacher's score counts beside the label, where there is a teacher.
        patience: Epochs without a better AP on the later slice before stopping.
        seed: Of weights, order and samples.
        threads: Threads of PyTorch.
    """

    branch_epochs: Passes = 0
    branch_share: Rate = 0.5
    branch_rate: Rate = 2e-3
    epochs: Count = 8
    batch_rows: Count = 128
    learning_rate: Rate = 2e-3
    weight_decay: Share = 0.02
    genuine_share: Rate = 1.0
    cut_share: Share = 0.7
    taught_share: Share = 0.5
    patience: Count = 3
    seed: Seed = 1
    threads: Count = 1


@dataclass(frozen=True, slots=True)
class PretrainPlan:
    """How to learn from transactions without labels, before those with.

    Attributes:
        rows: Transactions that are drawn from those before the training range, and in it.
        epochs: Passes over them.
        batch_rows: Rows of a step.
        learning_rate: Highest of the cycle.
        masked_share: Share of steps whose fields are hidden.
    """

    rows: Count = 50_000
    epochs: Count = 1
    batch_rows: Count = 128
    learning_rate: Rate = 2e-3
    masked_share: Rate = 0.3
