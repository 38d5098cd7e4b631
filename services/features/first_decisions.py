"""The first decision of every identity of a shard, as `decisions.made.v1` has them.

A record's life is counted to when the shard stood still, not to now: after a long stop the unread
rows find the records that they would have found without it, and have a whole life to find them in.

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
        stands_ms: When the shard stood still, epoch milliseconds; may be set later.
    """

    def __init__(self, log: Log, partition: int, stands_ms: int) -> None:
        self._log = log
        self._partition = partition
        self.stands_ms = stands_ms
        self._kept: dict[bytes, bytes] = {}
        self._unsent: set[bytes] = set()
        self.applied_offset = 0

    def __len__(self) -> int:
        """Return how many identities have a decision."""
        return len(self._kept)

    def take(self, made: Sequence[MadeDecision]) -> None:
        """Take note of decisions, in log order: the first of each identity counts."""
        for each in made:
            self._look_at_offset(each.decision)
            if each.identity in self._kept:
                continue
            self._kept[each.identity] = _kept_of(each)
            if not each.decision.HasField("coordinates"):
                self._unsent.add(each.identity)

    def records(self, made: Sequence[MadeDecision], names: ShardKeys) -> list[StoredValue]:
        """Return the records of those that are first decisions, where they are still to live.

        Args:
            made: Decisions in log order, of which note was taken.
            names: Keys of the shard.
        """
        firsts = (each for each in made if self._kept.get(each.identity) == _kept_of(each))
        values = (
            StoredValue(
                names.record(each.identity),
                each.decision.digest + each.value,
                self.life_s(each.time_ms),
            )
            for each in firsts
        )
        return [value for value in values if value.life_s > 0]

    def see_accepted(self, identity: bytes, digest: bytes) -> None:
        """Take note of an accepted row."""
        if identity in self._unsent and self.digest_of(identity) == digest:
            self._unsent.discard(identity)

    def unsent(self) -> set[bytes]:
        """Return the recorded identities that came by gRPC and have no accepted row yet."""
        return {identity for identity in self._unsent if self._record_life_s(identity) > 0}

    def digest_of(self, identity: bytes) -> bytes | None:
        """Return the digest that was decided first, None for an identity without a decision."""
        kept = self._kept.get(identity)
        return None if kept is None else kept[:DIGEST_BYTES]

    def is_recorded(self, identity: bytes) -> bool:
        """Tell whether the decision's record lives long enough for the stream to find it."""
        return identity in self._kept and self._record_life_s(identity) > _MARGIN_S

    def life_s(self, time_ms: int) -> int:
        """Return how long a record or claim of some time is still to live; below 1 it is gone."""
        return RECORD_LIFE_S - max(0, self.stands_ms - time_ms) // 1000

    def _record_life_s(self, identity: bytes) -> int:
        time_ms: int = _KEPT.unpack(self._kept[identity])[1]
        return self.life_s(time_ms)

    def _look_at_offset(self, decision: Decision) -> None:
        """Take note of the marker's `next` that a row of this log was decided at."""
        at = decision.coordinates
        if at.topic_id == self._log.topic_id and at.partition == self._partition:
            self.applied_offset = max(self.applied_offset, decision.freshness.applied_offset)


def _kept_of(made: MadeDecision) -> bytes:
    return _KEPT.pack(made.decision.digest, made.time_ms)
