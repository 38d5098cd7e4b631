"""Services killed at every named crash point lose nothing, and do nothing twice."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from demo.servers import Broker, ValkeyServer
from demo.traffic import Disorder, RawRecord
from tests.conftest import environment_of_test
from tests.e2e.audit import Expected, audit
from tests.e2e.kills import Kill, Killer
from tests.e2e.line_run import LineRun, prepared_line, records_of
from training.simulate import SimulationSettings

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


def _records() -> list[RawRecord]:
    started_ms = time.time_ns() // 1_000_000 - 3_600_000
    traffic = SimulationSettings(
        seed=4_711, cards=1_500, start_ms=started_ms, rate_per_s=10.0, fraud_share=0.03
    )
    return records_of(_RECORDS, traffic, Disorder(duplicate=0.04, conflict=0.01, bad=0.005))


def _line(folder: Path, broker: Broker, valkey: ValkeyServer, keys: Path | None) -> LineRun:
    """Return a line of its own topics and store keys; `keys` makes card tokens equal."""
    folder.mkdir()
    for path in sorted(keys.glob("*.*")) if keys else ():
        if path.suffix in (".json", ".key"):
            shutil.copy2(path, folder / path.name)
    servers = environment_of_test(broker, valkey)
    return prepared_line(folder, servers, more=_SMALL_POLLS, services=_SERVICES)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_kills_at_every_crash_point_change_nothing(
    any_broker: Broker, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """N accepted, N decided, none twice, alerts as decided, states as in a run without kills."""
    records = _records()
    killed = _line(tmp_path / "killed", any_broker, valkey, None)
    killer = Killer(killed.line, _KILLS)
    try:
        killer.start()
        killed.feed(records, _TIMEOUT_S, killer.tick)
        evidence = killed.evidence()
    finally:
        killed.line.stop()
    calm = _line(tmp_path / "calm", any_broker, valkey, tmp_path / "killed")
    try:
        calm.line.start()
        calm.feed(records, _TIMEOUT_S, lambda: None)
        calm_evidence = calm.evidence()
    finally:
        calm.line.stop()

    assert Counter(killer.crashes()) == Counter(kill.point for kill in _KILLS)
    assert sum(e.expected is Expected.DECIDED for e in killed.ledger) >= 19_000
    assert audit(calm.ledger, calm_evidence, None) == []
    assert audit(killed.ledger, evidence, calm_evidence.states) == []
