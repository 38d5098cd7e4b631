"""What the store holds of an entity: bytes, key, and how stored bytes are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import CATALOGUE, SHARED_ENTITIES, Entity
from fraudstream.features.state import CARD_STATE, is_sound
from fraudstream.v1.features_pb2 import EntityKind
from fraudstream.v1.transaction_pb2 import Transaction

# A card's state beside its last decided vector.
CARD_VALUE: Final = np.dtype(
    [("state", CARD_STATE), ("decided_ms", "<i8"), ("vector", "<f4", (len(CATALOGUE),))]
)

# Kinds of value, as they stand in key names, beside the shared entities' own.
CARD: Final = "card"
LABEL: Final = "verdict"

KIND_OF_ENTITY: Final = {
    Entity.CARD: EntityKind.ENTITY_KIND_CARD,
    Entity.CUSTOMER: EntityKind.ENTITY_KIND_CUSTOMER,
    Entity.TERMINAL: EntityKind.ENTITY_KIND_TERMINAL,
    Entity.MERCHANT: EntityKind.ENTITY_KIND_MERCHANT,
    Entity.DEVICE: EntityKind.ENTITY_KIND_DEVICE,
    Entity.IP: EntityKind.ENTITY_KIND_IP,
}
ENTITY_OF_KIND: Final = {kind: entity for entity, kind in KIND_OF_ENTITY.items()}

# The key of each shared entity that a transaction has, in the order of `SHARED_ENTITIES`.
EntityKeys = tuple[str, ...]


def unpack_values(values: Sequence[bytes | None], dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Return stored values as one writable array; what is missing or of another size is empty.

    >>> unpack_values([None, b"odd"], CARD_VALUE)["decided_ms"].tolist()
    [0, 0]
    """
    empty = bytes(dtype.itemsize)
    sized = [v if v is not None and len(v) == dtype.itemsize else empty for v in values]
    return np.frombuffer(bytearray(b"".join(sized)), dtype)


def empty_unsound(cards: npt.NDArray[np.void]) -> int:
    """Empty the card values whose state holds what no kernel of ours leaves there.

    Args:
        cards: `CARD_VALUE` [n], changed in place.

    Returns:
        How many there were.

    >>> empty_unsound(np.zeros(2, CARD_VALUE))
    0
    """
    sound = is_sound(cards["state"])
    if sound.all():
        return 0
    cards[~sound] = np.zeros(1, CARD_VALUE)
    return int((~sound).sum())


def entity_key(bank_id: str, entity_id: str) -> str:
    """Return the key of a shared entity of a bank, empty for none.

    >>> entity_key("bank", "t-1"), entity_key("bank", "")
    ('bank/t-1', '')
    """
    return f"{bank_id}/{entity_id}" if entity_id else ""


_FIELD_OF_ENTITY: Final = {
    Entity.CARD: "card_token",
    Entity.CUSTOMER: "customer_id",
    Entity.TERMINAL: "terminal_id",
    Entity.MERCHANT: "merchant_id",
    Entity.DEVICE: "device_id",
    Entity.IP: "ip",
}
SHARED_FIELDS: Final = tuple(_FIELD_OF_ENTITY[entity] for entity in SHARED_ENTITIES)


def entity_keys(transaction: Transaction) -> EntityKeys:
    """Return the keys of a transaction's shared entities, in the order of `SHARED_ENTITIES`.

    >>> keys = entity_keys(Transaction(bank_id="b", card_token="tok", terminal_id="t"))
    >>> dict(zip(SHARED_ENTITIES, keys, strict=True))[Entity.TERMINAL]
    'b/t'
    """
    bank = transaction.bank_id
    return tuple([entity_key(bank, getattr(transaction, field)) for field in SHARED_FIELDS])


def log_key(entity: Entity, key: str) -> bytes:
    """Return the Kafka key of an entity's rows, which also says in which shard its value lies.

    >>> log_key(Entity.TERMINAL, "bank/t-1")
    b'terminal:bank/t-1'
    """
    return f"{entity}:{key}".encode()
