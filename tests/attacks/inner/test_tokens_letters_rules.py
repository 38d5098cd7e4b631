"""Tokens that are none, letters that ingest never wrote, and junk in front of the rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from fraudstream.dead_letters.letter import LetterWriter, SourceRecord
from fraudstream.errors import InvalidTransaction
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, DLQ, RAW, RULES, partition_of
from fraudstream.transaction.money import open_rate_table
from harness.servers import Broker, ValkeyServer
from harness.service_process import ServiceProcess
from services.scoring.authorise.intake import Caller, Reception
from tests.conftest import create_topics, environment_of_test
from tests.integration.ingest.test_ingest import TIMEOUT_S, Raw, command, ingest_keys
from tests.material.bad_samples import good_sample
from training.simulator.messages import pan_of

pytestmark = pytest.mark.attack

PAN: Final = pan_of(10_001)
# A card number and more: no digest of 32 digits is refused for the digits that it has.
HIDDEN: Final = f"{PAN}0123456789abcdef"
CVV: Final = b'{"bank_id":"bank-north","cvv":"123"}'


def _with_token(key_id: str) -> bytes:
    """Return a good record with a token in its card's place, as a bank may write one."""
    fields = {n: v for n, v in json.loads(good_sample(epoch_ms())).items() if n != "pan"}
    return json.dumps(fields | {"card_token": f"{fields['bank_id']}.{key_id}.{HIDDEN}"}).encode()


@dataclass(frozen=True, slots=True)
class World:
    """A running ingest with keys of records, and what it wrote.

    Attributes:
        environment: Of ingest and of its commands.
        folder: With all keys; an attacker has the public one alone.
        raw: The topics.
        letters: Dead letters, by the offset of their record.
        offsets: Offsets of what was sent.
    """

    environment: Mapping[str, str]
    folder: Path
    raw: Raw
    letters: Mapping[int, Any]
    offsets: Mapping[str, int]

    def producer(self) -> KafkaProducer:
        """Return a client of somebody who may write to every topic."""
        bootstrap = self.environment["FRAUD_KAFKA_BOOTSTRAP"]
        return KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False, acks=1)

    def name(self, topic: str) -> str:
        """Return a topic's name in this deployment."""
        return self.environment["FRAUD_KAFKA_TOPIC_PREFIX"] + topic

    def raw_end(self) -> int:
        """Return how many records were ever written to the raw topic."""
        bootstrap = self.environment["FRAUD_KAFKA_BOOTSTRAP"]
        with closing(KafkaConsumer(bootstrap_servers=bootstrap)) as consumer:
            name = self.name(RAW.name)
            partitions = [TopicPartition(name, one) for one in consumer.partitions_for_topic(name)]
            return sum(consumer.end_offsets(partitions).values())


