"""Seals of recorded decisions: by one, scoring knows a decision in the store for its own. Pure.

The store's card shards are shared with the features service, so a record there may be anybody's
who has that service's login. A seal is the last field of the serialised `Decision`: the id of the
key, and HMAC-SHA-256 over identity, digest and all bytes before the field, cut to 128 bits. It
travels with the decision to the log and back from there, so whoever restores a record needs no key.

Only scoring holds the key (`scoring.store.json`). Cost: 3 µs of CPU for an ordinary decision
(1.4 kB) to seal it, 3.5 to check it; 33 to check one without a seal.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from fraudstream.broker.messages import NotOurs, read_message
from fraudstream.broker.wire.record_keys import KeyFile
from fraudstream.store.shard_store import OUTAGE_LONGEST_S, RECORD_LIFE_S
from fraudstream.transaction.identity import Identity, decision_id_of
from fraudstream.v1.decision_pb2 import Decision

_MAC_BYTES: Final = 16
_DOMAIN: Final = b"fraudstream decision record\0"
# Unsealed records of an older release live so long at most: a stop's time is added to their life.
_UNSEALED_LIFE_MS: Final = (RECORD_LIFE_S + OUTAGE_LONGEST_S) * 1000


class Seal:
    """Seals decisions, and tells those of scoring from others.

    Args:
        keys: Scoring's keys for the store; None on loopback, where nothing is sealed.
        clock_ms: Epoch milliseconds.
    """

    def __init__(self, keys: KeyFile | None, clock_ms: Callable[[], int]) -> None:
        # Of each key: what stands before its MACs, and a keyed state to copy.
        self._keys = {
            name: (_head_of(name), hmac.new(secret, _DOMAIN, "sha256"))
            for name, secret in (keys.keys if keys else {}).items()
        }
        self._active = self._keys[keys.active] if keys else None
        required_from_ms = keys.required_from_ms if keys else 0
        self._unsealed_until_ms = required_from_ms and required_from_ms + _UNSEALED_LIFE_MS
        self._clock_ms = clock_ms

    def sealed(self, identity: bytes, digest: bytes, decision: bytes) -> bytes:
        """Return a serialised decision without a seal with one.

        >>> from fraudstream.broker.wire.record_keys import KeyFile
        >>> seal = Seal(KeyFile("k1", {"k1": bytes(32)}), lambda: 0)
        >>> value = seal.sealed(bytes(16), bytes(32), Decision(score=0.5).SerializeToString())
        >>> Decision.FromString(value).seal[:2], seal.is_true(bytes(16), bytes(32), value)
        (b'k1', True)
        """
        if self._active is None:
            return decision
        head, keyed = self._active
        return b"".join((decision, head, _mac(keyed, identity, digest, decision)))

    def is_true(self, identity: bytes, digest: bytes, value: bytes) -> bool:
        """Return whether scoring recorded this for an identity and digest.

        What has no seal passes where there are no keys, and after an upgrade as long as records of
        before live: if its form and every field hold, and it is about that identity.
        """
        end = len(value) - _MAC_BYTES
        for head, keyed in self._keys.values():
            begin = end - len(head)
            if begin >= 0 and value.startswith(head, begin):
                mac = _mac(keyed, identity, digest, value[:begin])
                return hmac.compare_digest(mac, value[end:])
        return self._is_unsealed_one(identity, digest, value)

    def _is_unsealed_one(self, identity: bytes, digest: bytes, value: bytes) -> bool:
        now_ms = self._clock_ms()
        if self._active is not None and now_ms >= self._unsealed_until_ms:
            return False
        try:
            decision = read_message(Decision, value, now_ms)
        except NotOurs:
            return False
        if self._active is not None and decision.seal:
            return False  # of no key that is here
        of_decision = (decision.decision_id, decision.digest)
        return of_decision == (decision_id_of(Identity(identity)), digest)


def _head_of(key_id: str) -> bytes:
    # Appended as `replayed` is: nothing is parsed or serialised again.
    return Decision(seal=key_id.encode() + bytes(_MAC_BYTES)).SerializeToString()[:-_MAC_BYTES]


def _mac(keyed: hmac.HMAC, identity: bytes, digest: bytes, decision: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(identity + digest)  # of fixed lengths: 16 and 32 bytes
    mac.update(decision)
    return mac.digest()[:_MAC_BYTES]
