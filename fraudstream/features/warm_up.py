"""Compile the kernels before readiness is said, so that no request waits for it."""

from __future__ import annotations

import numpy as np

from fraudstream.features import card_kernel, entity_kernel
from fraudstream.features.state import CARD_STATE, ROW


def warm_up() -> None:
    """Run every kernel once. Takes seconds without a cache, milliseconds with one."""
    one = np.zeros(1, np.int64)
    card_kernel.advance_cards(
        np.zeros(1, CARD_STATE), one, np.zeros(1, ROW), card_kernel.empty_outputs(1), one
    )
    entity_kernel.warm_up()


if __name__ == "__main__":
    warm_up()
