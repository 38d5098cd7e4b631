"""Parts of a gRPC door without servers, and transactions on their way to it."""

from __future__ import annotations

from typing import Any, cast

from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry.spans import Telemetry
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.money import indicative_rate_table
from services.scoring.authorise.intake import Arrival, Caller, Reception
from services.scoring.authorise.pipeline import FrontDoor
from services.scoring.background.metrics import Observer
from services.scoring.decision.maker import DecisionMaker, Judge
from services.scoring.decision.rules_follower import RulesInForce, load_rule_set
from services.scoring.shards.seal import Seal
from tests.worlds.scoring_world import some_transaction
from tests.worlds.trust import RULES_FILE


class NoShadows:
    """No challenger."""

    def add(self, _: object) -> None:
        """Score nothing."""


def maker_of(judge: Judge) -> DecisionMaker:
    """Return what decides by the tests' rules."""
    rules = RulesInForce(load_rule_set(RULES_FILE))
    return DecisionMaker(judge, rules, Seal(None, epoch_ms), epoch_us, "test")


def front_door(judge: Judge, features: object, records: object) -> FrontDoor:
    """Return a door that needs no server."""
    shadows = cast("Any", NoShadows())
    observer = Observer(Telemetry(TelemetrySettings(), "scoring"), shadows, "door")
    return FrontDoor(maker_of(judge), observer, cast("Any", features), cast("Any", records))


def arrivals_of(numbers: range) -> list[Arrival]:
    """Return checked transactions."""
    reception = Reception(None, indicative_rate_table(), 1, 0.0, TimeBounds(), epoch_ms)
    return [reception.receive(some_transaction(n), Caller(True, None)) for n in numbers]
