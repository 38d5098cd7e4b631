"""What is warmed up is what is served: a kernel that compiles at a call makes its caller wait."""

from __future__ import annotations

import numpy as np

from fraudstream.features import kernel, shared_kernel
from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.codec import CARD_VALUE, unpack_values
from fraudstream.features.preview import preview_rows
from fraudstream.features.state import SHARED_STATE, pack_row
from fraudstream.features.warm_up import warm_up
from fraudstream.shard import AdmitOutcome, DoorAnswer
from fraudstream.shared_entities import SharedView
from tests.accepted_rows import transaction_of


def test_first_decision_compiles_nothing() -> None:
    """The door's arrays are of the kinds that the kernels were compiled for."""
    warm_up()
    compiled = [len(each.signatures) for each in (kernel._advance_cards, shared_kernel._read_all)]

    transaction = transaction_of("t-1")
    answer = DoorAnswer(AdmitOutcome.ADMITTED, b"", bytes(CARD_VALUE.itemsize), (), 0)
    shared = SharedView(
        unpack_values([None], SHARED_STATE), (0,), (0,), [{"": 0} for _ in SHARED_ENTITIES]
    )
    keys = [tuple("" for _ in SHARED_ENTITIES)]
    seen = preview_rows([answer], [pack_row(transaction)], keys, shared)

    assert np.isfinite(seen.vectors).any()
    after = [len(each.signatures) for each in (kernel._advance_cards, shared_kernel._read_all)]
    assert after == compiled
