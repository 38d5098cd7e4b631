"""What the scoring service counts of its decisions."""

from __future__ import annotations

from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry.spans import Telemetry
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.background.metrics import Observer


def observer() -> Observer:
    """Return one that exports nothing."""
    return Observer(Telemetry(TelemetrySettings(), "scoring"), cast("Any", None), "door")


def _counted(score_from: str) -> float:
    name = "fraud_scored_decisions_total"
    return REGISTRY.get_sample_value(name, {"score_from": score_from}) or 0.0


@pytest.mark.parametrize(
    ("score", "score_from"),
    [(0.0, "0.0"), (0.0049, "0.0"), (0.005, "0.005"), (0.29, "0.1"), (0.3, "0.3"), (1.0, "0.3")],
)
def test_decision_is_counted_in_the_bin_of_its_score(score: float, score_from: str) -> None:
    """A bin begins with its lower end; six bins say how scores are spread."""
    before = _counted(score_from)

    observer().count([Decision(score=score)])

    assert _counted(score_from) == before + 1


def test_stand_in_decision_is_in_no_bin() -> None:
    """The model did not score it: its 0 would look like a harmless transaction."""
    before = _counted("0.0")

    observer().count([Decision(stand_in=True)])

    assert _counted("0.0") == before
