"""Scorer and store die at once: every alert that a decision in the log asks for is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.broker.log_reader import read_topic
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, partition_of
from fraudstream.transaction.actions import needs_person
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from harness.servers import Broker, ValkeyServer
from tests.conftest import ServiceLauncher, create_topics, environment_of_test
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import (
    PARTITIONS,
    canonical,
    free_ports,
    kafka_settings,
    some_transaction,
)
from tests.worlds.shard_line import eventually
from tests.worlds.trust import model_settings

pytestmark = pytest.mark.slow
_ROWS = 1_500
_CARDS = 60


async def _accept(environment: Mapping[str, str]) -> None:
    producer = BatchProducer(kafka_settings(environment))
    await producer.start()
    records = []
    for number in range(_ROWS):
        transaction = canonical(some_transaction(number, card=number % _CARDS))
        key = transaction.card_token.encode()
        value = AcceptedTransaction(transaction=transaction).SerializeToString()
        records.append(OutRecord(key, value, partition_of(key, PARTITIONS)))
    await producer.send(kafka_settings(environment).topic(ACCEPTED), records)
    await producer.stop()


def _settings(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    tiny_artefact(folder / "model")
    write_seal_keys(folder / "private.key", folder / "public.key")
    front, internal = free_ports()
    return {
        **environment,
        **model_settings(folder / "model"),
        "FRAUD_SCORING_PORT": str(front),
        "FRAUD_SCORING_INTERNAL_PORT": str(internal),
        "FRAUD_FEATURES_SCORING_ADDRESS": f"127.0.0.1:{internal}",
        "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE": str(folder / "public.key"),
        "FRAUD_FEATURES_STATE_DIR": str(folder / "features"),
        "FRAUD_FEATURES_DELIVERY_TIMEOUT_S": "1",
    }


def _asked(environment: Mapping[str, str]) -> tuple[int, set[str]]:
    """Return how many identities are decided, and which first decisions ask for an alert."""
    first: dict[str, Decision] = {}
    for record in read_topic(kafka_settings(environment), DECISIONS):
        decision = Decision.FromString(record.value)
        first.setdefault(decision.decision_id, decision)
    return len(first), {name for name, each in first.items() if needs_person(each)}


def _raised(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the decision of each alert id."""
    alerts = [Alert.FromString(r.value) for r in read_topic(kafka_settings(environment), ALERTS)]
    return {alert.alert_id: alert.decision.decision_id for alert in alerts}


async def test_alerts_that_died_with_scorer_and_store_are_raised(
    broker: Broker, mortal_valkey: ValkeyServer, tmp_path: Path, service: ServiceLauncher
) -> None:
    """The log has the decisions, nobody else remembers them: each alert comes, under one id."""
    environment = environment_of_test(broker, mortal_valkey)
    create_topics(environment, tmp_path)
    settings = _settings(environment, tmp_path)
    doomed = {"FRAUD_CRASH_AT": "scoring.before_late_alerts:1"}
    scorer = service("services.scoring", [], {**settings, **doomed})
    service("services.features", ["card"], settings)
    await _accept(environment)
    assert await asyncio.to_thread(scorer.wait_end, 60.0)
    mortal_valkey.kill()
    _, asked = await asyncio.to_thread(_asked, environment)
    lost = asked - set((await asyncio.to_thread(_raised, environment)).values())

    mortal_valkey.start()
    service("services.scoring", [], settings)

    async def is_all_raised() -> bool:
        decided, wanted = await asyncio.to_thread(_asked, environment)
        raised = await asyncio.to_thread(_raised, environment)
        return decided == _ROWS and wanted <= set(raised.values())

    await eventually(is_all_raised)
    assert lost, "the scorer died before it owed an alert"
    raised = await asyncio.to_thread(_raised, environment)
    assert len(set(raised.values())) == len(raised), "a decision has one alert id"
    assert set(raised.values()) == (await asyncio.to_thread(_asked, environment))[1]
