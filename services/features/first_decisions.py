"""The first decision of every identity of a shard, as `decisions.made.v1` has them.

Cost: about 250 bytes of memory for each decision that the topic still holds of the shard.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from fraudstream.identity import DIGEST_BYTES, Identity, identity_of
from fraudstream.shard import ShardKeys
from fraudstream.state_store import RECORD_LIFE_S, StoredValue
from fraudstream.v1.decision_pb2 import Decision
from services.features.logs import Log

_LOG: Final = logging.getLogger(__name__)

_KEPT: Final = struct.Struct(f"<{DIGEST_BYTES}sq")
# A record that has less than this left may be gone before the stream asks for it.
_MARGIN_S: Final = 3600


@dataclass(frozen=True, slots=True)
class MadeDecision:
    """One record of the decisions topic.

    Attributes:
        identity: Of its transaction.
        decision: The message.
        value: The same as it was published, which is as it was recorded.
        time_ms: When it was appended, epoch milliseconds.
    """

    identity: Identity
    decision: Decision
    value: bytes
    time_ms: int


def decode_decisions(lot: Sequence[Any]) -> list[MadeDecision]:
    """Decode records of the decisions topic; what scoring did not write is logged and skipped."""
    made = []
    for record in lot:
        try:
            decision = Decision.FromString(record.value or b"")
        except DecodeError:
            _LOG.error("record %d/%d is no decision", record.partition, record.offset)
            continue
        identity = identity_of(decision.bank_id, decision.card_token, decision.transaction_id)
        made.append(MadeDecision(identity, decision, record.value, record.timestamp))
    return made


class FirstDecisions:
    """Digest and time of the first decision of each identity, and how far the stream had come.

    Args:
        log: The accepted topic.
        partition: The shard's partition.
        now_ms: Epoch milliseconds.
    """

    def __init__(self, log: Log, partition: int, now_ms: int) -> None:
        self._log = log
        self._partition = partition
        self._now_ms = now_ms
        self._kept: dict[bytes, bytes] = {}
        self._unsent: set[bytes] = set()
        self.applied_offset = 0

    def __len__(self) -> int:
        """Return how many identities have a decision."""
        return len(self._kept)

    def take(self, made: Sequence[MadeDecision], names: ShardKeys) -> list[StoredValue]:
        """Keep the first decision of each identity; return the records that are still to live.

        Args:
            made: Decisions in log order.
            names: Keys of the shard.
        """
        records = []
        for each in made:
            self._look_at_offset(each.decision)
            if each.identity in self._kept:
                continue
            digest = each.decision.digest
            self._kept[each.identity] = _KEPT.pack(digest, each.time_ms)
            life_s = self._life_s(each.time_ms)
            if life_s > 0:
                key = names.record(each.identity)
                records.append(StoredValue(key, digest + each.value, life_s))
                if not each.decision.HasField("coordinates"):
                    self._unsent.add(each.identity)
        return records

    def see_accepted(self, identity: bytes, digest: bytes) -> None:
        """Take note of an accepted row."""
        if identity in self._unsent and self.digest_of(identity) == digest:
            self._unsent.discard(identity)

    def unsent(self) -> set[bytes]:
        """Return the recorded identities that came by gRPC and have no accepted row yet."""
        return self._unsent

    def digest_of(self, identity: bytes) -> bytes | None:
        """Return the digest that was decided first, None for an identity without a decision."""
        kept = self._kept.get(identity)
        return None if kept is None else kept[:DIGEST_BYTES]

    def is_recorded(self, identity: bytes) -> bool:
        """Tell whether the decision's record lives long enough for the stream to find it."""
        kept = self._kept.get(identity)
        return kept is not None and self._life_s(_KEPT.unpack(kept)[1]) > _MARGIN_S

    def _life_s(self, time_ms: int) -> int:
        return RECORD_LIFE_S - max(0, self._now_ms - time_ms) // 1000

    def _look_at_offset(self, decision: Decision) -> None:
        """Take note of the marker's `next` that a row of this log was decided at."""
        at = decision.coordinates
        if at.topic_id == self._log.topic_id and at.partition == self._partition:
            self.applied_offset = max(self.applied_offset, decision.freshness.applied_offset)
