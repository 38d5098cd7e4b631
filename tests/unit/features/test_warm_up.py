"""What is warmed up is what is served: a kernel that compiles at a call makes its caller wait."""

from __future__ import annotations

import numpy as np

from fraudstream.features import card_kernel, entity_kernel
from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.state import SHARED_STATE, pack_row
from fraudstream.features.stored_values import CARD_VALUE, unpack_values
from fraudstream.features.warm_up import warm_up
from fraudstream.store.entity_reader import SharedView
from fraudstream.store.shard import AdmitOutcome, DoorAnswer
from services.scoring.authorise.preview import preview_rows
from tests.worlds.accepted_rows import transaction_of


def test_first_decision_compiles_nothing() -> None:
    """The door's arrays are of the kinds that the kernels were compiled for."""
    warm_up()
    compiled = [
        len(each.signatures) for each in (card_kernel._advance_cards, entity_kernel._read_all)
    ]

    transaction = transaction_of("t-1")
    answer = DoorAnswer(AdmitOutcome.ADMITTED, b"", bytes(CARD_VALUE.itemsize), (), 0)
    shared = SharedView(
        unpack_values([None], SHARED_STATE), (0,), (0,), [{"": 0} for _ in SHARED_ENTITIES]
    )
    keys = [tuple("" for _ in SHARED_ENTITIES)]
    seen = preview_rows([answer], [pack_row(transaction)], keys, shared)

    assert np.isfinite(seen.vectors).any()
    after = [len(each.signatures) for each in (card_kernel._advance_cards, entity_kernel._read_all)]
    assert after == compiled
