"""A sender's clock against the line: one record's stamp costs that record, and no shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kafka import KafkaProducer

from fraudstream.broker.clients import kafka_python_producer_options
from fraudstream.broker.log_reader import read_topic
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings
from fraudstream.store.shard import FIRST_GENERATION, Role
from fraudstream.topics import ACCEPTED, LATE, RAW, partition_of
from fraudstream.transaction.card_token import Tokeniser, TokenKeys, write_token_keys
from tests.conftest import ServiceLauncher, create_topics
from tests.material.bad_samples import good_sample
from tests.worlds.shard_line import eventually, shard_line
from training.simulator.messages import pan_of

_HOUR_MS: Final = 3_600_000
_PARTITIONS: Final = 6


async def test_records_of_old_stamps_close_no_shard(
    any_line_env: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """One of 50 hours ago in each shard is late; the good ones right behind are decided."""
    create_topics(any_line_env, tmp_path)
    keys = _keys(tmp_path)
    cards = _card_of_each_shard(Tokeniser(TokenKeys.load(tmp_path / "token.keys")))
    async with shard_line(any_line_env, tmp_path) as line:
        now_ms = epoch_ms()
        for at_ms in (now_ms - 50 * _HOUR_MS, now_ms):
            _send(line.kafka, cards, at_ms)
        service("services.ingest", [], dict(any_line_env) | keys)

        async with line.role(Role.CARD) as running:
            await line.settle(running, _PARTITIONS)
            markers = (await line.markers(Role.CARD, running.log)).values()

        async def are_late() -> bool:
            return len(read_topic(line.kafka, LATE)) == _PARTITIONS

        await eventually(are_late)
        accepted = read_topic(line.kafka, ACCEPTED)
        decided = await line.decisions()

    assert {marker.generation for marker in markers if marker} == {FIRST_GENERATION}
    assert sorted(record.partition for record in accepted) == list(range(_PARTITIONS))
    assert {decision.card_token.encode() for decision in decided} == {r.key for r in accepted}


def _keys(folder: Path) -> dict[str, str]:
    write_token_keys(folder / "token.keys")
    write_seal_keys(folder / "seal.private", folder / "seal.public")
    return {
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(folder / "token.keys"),
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(folder / "seal.public"),
    }


def _card_of_each_shard(tokeniser: Tokeniser) -> list[str]:
    """Return a card number of each shard."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < _PARTITIONS:
        number += 1
        token = tokeniser.token_of("bank-north", pan_of(number))
        found.setdefault(partition_of(token.encode(), _PARTITIONS), pan_of(number))
    return list(found.values())


def _send(kafka: KafkaSettings, cards: list[str], at_ms: int) -> None:
    """Send a purchase of each card, which happened and was stamped at a moment."""
    producer = KafkaProducer(**kafka_python_producer_options(kafka))
    for card in cards:
        value = json.dumps(json.loads(good_sample(at_ms)) | {"pan": card}).encode()
        producer.send(kafka.topic(RAW), key=b"any", value=value, timestamp_ms=at_ms)
    producer.flush(timeout=30)
    producer.close()
