"""Card numbers sealed by a bank, so that no broker's disk holds one in clear.

What is sealed is a short text: form, bank, transaction and number, a line each. Who takes a box out
of one record can put it under no other transaction and no other bank. The box is libsodium's
`crypto_box_seal` (X25519, XSalsa20, Poly1305), which every language has.

    from fraudstream.sealed_pan import seal_pan

    sealed = seal_pan(public_key, "bank-north", "t-1", pan)
    record |= sealed.json_fields()

Needs PyNaCl; about 75 µs each.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from nacl.public import PublicKey, SealedBox

# 48 bytes of the box, and the longest ids and number with room to spare: more is no card number,
# and is refused before it costs anything.
MAX_BOX_BYTES: Final = 512
_FORM: Final = "fraudstream-pan-1"


@dataclass(frozen=True, slots=True)
class SealedPan:
    """A sealed card number, for the fields of these names.

    Attributes:
        pan_sealed: The box; base64 in JSON.
        pan_key_id: Id of the public key that it is sealed to.
    """

    pan_sealed: bytes
    pan_key_id: str

    def json_fields(self) -> dict[str, str]:
        """Return both fields as JSON has them."""
        return {
            "pan_sealed": base64.b64encode(self.pan_sealed).decode(),
            "pan_key_id": self.pan_key_id,
        }


def key_id_of(public_key: bytes) -> str:
    """Return the id of an X25519 public key: the first 8 bytes of its SHA-256, hexadecimal.

    >>> key_id_of(bytes(32))
    '66687aadf862bd77'
    """
    return hashlib.sha256(public_key).hexdigest()[:16]


def seal_pan(public_key: bytes, bank_id: str, transaction_id: str, pan: str) -> SealedPan:
    """Seal a card number for one transaction of one bank.

    Args:
        public_key: Ingest's, 32 bytes.
        bank_id: As in the record.
        transaction_id: As in the record.
        pan: Digits only.

    >>> from nacl.public import PrivateKey
    >>> key = PrivateKey.generate()
    >>> sealed = seal_pan(bytes(key.public_key), "bank", "t-1", "4" + "0" * 14 + "2")
    >>> SealedBox(key).decrypt(sealed.pan_sealed).split()[:3]
    [b'fraudstream-pan-1', b'bank', b't-1']
    """
    text = f"{_FORM}\n{bank_id}\n{transaction_id}\n{pan}".encode()
    box = SealedBox(PublicKey(public_key)).encrypt(text)
    return SealedPan(box, key_id_of(public_key))


def number_of(text: bytes, bank_id: str, transaction_id: str) -> str | None:
    r"""Return the card number of an opened box; None where it was not sealed for this transaction.

    >>> number_of(b"fraudstream-pan-1\nbank\nt-1\n400000", "bank", "t-1")
    '400000'
    """
    # JSON may hold halves of a character, which UTF-8 has not.
    head = f"{_FORM}\n{bank_id}\n{transaction_id}\n".encode(errors="surrogatepass")
    if not text.startswith(head):
        return None
    return text[len(head) :].decode(errors="replace")
