"""What both doors are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fraudstream.store.shard_store import StateStore
from fraudstream.v1.decision_pb2 import Decision, StageTimings
from services.scoring.after.metrics import Observer
from services.scoring.after.shadow_scorer import ShadowScorer
from services.scoring.decision.rules_follower import RulesInForce
from services.scoring.inference.model_scorer import Judge
from services.scoring.publishing.publisher import Publisher
from services.scoring.shards.seal import Seal


@dataclass(frozen=True, slots=True)
class DoorParts:
    """What a door needs to decide, record, publish and be observed.

    Attributes:
        judge: Makes verdicts.
        shadows: Takes what was decided, for the models that decide nothing.
        rules: Give them their actions.
        store: Records them.
        seal: Seals them for it.
        publisher: Publishes them.
        observer: Counts them.
        clock_us: Epoch microseconds.
        cpu_class: What kind of processor computes the scores.
        partitions: Of the accepted topic: the number of card shards.
        sample_ratio: Share of new traces that are kept.
    """

    judge: Judge
    shadows: ShadowScorer
    rules: RulesInForce
    store: StateStore
    seal: Seal
    publisher: Publisher
    observer: Observer
    clock_us: Callable[[], int]
    cpu_class: str
    partitions: int
    sample_ratio: float

    def template(self, feature_set_hash: str, sequence_hash: str, started_us: int) -> Decision:
        """Return the fields that all decisions of one call have in common."""
        return Decision(
            feature_set_hash=feature_set_hash,
            sequence_hash=sequence_hash,
            cpu_class=self.cpu_class,
            timings=StageTimings(scoring_started_us=started_us),
        )
