"""How to fit a network."""

from __future__ import annotations

from dataclasses import dataclass


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

    branch_epochs: int = 0
    branch_share: float = 0.5
    branch_rate: float = 2e-3
    epochs: int = 8
    batch_rows: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    genuine_share: float = 1.0
    cut_share: float = 0.7
    taught_share: float = 0.5
    patience: int = 3
    seed: int = 1
    threads: int = 1


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

    rows: int = 50_000
    epochs: int = 1
    batch_rows: int = 128
    learning_rate: float = 2e-3
    masked_share: float = 0.3
