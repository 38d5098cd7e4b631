"""The first decision of every identity of a shard, and which of their effects the logs lack.

A record's life is counted to when the shard stood still, not to now: after a long stop the unread
rows find the records that they would have found without it, and have a whole life to find them in.

Cost: about 250 bytes of memory for each decision that the topic still holds of the shard.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fraudstream.broker.messages import message_of
from fraudstream.broker.topic_info import Log
from fraudstream.store.shard import ShardKeys
from fraudstream.store.shard_store import RECORD_LIFE_S, StoredValue
from fraudstream.transaction.actions import needs_person
from fraudstream.transaction.identity import DIGEST_BYTES, Identity, identity_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Decision

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


def decode_decisions(chunk: Sequence[Any]) -> list[MadeDecision]:
    """Decode records of the decisions topic; what scoring did not write is logged and skipped."""
    made = []
    for record in chunk:
        decision = message_of(Decision, record)
        if decision is None:
            continue
        identity = identity_of(decision.bank_id, decision.card_token, decision.transaction_id)
        made.append(MadeDecision(identity, decision, record.value, record.timestamp))
    return made


def decode_alerts(chunk: Sequence[Any]) -> list[Identity]:
    """Return the identities that records of the alerts topic are about; skip what is no alert."""
    identities = []
    for record in chunk:
        alert = message_of(Alert, record)
        if alert is None:
            continue
        about = alert.decision
        identities.append(identity_of(about.bank_id, about.card_token, about.transaction_id))
    return identities


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
        self._unraised: set[bytes] = set()
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
            if needs_person(each.decision):
                self._unraised.add(each.identity)

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

    def see_alerts(self, identities: Iterable[Identity]) -> None:
        """Take note of decisions that have an alert."""
        self._unraised.difference_update(identities)

    def forgive_alerts(self, before_ms: int) -> None:
        """Ask for no alert of decisions so old that the log may have dropped theirs."""
        self._unraised = {i for i in self._unraised if self._time_ms(i) >= before_ms}

    def has_unraised(self) -> bool:
        """Return whether an alert of a recorded decision may be missing."""
        return any(self._record_life_s(identity) > 0 for identity in self._unraised)

    def unfinished(self, *, has_same_log: bool) -> set[bytes]:
        """Return the recorded identities that lack their accepted row or their alert.

        Args:
            has_same_log: The accepted topic is the one that their rows lay in; without it no row
                is missed, and what would bring its row along stays out.
        """
        lacking = self._unsent | self._unraised if has_same_log else self._unraised - self._unsent
        return {identity for identity in lacking if self._record_life_s(identity) > 0}

    def digest_of(self, identity: bytes) -> bytes | None:
        """Return the digest that was decided first, None for an identity without a decision."""
        kept = self._kept.get(identity)
        return None if kept is None else kept[:DIGEST_BYTES]

    def is_recorded(self, identity: bytes) -> bool:
        """Return whether the decision's record lives long enough for the stream to find it."""
        return identity in self._kept and self._record_life_s(identity) > _MARGIN_S

    def life_s(self, time_ms: int) -> int:
        """Return how long a record or claim of some time is still to live; below 1 it is gone."""
        return RECORD_LIFE_S - max(0, self.stands_ms - time_ms) // 1000

    def _record_life_s(self, identity: bytes) -> int:
        return self.life_s(self._time_ms(identity))

    def _time_ms(self, identity: bytes) -> int:
        time_ms: int = _KEPT.unpack(self._kept[identity])[1]
        return time_ms

    def _look_at_offset(self, decision: Decision) -> None:
        """Take note of the marker's `next` that a row of this log was decided at."""
        at = decision.coordinates
        if at.topic_id == self._log.topic_id and at.partition == self._partition:
            self.applied_offset = max(self.applied_offset, decision.freshness.applied_offset)


def _kept_of(made: MadeDecision) -> bytes:
    return _KEPT.pack(made.decision.digest, made.time_ms)
