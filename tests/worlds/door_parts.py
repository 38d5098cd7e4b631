"""Parts of a gRPC door without servers, and transactions on their way to it."""

from __future__ import annotations

from typing import Any, cast

from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry.spans import Telemetry
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.money import indicative_rate_table
from services.scoring.after.metrics import Observer
from services.scoring.after.shared_parts import DoorParts
from services.scoring.authorise.intake import Arrival, Caller, Reception
from services.scoring.decision.rules_follower import RulesInForce, load_rule_set
from services.scoring.inference.model_scorer import Judge
from services.scoring.shards.seal import Seal
from tests.worlds.scoring_world import some_transaction
from tests.worlds.trust import RULES_FILE


class NoShadows:
    """No challenger."""

    def add(self, _: object) -> None:
        """Score nothing."""


def door_parts(judge: Judge) -> DoorParts:
    """Return the parts that need no server."""
    return DoorParts(
        judge=judge,
        shadows=cast("Any", NoShadows()),
        rules=RulesInForce(load_rule_set(RULES_FILE)),
        store=cast("Any", None),
        seal=Seal(None, epoch_ms),
        publisher=cast("Any", None),
        observer=Observer(Telemetry(TelemetrySettings(), "scoring")),
        clock_us=epoch_us,
        cpu_class="test",
        partitions=1,
        sample_ratio=0.0,
    )


def arrivals_of(numbers: range) -> list[Arrival]:
    """Return checked transactions."""
    reception = Reception(None, indicative_rate_table(), 1, 0.0, TimeBounds(), epoch_ms)
    return [reception.receive(some_transaction(n), Caller(True, None)) for n in numbers]
