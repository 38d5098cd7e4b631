"""What a shard's marker says of it: open, lost and to be rebuilt, or not this worker's to touch."""

from __future__ import annotations

from enum import StrEnum

from fraudstream.errors import FeatureSpecMismatch, ShardClosed
from fraudstream.store.shard import Marker, ShardRef
from fraudstream.topics import topic_id_of


class LossReason(StrEnum):
    """Why a shard is closed until it is rebuilt; a label of metrics."""

    STORE_EMPTY = "store_empty"
    ANOTHER_PRIMARY = "another_primary"
    LOG_MADE_ANEW = "log_made_anew"
    LOG_WIDENED = "log_widened"
    LOG_CUT = "log_cut"
    STOOD_STILL = "stood_still"

    @property
    def text(self) -> str:
        """What happened, and what it means, in words."""
        return _TEXTS[self]


_TEXTS = {
    LossReason.STORE_EMPTY: "the store lost its content: it has no marker, but the log was read",
    LossReason.ANOTHER_PRIMARY: "another primary took over, which may lack the last writes",
    LossReason.LOG_MADE_ANEW: "its topic was made again: what the old one held and the new one"
    " does not is gone from the states; decisions are restored from decisions.made.v1",
    LossReason.LOG_WIDENED: "its topic was given more partitions: cards and entities moved here",
    LossReason.LOG_CUT: "its log ends before what was applied: the broker lost records",
    LossReason.STOOD_STILL: "it stood still for longer than its decision records are sure to live:"
    " they are restored from decisions.made.v1",
}


class ShardLost(ShardClosed):
    """A shard is closed until its owner has rebuilt it.

    Attributes:
        reason: Why.
    """

    def __init__(self, shard: ShardRef, reason: LossReason) -> None:
        """Keep the reason beside a message."""
        super().__init__(f"shard {shard.role}{shard.partition} is closed: {reason.text}")
        self.reason = reason


def loss_of(shard: ShardRef, marker: Marker) -> LossReason | None:
    """Return what a marker says was lost, None for a shard that is open.

    Args:
        shard: The shard by the log and layout that this worker knows.
        marker: Its marker.

    Raises:
        FeatureSpecMismatch: It has another layout. Such a shard is never rebuilt unasked: two
            releases would fight over it.
    """
    if marker.layout != shard.layout:
        msg = (
            f"shard {shard.role}{shard.partition} has layout {marker.layout}, this release has"
            f" {shard.layout}: run `fraudstream features rebuild` of the release that shall"
            " go on, and start its workers"
        )
        raise FeatureSpecMismatch(msg)
    if marker.incarnation != shard.incarnation:
        is_same_topic = topic_id_of(marker.incarnation) == topic_id_of(shard.incarnation)
        return LossReason.LOG_WIDENED if is_same_topic else LossReason.LOG_MADE_ANEW
    return None if marker.primary == marker.serving else LossReason.ANOTHER_PRIMARY
