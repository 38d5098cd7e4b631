"""What an analyst may say about an alert, in words, on the wire and in ids."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

from fraudstream.v1 import label_pb2


class Disposition(StrEnum):
    """What an alert turned out to be."""

    CONFIRMED_FRAUD = "confirmed_fraud"
    GENUINE = "genuine"
    UNDETERMINED = "undetermined"

    @property
    def words(self) -> str:
        """Return it as people read it.

        >>> Disposition.CONFIRMED_FRAUD.words
        'confirmed fraud'
        """
        return self.value.replace("_", " ")


WIRE: Final = {
    Disposition.CONFIRMED_FRAUD: label_pb2.DISPOSITION_CONFIRMED_FRAUD,
    Disposition.GENUINE: label_pb2.DISPOSITION_GENUINE,
    Disposition.UNDETERMINED: label_pb2.DISPOSITION_UNDETERMINED,
}


def label_id_of(alert_id: str, version: int) -> str:
    """Return the id of the label that a settlement makes: the same version always has the same.

    >>> label_id_of("a" * 32, 1) == label_id_of("a" * 32, 2)
    False
    """
    return hashlib.sha256(f"label/{alert_id}/{version}".encode()).hexdigest()[:32]
