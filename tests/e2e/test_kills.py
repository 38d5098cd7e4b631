"""Services killed at every named crash point lose nothing, and do nothing twice."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from fraudstream.runtime.clock import epoch_ms
from harness.servers import Broker, ValkeyServer
from harness.traffic import Disorder, RawRecord
from tests.conftest import environment_of_test
from tests.e2e.audit import Expected, Finding, audit
from tests.e2e.kills import Kill, Killer
from tests.e2e.line_run import LineRun, prepared_line, records_of
from training.simulator.simulate import SimulationSettings

_RECORDS = 21_000
_TIMEOUT_S = 540.0
# Small polls, so that there are many of them for the kills to come between.
_SMALL_POLLS = {"FRAUD_INGEST_POLL_RECORDS": "200", "FRAUD_TELEMETRY_SAMPLE_RATIO": "0"}
_SERVICES = (
    ("services.scoring", ()),
    ("services.features", ("card",)),
    ("services.features", ("entity",)),
    ("services.ingest", ()),
)
_KILLS = (
    Kill("ingest", "ingest.after_read", 4),
    Kill("ingest", "ingest.after_publish", 6),
    Kill("ingest", "ingest.before_commit", 5),
    Kill("features-card", "features.after_read", 9),
    Kill("features-card", "features.before_state_write", 7),
    Kill("features-card", "features.after_state_write", 8),
    Kill("features-card", "features.before_commit", 5),
    Kill("scoring", "scoring.after_record", 10),
    Kill("scoring", "scoring.after_publish", 12),
    Kill("scoring", "scoring.after_record", 15),
    Kill("ingest", "ingest.after_publish", 7),
    Kill("features-card", "features.after_state_write", 11),
)


@dataclass(frozen=True)
class CalmRun:
    """What the same records leave when nothing is killed."""

    records: list[RawRecord]
    folder: Path
    findings: list[Finding]
    states: dict[str, bytes]


@pytest.fixture(scope="module")
def calm(broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> CalmRun:
    """Run the line once without a kill."""
    started_ms = epoch_ms() - 3_600_000
    traffic = SimulationSettings(
        seed=4_711, cards=1_500, start_ms=started_ms, rate_per_s=10.0, fraud_share=0.03
    )
    disorder = Disorder(duplicate=0.04, conflict=0.01, bad=0.005)
    records = records_of(_RECORDS, traffic, disorder)
    folder = tmp_path_factory.mktemp("calm")
    run = _line(folder, broker, valkey)
    try:
        run.line.start()
        run.feed(records, _TIMEOUT_S, lambda: None)
        evidence = run.evidence()
    finally:
        run.line.stop()
    states = dict(evidence.states)
    return CalmRun(records, folder, audit(run.ledger, evidence, None), states)


def _line(folder: Path, broker: Broker, valkey: ValkeyServer) -> LineRun:
    """Return a line of its own topics and store keys."""
    servers = environment_of_test(broker, valkey)
    return prepared_line(folder, servers, more=_SMALL_POLLS, services=_SERVICES)


def _take_keys(source: Path, target: Path) -> None:
    """Copy key files, so that card tokens are the same."""
    target.mkdir()
    for path in (*source.glob("*.json"), *source.glob("*.key")):
        shutil.copy2(path, target / path.name)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_kills_at_every_crash_point_change_nothing(
    calm: CalmRun, any_broker: Broker, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """N accepted, N decided, none twice, alerts as decided, states as in a run without kills."""
    folder = tmp_path / "killed"
    _take_keys(calm.folder, folder)
    run = _line(folder, any_broker, valkey)
    killer = Killer(run.line, _KILLS)
    try:
        killer.start()
        run.feed(calm.records, _TIMEOUT_S, killer.tick)
        evidence = run.evidence()
    finally:
        run.line.stop()

    assert calm.findings == []
    assert Counter(killer.crashes()) == Counter(kill.point for kill in _KILLS)
    assert sum(entry.expected is Expected.DECIDED for entry in run.ledger) >= 19_000
    assert audit(run.ledger, evidence, calm.states) == []
