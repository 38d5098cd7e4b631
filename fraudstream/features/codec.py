"""What the store holds of an entity, as bytes: a card's state beside its last decided vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import CATALOGUE
from fraudstream.features.state import CARD_STATE

CARD_VALUE: Final = np.dtype(
    [("state", CARD_STATE), ("decided_ms", "<i8"), ("vector", "<f4", (len(CATALOGUE),))]
)

# Kinds of state, as they stand in key names.
CARD: Final = "card"
TERMINAL: Final = "terminal"
LABEL: Final = "label"
VERDICT: Final = "verdict"


def unpack_values(values: Sequence[bytes | None], dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Return stored values as one writable array; what is missing or of another size is empty.

    >>> unpack_values([None, b"odd"], CARD_VALUE)["decided_ms"].tolist()
    [0, 0]
    """
    empty = bytes(dtype.itemsize)
    sized = [v if v is not None and len(v) == dtype.itemsize else empty for v in values]
    return np.frombuffer(bytearray(b"".join(sized)), dtype)


def terminal_key(bank_id: str, terminal_id: str) -> str:
    """Return the key of a terminal, empty for none.

    >>> terminal_key("bank", "t-1"), terminal_key("bank", "")
    ('bank/t-1', '')
    """
    return f"{bank_id}/{terminal_id}" if terminal_id else ""


def log_key(kind: str, entity_key: str) -> bytes:
    """Return the Kafka key of an entity's rows.

    >>> log_key("terminal", "bank/t-1")
    b'terminal:bank/t-1'
    """
    return f"{kind}:{entity_key}".encode()
