"""Card numbers of corrected records: sealed before they are sent again, and judged as by ingest."""

from __future__ import annotations

import json
from typing import Final, Self

from nacl.public import PublicKey

from fraudstream.keys.box_keys import load_public_key
from fraudstream.sealed_pan import seal_pan
from fraudstream.transaction.json_form import field_of
from fraudstream.v1.transaction_pb2 import Transaction
from services.ingest.pan_opener import PanOpener, refuse_second
from services.ingest.settings import IngestSettings

_ANY_TOKEN: Final = f"k.{'0' * 32}"


class CorrectedPans:
    """Seals and judges the card numbers of corrected records.

    Args:
        public_key: To which a number in clear is sealed; None leaves it as it is.
        opener: Opens sealed ones, and refuses clear ones where sealed ones are required.
        has_keys: Whether the private keys are here.
    """

    def __init__(self, public_key: PublicKey | None, opener: PanOpener, has_keys: bool) -> None:
        self._public_key = public_key
        self._opener = opener
        self._has_keys = has_keys

    @classmethod
    def of(cls, settings: IngestSettings) -> Self:
        """Read the keys that the settings name.

        Raises:
            InvalidSettings: One cannot be read.
        """
        path, has_keys = settings.pan_public_key_file, settings.pan_private_keys is not None
        opener = (
            PanOpener.of(settings) if has_keys else PanOpener(None, settings.requires_sealed_pan)
        )
        return cls(load_public_key(path) if path else None, opener, has_keys)

    def seal(self, value: bytes) -> bytes:
        """Return a JSON record with its clear number sealed; what is no such record as it is."""
        try:
            fields = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if self._public_key is None or not isinstance(fields, dict):
            return value
        named = {field_of(name): content for name, content in fields.items()}
        pan, ids = named.get("pan"), (named.get("bank_id"), named.get("transaction_id"))
        if not isinstance(pan, str):
            return value
        sealed = seal_pan(bytes(self._public_key), str(ids[0]), str(ids[1]), pan).json_fields()
        return json.dumps({n: v for n, v in fields.items() if n != "pan"} | sealed).encode()

    def open(self, transaction: Transaction) -> None:
        """Put the number of a sealed box in its place; any token where no key is here.

        Raises:
            InvalidTransaction: Ingest would refuse the number or its box.
        """
        is_sealed = bool(transaction.pan_sealed or transaction.pan_key_id)
        if not is_sealed or self._has_keys:
            self._opener.open(transaction)
            return
        refuse_second(bool(transaction.pan or transaction.card_token))
        # Whether it opens is ingest's to find out; the rest is judged here.
        transaction.ClearField("pan_sealed")
        transaction.ClearField("pan_key_id")
        transaction.card_token = f"{transaction.bank_id}.{_ANY_TOKEN}"
