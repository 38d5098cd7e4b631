"""Calls by grpc-js while a server hangs: an answer in time, and the same one again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.servers import ApacheKafka, ValkeyServer, lacking_for_kafka
from harness.settings import MachineSettings
from tests.outside.clients.grpc_js import GrpcJs
from tests.outside.disturbed.stalls import Stall, StallPlan, run_stall


@pytest.fixture
def own_kafka(tmp_path: Path, machine: MachineSettings) -> Iterator[ApacheKafka]:
    """A Kafka of this test's own, which it may hang."""
    lacking = lacking_for_kafka(machine)
    if lacking or machine.kafka_home is None or machine.java is None:
        pytest.skip(lacking)
    kafka = ApacheKafka(machine.kafka_home, tmp_path / "kafka", machine.java)
    kafka.start()
    yield kafka
    kafka.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A store of this test's own, which it may hang."""
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize("victim", ["store", "broker"])
def test_hung_server_leaves_no_call_without_a_true_answer(
    victim: Stall,
    own_kafka: ApacheKafka,
    own_valkey: ValkeyServer,
    grpc_js: GrpcJs,
    tmp_path: Path,
) -> None:
    """Every call gets a decision, and two that differ are not both called final."""
    plan = StallPlan(
        victim, 3.0, 6.0, 5.0, rate_per_s=20.0, deadline_ms=2_000, seed=secrets.randbelow(1 << 31)
    )

    outcome = run_stall(plan, own_kafka, own_valkey, tmp_path / "line", grpc_js)

    assert outcome.codes == {"OK": outcome.calls[0]}, f"seed {plan.seed}: {outcome}"
    assert outcome.contradicted == 0, f"seed {plan.seed}: {outcome}"
