"""Somebody inside, with write access to one topic, against what was built to hold them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import RULES, STAND_INS
from harness.servers import ApacheKafka, ValkeyServer
from tests.conftest import create_topics, environment_of_test
from tests.material.kafka_bytes import at_offset, batch_of, record_body, write_batch
from tests.unit.broker.test_client_patches import READERS

pytestmark = pytest.mark.attack

_MIB: Final = 1 << 20
# A scorer that has no model yet holds about 120 MiB; its pod may have 1 GiB.
_MOST_RESIDENT_MIB: Final = 500
_BOMBS: Final = 30
_FOLLOW: Final = """
import re
from pathlib import Path
from fraudstream.settings import KafkaSettings
from services.scoring.decision.rules_follower import RulesFollower

follower = RulesFollower(KafkaSettings.read(), "cards", None)
follower.open(Path("services/scoring/rules.toml"))
for _ in range(200):
    follower._poll()
    reader = follower._reader
    ends = [reader._consumer.position(partition) for partition in reader.partitions]
    if sum(ends) == WANTED:
        break
else:
    raise SystemExit("the end was not reached")
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_unpacked_rules_cost_a_scorer_no_memory(
    kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Nobody signs a batch: a megabyte of them is a gigabyte of records, read at every start."""
    environment = environment_of_test(kafka_broker, valkey)
    create_topics(environment, tmp_path)
    topic = environment["FRAUD_KAFKA_TOPIC_PREFIX"] + RULES.name
    bomb = batch_of([record_body(n, bytes(_MIB), key=b"x") for n in range(30)], "gzip", epoch_ms())
    for _ in range(_BOMBS):
        write_batch(environment["FRAUD_KAFKA_BOOTSTRAP"], topic, 1, at_offset(0, bomb))

    ended = subprocess.run(
        [sys.executable, "-c", _FOLLOW.replace("WANTED", str(30 * _BOMBS))],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr[-500:]
    assert int(ended.stdout) >> 10 < _MOST_RESIDENT_MIB


@pytest.mark.parametrize("read", READERS)
def test_flood_of_unsigned_records_is_no_flood_of_words(
    read: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch of 100 kB was 30,000 lines and entries, and seconds of the loop that decides."""
    from fraudstream.broker.wire.record_keys import hold, make_files
    from fraudstream.settings import KafkaSettings
    from fraudstream.telemetry.metrics import QUARANTINED

    make_files(tmp_path / "keys")
    prefix = f"flood-{read.__name__}-"
    kafka = KafkaSettings(topic_prefix=prefix, record_keys_dir=tmp_path / "keys")
    hold(kafka)
    counted = QUARANTINED.labels(STAND_INS.name, "UNTRUSTED")
    before = counted._value.get()
    flood = batch_of([record_body(n, b"") for n in range(30_000)], "gzip")

    found = read(flood, 0, kafka.topic(STAND_INS))

    assert found == []
    assert counted._value.get() == before + 30_000
    assert len(caplog.records) < 2_000


@pytest.mark.parametrize(
    "marker",
    [
        {"next": "zz"},
        {"generation": b"\xff"},
        {"incarnation": "zz:6"},
        {"layout": b"\xff"},
    ],
)
async def test_marker_that_nobody_of_ours_wrote_closes_its_shard(
    marker: dict[Any, Any], line_env: Mapping[str, str], valkey: ValkeyServer
) -> None:
    """It was a ValueError in the sweeper, which ends a scorer: all of them, at every start."""
    import redis.asyncio as redis

    from fraudstream.errors import ShardClosed
    from services.scoring.shards.card_shards import CardShards
    from tests.worlds.scoring_world import PARTITIONS, card_shard, open_shards, open_store

    async with open_store(line_env) as store, redis.from_url(valkey.url) as client:
        await open_shards(store)
        await client.hset(store.keys(card_shard(0)).marker, mapping=marker)

        with pytest.raises(ShardClosed):
            await CardShards(store, PARTITIONS).open_shard(0)


def test_marks_and_markers_of_entities_end_no_call() -> None:
    """The worker of entities writes them, and a scorer reads them for every call."""
    from fraudstream.features.state import LAYOUT_HASH
    from fraudstream.store.entity_reader import watermark_of
    from fraudstream.store.shard import Role
    from fraudstream.store.shard_markers import NO_GENERATION, _shard_of

    for mark in (b"zz", b"7:255:", b"7:255:99999999999999999999", b"1:1:-5", b"\xff"):
        assert watermark_of({b"00:0": mark}, "00:1") == 0
    marker = {b"layout": LAYOUT_HASH.encode()}
    for odd in ({}, {b"incarnation": b"\xff", b"generation": b"1"}):
        assert _shard_of(Role.ENTITY, 0, marker | odd).generation == NO_GENERATION


@pytest.mark.parametrize("lacking", ["vector", "sequence"])
async def test_swept_alert_without_its_arrays_ends_no_scorer(lacking: str) -> None:
    """A record of the store that holds: its reasons cannot be measured, and its alert goes out."""
    from services.scoring.inference.batcher import Batcher
    from services.scoring.inference.explainer import Explainer
    from tests.fakes.fake_engine import FakeEngine
    from tests.unit.scoring.test_explain import MODEL, decisions

    (decision,) = decisions(1)
    decision.ClearField(lacking)
    explainer = Explainer(MODEL, FakeEngine(), Batcher(lambda: 1))

    assert await explainer.measure_decisions([decision]) == [None]
