"""Time is the broker's: what a sender writes on its record opens no window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest

from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, DLQ, LATE
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from harness.servers import ApacheKafka, ValkeyServer
from harness.service_process import ServiceProcess
from tests.conftest import create_topics, environment_of_test
from tests.integration.ingest.test_ingest import TIMEOUT_S, Raw, ingest_keys
from tests.material.bad_samples import good_sample

pytestmark = [pytest.mark.attack, pytest.mark.kafka]

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS


@pytest.fixture
def raw(
    kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Raw]:
    """An ingest on Apache Kafka, with topics as its own command makes them."""
    folder = tmp_path_factory.mktemp("times")
    environment = environment_of_test(kafka_broker, valkey) | ingest_keys(folder)
    create_topics(environment, folder)
    ingest = ServiceProcess("services.ingest", [], environment, folder)
    ingest.start(TIMEOUT_S)
    with closing(Raw(environment)) as opened:
        yield opened
    ingest.stop()


def test_k1_a_senders_stamp_opens_no_window(raw: Raw) -> None:
    """Ten days ago is late and an hour ahead is refused, whatever the record says of its time."""
    now = epoch_ms()
    old, ahead = now - 10 * _DAY_MS, now + 63 * _MINUTE_MS
    raw.send(good_sample(old), timestamp_ms=old)
    raw.send(good_sample(ahead), timestamp_ms=now + 59 * _MINUTE_MS)
    raw.send(good_sample(now))

    accepted = [AcceptedTransaction.FromString(one.value) for one in raw.read(ACCEPTED, 1)]
    (late,) = raw.read(LATE, 1)
    (letter,) = raw.read(DLQ, 1)

    assert [row.transaction.event_time_ms for row in accepted] == [now]
    assert late.value
    assert dict(letter.headers)["reason"] == b"TIME_FUTURE"
