"""Random kills of every process, while librdkafka sends what banks send."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from harness.servers import Broker, ValkeyServer, lacking_for_kafka
from harness.settings import MachineSettings
from tests.outside.disturbed.chaos import Plan, run

_RECORDS = 3_000
_KILLS = 8


@pytest.fixture
def chaos_broker(request: pytest.FixtureRequest, machine: MachineSettings) -> Broker:
    """Apache Kafka where this machine has it, else the embedded broker."""
    name = "broker" if lacking_for_kafka(machine) else "kafka_broker"
    found: Broker = request.getfixturevalue(name)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_kills_lose_nothing_and_repeat_nothing(
    chaos_broker: Broker, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Whatever is killed when: one decision each, its alert, its archived rows, and parity."""
    plan = Plan(_RECORDS, _KILLS, every_s=4.0, seed=secrets.randbelow(1 << 31))

    outcome = run(plan, chaos_broker, valkey, tmp_path / "line")

    assert outcome.findings == [], f"seed {plan.seed}: {outcome}"
    assert sum(outcome.killed.values()) == _KILLS
