"""Topics that are widened under running services end those, with one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from fraudstream.broker.clients import kafka_python_options, kafka_python_producer_options
from fraudstream.broker.topics_at_start import TopicsAtStart
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.errors import LogReplaced
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, ENTITIES, RAW
from harness.processes import wait_until
from harness.servers import ApacheKafka, ValkeyServer
from tests.conftest import ServiceLauncher, create_topics, environment_of_test
from tests.integration.ingest.test_ingest import ingest_keys
from tests.material.bad_samples import good_sample
from tests.worlds.scoring_world import kafka_settings
from tests.worlds.trust import RULES_FILE

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def world(kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path: Path) -> Mapping[str, str]:
    """Topics on a real Kafka."""
    environment = environment_of_test(kafka_broker, valkey)
    create_topics(environment, tmp_path)
    return environment


def _widen(environment: Mapping[str, str], name: str) -> None:
    with closing(KafkaAdminClient(**kafka_python_options(kafka_settings(environment)))) as admin:
        admin.create_partitions({name: 9})


def test_topic_that_is_made_again_or_widened_is_refused(world: Mapping[str, str]) -> None:
    """What did not change passes, and a topic that is gone is waited for."""
    kafka = kafka_settings(world)
    names = [kafka.topic(topic) for topic in (ACCEPTED, ENTITIES)]
    with (
        closing(TopicsAtStart(kafka, names)) as topics,
        closing(KafkaAdminClient(**kafka_python_options(kafka))) as admin,
    ):
        topics.refuse_changes()
        _widen(world, names[1])
        with pytest.raises(LogReplaced, match=f"{names[1]} has 9 partitions now, and had 6"):
            topics.refuse_changes()
        admin.delete_topics(names)
        assert wait_until(lambda: not {*names} & {*admin.list_topics()}, 60.0)
        topics.refuse_changes()
        admin.create_topics({names[0]: {"num_partitions": 6, "replication_factor": 1}})
        assert wait_until(lambda: names[0] in admin.list_topics(), 60.0)
        with pytest.raises(LogReplaced, match=f"{names[0]} was made again"):
            topics.refuse_changes()


def test_running_services_end_when_a_topic_of_the_card_is_widened(
    world: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """Exit code 75 and what to do, long before a card lies in two partitions unnoticed."""
    write_seal_keys(tmp_path / "private.key", tmp_path / "public.key")
    environment = {
        **world,
        "FRAUD_SCORING_MODEL": "",
        "FRAUD_SCORING_RULE_SET_FILE": str(RULES_FILE),
        "FRAUD_SCORING_PORT": "0",
        "FRAUD_SCORING_INTERNAL_PORT": "0",
        "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE": str(tmp_path / "public.key"),
        "FRAUD_FEATURES_STATE_DIR": str(tmp_path / "features"),
        **ingest_keys(tmp_path),
    }
    running = [
        service("services.scoring", [], environment),
        service("services.features", ["card"], environment),
        service("services.ingest", [], environment),
    ]
    _widen(world, kafka_settings(world).topic(ACCEPTED))

    for process in running:
        assert process.wait_end(60.0), process.log_text()
        assert process.exit_code == 75
        assert "has 9 partitions now, and had 6 when this process started" in process.log_text()


def test_ingest_ends_while_records_flow(
    world: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """A busy one is no later than an idle one: what it accepts meanwhile is what goes astray."""
    kafka = kafka_settings(world)
    ingest = service("services.ingest", [], {**world, **ingest_keys(tmp_path)})
    _widen(world, kafka.topic(ACCEPTED))
    with closing(KafkaProducer(**kafka_python_producer_options(kafka))) as producer:

        def has_ended_under_load() -> bool:
            producer.send(kafka.topic(RAW), good_sample(epoch_ms()))
            return ingest.exit_code is not None

        assert wait_until(has_ended_under_load, 60.0), ingest.log_text()
    assert ingest.exit_code == 75
    assert "and start them" in ingest.log_text()