@pytest.fixture(scope="module")
def world(
    broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Have ingest read what a bank and an attacker wrote to the raw topic."""
    from fraudstream.broker.wire.record_keys import make_files

    folder = tmp_path_factory.mktemp("letters")
    make_files(folder / "records")
    environment = environment_of_test(broker, valkey) | ingest_keys(folder)
    environment["FRAUD_KAFKA_RECORD_KEYS_DIR"] = str(folder / "records")
    create_topics(environment, folder)
    ingest = ServiceProcess("services.ingest", [], environment, folder)
    bad = json.dumps(json.loads(good_sample(epoch_ms())) | {"currency": "EUX"}).encode()
    sent = {"strange key": _with_token("zz9"), "currency": bad, "cvv": CVV}
    with closing(Raw(environment)) as raw:
        offsets = {name: raw.send(value)[1] for name, value in sent.items()}
        raw.send(good_sample(epoch_ms()))
        ingest.start(TIMEOUT_S)
        raw.read(ACCEPTED, 1)
        by_offset = {int(dict(one.headers)["offset"]): one for one in raw.read(DLQ, len(sent))}
        yield World(environment, folder, raw, by_offset, offsets)
    ingest.stop()


def test_s2_token_under_a_key_that_nobody_holds_is_refused(world: World) -> None:
    """At the raw topic: its digits would lie in every topic, store and file behind ingest."""
    letter = world.letters[world.offsets["strange key"]]

    assert dict(letter.headers)["reason"] == b"CARD_TOKEN"
    assert len(world.raw.read(ACCEPTED, 1)) == 1


def test_s2_token_under_a_key_that_nobody_holds_is_refused_by_grpc(world: World) -> None:
    """The same at the other door."""
    from fraudstream.transaction.card_token import Tokeniser, TokenKeys
    from fraudstream.transaction.event_time import TimeBounds
    from fraudstream.transaction.json_form import decode_json

    tokeniser = Tokeniser(TokenKeys("k1", {"k1": bytes(32)}))
    rates = open_rate_table(None)
    door = Reception(tokeniser, rates, 6, 0.0, TimeBounds(), epoch_ms)
    caller = Caller(is_private=True, parent=None)

    with pytest.raises(InvalidTransaction, match="CARD_TOKEN"):
        door.receive(decode_json(_with_token("zz9")), caller)


def test_s2_label_with_a_strange_key_is_refused() -> None:
    """What names a card of no key of ours finds no transaction, and is not kept for an hour."""
    from fraudstream.transaction.card_token import Tokeniser, TokenKeys
    from services.ingest.labels.bank_label import read_bank_label

    label = read_bank_label(
        {
            "bank_id": "bank",
            "transaction_id": "t-1",
            "disposition": "genuine",
            "card_token": f"bank.zz9.{HIDDEN}",
        }
    )
    with pytest.raises(InvalidTransaction, match="CARD_TOKEN"):
        label.cards(Tokeniser(TokenKeys("k1", {"k1": bytes(32)})))


def test_s2_forged_letter_is_neither_shown_nor_sent(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever may write to the topic of dead letters has nothing sent under ingest's name."""
    from fraudstream.keys.box_keys import load_public_key

    writer = LetterWriter(load_public_key(world.folder / "seal.public"), "ingest", epoch_ms)
    fields = json.loads(good_sample(epoch_ms())) | {"transaction_id": "forged", "currency": "EUX"}
    value = json.dumps(fields).encode()
    source = SourceRecord(world.name(RAW.name), 0, 9_999, epoch_ms(), None, value, [])
    forged = writer.letter_of(source, "CURRENCY", "no")
    true = world.letters[world.offsets["currency"]]
    mark = [*true.headers, ("dlq-replayed", f"{true.partition}:{true.offset}".encode())]
    with closing(world.producer()) as producer:
        name, number = world.name(DLQ.name), true.partition
        for key, value, headers in (
            (forged.key, forged.value, forged.headers),
            # A mark that hides a true letter from `--all`.
            (true.key, true.value, mark),
        ):
            producer.send(name, key=key, value=value, headers=headers, partition=number).get(30)
    before = world.raw_end()

    assert command(["dlq", "list", "--reason", "CURRENCY"], world.environment) == 0
    (listed,) = map(json.loads, capsys.readouterr().out.splitlines())
    arguments = ["dlq", "replay", "--all", "--reason", "CURRENCY", "--set=currency=EUR"]
    assert command(arguments, world.environment) == 0
    again = command(arguments, world.environment)

    assert listed["letter"] == f"{true.partition}:{true.offset}"
    assert not listed["replayed"]
    assert again == 0
    assert world.raw_end() == before + 1


def test_s3_letter_has_no_hash_to_try_values_against(world: World) -> None:
    """A thousand tries found a CVV whose record's other bytes were known."""
    letter = world.letters[world.offsets["cvv"]]

    assert dict(letter.headers)["reason"] == b"SAD_PRESENT"
    assert hashlib.sha256(CVV).hexdigest() not in letter.value.decode()


def test_s2_junk_takes_no_rules_away_and_no_start_waits_for_its_end(world: World) -> None:
    """The topic keeps every version, and a reader that begins has the newest good one first."""
    from fraudstream.rules.published import sign_rule_set
    from services.scoring.decision.rules_follower import RulesFollower
    from tests.material.rule_files import rule_file
    from tests.worlds.scoring_world import kafka_settings
    from tests.worlds.trust import APPROVER, PEOPLE

    good = sign_rule_set(rule_file(version=7), "why", epoch_ms(), APPROVER).SerializeToString()
    with closing(world.producer()) as producer:
        name = world.name(RULES.name)
        number = partition_of(b"cards", len(producer.partitions_for(name)))
        sent = [
            producer.send(name, key=b"cards", value=value, partition=number)
            for value in (good, *[good[:-1] + bytes([at]) for at in range(64)])
        ]
        for one in sent:
            one.get(30)

    follower = RulesFollower(kafka_settings(world.environment), "cards", PEOPLE, start_s=0.0)

    assert follower.open(None).program.rule_set.version == 7


@pytest.mark.kafka
def test_s2_rules_topic_is_not_compacted(
    kafka_broker: Broker, valkey: ValkeyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compaction keeps the last record of a key, whoever wrote it; `topics check` names it."""
    from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

    environment = environment_of_test(kafka_broker, valkey)
    create_topics(environment, tmp_path)
    assert command(["topics", "check"], environment) == 0
    name = environment["FRAUD_KAFKA_TOPIC_PREFIX"] + RULES.name
    bootstrap = environment["FRAUD_KAFKA_BOOTSTRAP"]
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        compact = {"cleanup.policy": "compact"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, compact)])
    capsys.readouterr()

    assert command(["topics", "check"], environment) == 78
    assert f"{name}: cleanup.policy compact, expected delete" in capsys.readouterr().err


def test_s3_label_without_a_time_is_looked_for_once_in_what_was_there(tmp_path: Path) -> None:
    """A label that waits costs the files that came since, not the whole archive at each poll."""
    from services.ingest.labels.accepted_lookup import AcceptedLookup
    from tests.integration.ingest.test_label_import import archive
    from tests.worlds.archive_records import transaction

    archive(tmp_path, [transaction(1)], days_after=1)
    (old,) = (tmp_path / "accepted").rglob("*.parquet")
    lookup, wanted = AcceptedLookup(tmp_path), {("bank-north", "t2"): None}
    assert lookup.find(wanted) == {}
    old.write_bytes(b"whoever reads this fails")
    archive(tmp_path, [transaction(2)], days_after=2)

    assert list(lookup.find(wanted, again=wanted)) == [("bank-north", "t2")]
