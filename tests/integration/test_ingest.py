"""Ingest on a real broker: good records accepted, bad ones found, nothing lost by a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from demo.processes import wait_until
from demo.service_process import ServiceProcess
from fraudstream.dead_letter import write_seal_keys
from fraudstream.privacy import Tokeniser, TokenKeys, write_token_keys
from fraudstream.telemetry import TraceContext
from fraudstream.topics import ACCEPTED, DLQ, LATE, RAW, Topic, partition_of
from fraudstream.transaction_json import decode_json
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from services.ingest.commands import main
from tests.bad_samples import SAMPLES, BadSample, bad_samples, good_sample
from tests.conftest import ServiceLauncher, create_topics
from training.messages import pan_of

TIMEOUT_S = 60.0
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def now_ms() -> int:
    """Return the time."""
    return time.time_ns() // 1_000_000


class Raw:
    """The raw topic, as a bank writes it, and the topics behind ingest, as others read them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._bootstrap = environment["FRAUD_KAFKA_BOOTSTRAP"]
        self._prefix = environment["FRAUD_KAFKA_TOPIC_PREFIX"]
        self._producer = KafkaProducer(
            bootstrap_servers=self._bootstrap, enable_idempotence=False, acks=1
        )
        self._consumers: dict[Topic, KafkaConsumer] = {}
        self._read: dict[Topic, list[object]] = {}

    def send(
        self,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
        timestamp_ms: int | None = None,
    ) -> tuple[int, int]:
        """Write one raw record; return its partition and offset."""
        sent = self._producer.send(
            self._prefix + RAW.name,
            key=b"any",
            value=value,
            headers=headers or [],
            timestamp_ms=timestamp_ms,
        ).get(timeout=TIMEOUT_S)
        return sent.partition, sent.offset

    def read(self, topic: Topic, number: int) -> list:  # type: ignore[type-arg]  # kafka-python has no types
        """Return the records of a topic, once there are so many."""
        records = self._read.setdefault(topic, [])
        consumer = self._consumer_of(topic)

        def has_enough() -> bool:
            for batch in consumer.poll(timeout_ms=100).values():
                records.extend(batch)
            return len(records) >= number

        assert wait_until(has_enough, TIMEOUT_S), f"{len(records)} of {number} in {topic.name}"
        return list(records)

    def _consumer_of(self, topic: Topic) -> KafkaConsumer:
        if topic not in self._consumers:
            consumer = KafkaConsumer(
                bootstrap_servers=self._bootstrap,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=50,
            )
            name = self._prefix + topic.name
            places = [TopicPartition(name, one) for one in consumer.partitions_for_topic(name)]
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            self._consumers[topic] = consumer
        return self._consumers[topic]

    def close(self) -> None:
        """Disconnect."""
        self._producer.close()
        for consumer in self._consumers.values():
            consumer.close()


@pytest.fixture
def ingest_env(any_line_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Variables of ingest, with new keys and topics."""
    write_token_keys(tmp_path / "token.keys")
    write_seal_keys(tmp_path / "seal.private", tmp_path / "seal.public")
    environment = {
        **any_line_env,
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(tmp_path / "token.keys"),
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(tmp_path / "seal.public"),
        "FRAUD_INGEST_SEAL_PRIVATE_KEY_FILE": str(tmp_path / "seal.private"),
    }
    create_topics(environment, tmp_path)
    return environment


@pytest.fixture
def raw(ingest_env: dict[str, str]) -> Iterator[Raw]:
    """The topics of this test."""
    raw = Raw(ingest_env)
    yield raw
    raw.close()


def command(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run one command of ingest in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        for name, content in environment.items():
            patch.setenv(name, content)
        return main(arguments)


def test_good_record_is_accepted_as_canonical(
    ingest_env: dict[str, str], raw: Raw, service: ServiceLauncher
) -> None:
    """Key, partition, timestamp, trace, token and reference amount are what features relies on."""
    moment = now_ms() - 1_000
    raw.send(good_sample(moment), [("traceparent", TRACEPARENT)], timestamp_ms=moment)
    service("services.ingest", [], ingest_env)

    record = raw.read(ACCEPTED, 1)[0]
    accepted = AcceptedTransaction.FromString(record.value)
    keys = TokenKeys.load(Path(ingest_env["FRAUD_INGEST_TOKEN_KEYS_FILE"]))
    token = Tokeniser(keys).token_of("bank-north", decode_json(good_sample(moment)).pan)
    trace = TraceContext.parse(dict(record.headers)["traceparent"])
    assert accepted.transaction.card_token == token == record.key.decode()
    assert record.partition == partition_of(record.key, 6)
    assert record.timestamp == accepted.raw_append_time_ms == moment
    assert accepted.transaction.amount_reference_minor == 2350
    assert accepted.ingest_started_us <= accepted.ingest_ended_us
    assert trace is not None
    assert trace.trace_id == TRACEPARENT[3:35].decode()
    assert trace.span_id != TRACEPARENT[36:52].decode()


def test_record_on_its_own_clock_is_judged_by_its_timestamp(
    ingest_env: dict[str, str], raw: Raw, service: ServiceLauncher
) -> None:
    """A replay of old records is not late; a record late by its own clock is."""
    recent = now_ms() - 2 * 86_400_000
    raw.send(good_sample(recent), timestamp_ms=recent + 1_000)
    raw.send(good_sample(recent), timestamp_ms=recent + 25 * 3_600_000)
    service("services.ingest", [], ingest_env)

    accepted, late = raw.read(ACCEPTED, 1), raw.read(LATE, 1)
    assert accepted[0].timestamp == recent + 1_000
    assert late[0].timestamp == recent + 25 * 3_600_000
    assert AcceptedTransaction.FromString(late[0].value).transaction.card_token


def test_every_bad_sample_is_dead_lettered_mended_and_accepted(
    ingest_env: dict[str, str],
    raw: Raw,
    service: ServiceLauncher,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each has its reason; `dlq list` finds it, `dlq replay` mends it, and it passes once."""
    samples = bad_samples(now_ms())
    places = {raw.send(sample.value, sample.headers): sample for sample in samples}
    raw.send(good_sample(now_ms()))
    ingest = service("services.ingest", [], ingest_env)
    letters = raw.read(DLQ, len(samples))
    raw.read(ACCEPTED, 1)
    found = {place_of(letter): dict(letter.headers)["reason"].decode() for letter in letters}

    assert found == {place: sample.reason for place, sample in places.items()}

    capsys.readouterr()
    assert command(["dlq", "list"], ingest_env) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(listed) == len(samples)
    for letter in listed:
        sample = places[int(letter["partition"]), int(letter["offset"])]
        arguments = ["dlq", "replay", letter["letter"], *mend_of(sample, tmp_path)]
        assert command(arguments, ingest_env) == 0, sample.name
    accepted = raw.read(ACCEPTED, 1 + len(samples))
    assert len(accepted) == 1 + len(samples)
    assert len(raw.read(DLQ, len(samples))) == len(samples)
    holds_no_card_number(letters, accepted, ingest.log_text())


def holds_no_card_number(letters: list, accepted: list, log: str) -> None:  # type: ignore[type-arg]  # as above
    """Neither a letter, an accepted record nor the log holds the samples' number."""
    everything = b"".join(record.key + record.value for record in [*letters, *accepted])
    everything += b"".join(text for record in letters for _, text in record.headers)

    assert pan_of(9_000_000).encode() not in everything
    assert pan_of(9_000_000) not in log


def place_of(letter) -> tuple[int, int]:  # type: ignore[no-untyped-def]  # kafka-python has no types
    """Return the source place that a letter names."""
    headers = dict(letter.headers)
    return int(headers["partition"]), int(headers["offset"])


def mend_of(sample: BadSample, folder: Path) -> list[str]:
    """Return the arguments that mend a sample."""
    if sample.mend:
        return sample.mend
    body = folder / "mended.json"
    body.write_bytes(good_sample(now_ms()))
    return [f"--body={body}"]


def test_crash_loses_nothing(
    ingest_env: dict[str, str], raw: Raw, service: ServiceLauncher, tmp_path: Path
) -> None:
    """Killed anywhere between reading and committing, ingest takes up every record again."""
    identities = set()
    for _ in range(20):
        value = good_sample(now_ms())
        identities.add(json.loads(value)["transaction_id"])
        raw.send(value)
    points = ["ingest.after_read", "ingest.after_publish", "ingest.before_commit"]
    log = tmp_path / "crashes"
    for point in points:
        crashing = {**ingest_env, "FRAUD_CRASH_AT": f"{point}:1", "FRAUD_CRASH_LOG": str(log)}
        doomed = ServiceProcess("services.ingest", [], crashing, tmp_path)
        doomed.launch()
        assert doomed.wait_end(TIMEOUT_S), point
    service("services.ingest", [], ingest_env)
    found: set[str] = set()

    def has_all() -> bool:
        found.update(
            AcceptedTransaction.FromString(record.value).transaction.transaction_id
            for record in raw.read(ACCEPTED, 1)
        )
        return found == identities

    assert log.read_text().split() == points
    assert wait_until(has_all, TIMEOUT_S)


def test_stop_signal_ends_it_cleanly(
    ingest_env: dict[str, str], raw: Raw, service: ServiceLauncher
) -> None:
    """SIGTERM: the poll under way is finished, the exit code is 0, and nothing is read again."""
    raw.send(good_sample(now_ms()))
    first = service("services.ingest", [], ingest_env)
    raw.read(ACCEPTED, 1)

    assert first.stop() == 0
    raw.send(good_sample(now_ms()))
    service("services.ingest", [], ingest_env)
    assert len(raw.read(ACCEPTED, 2)) == 2


def test_topics_check_names_what_is_wrong(
    ingest_env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Topics as created pass; another number of partitions or a missing topic is named, exit 78."""
    assert command(["topics", "check"], ingest_env) == 0
    assert command(["topics", "create"], ingest_env) == 0

    other = {**ingest_env, "FRAUD_INGEST_TOPIC_PARTITIONS": "7"}
    assert command(["topics", "check"], other) == 78
    assert "6 partitions, expected 7" in capsys.readouterr().err
    missing = {**ingest_env, "FRAUD_KAFKA_TOPIC_PREFIX": "nowhere-"}
    assert command(["topics", "check"], missing) == 78
    assert "nowhere-transactions.raw.v1: missing" in capsys.readouterr().err


def test_letter_that_is_not_there_is_said_so(
    ingest_env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong place is no crash."""
    assert command(["dlq", "show", "0:5"], ingest_env) == 78
    assert "no dead letter 0:5" in capsys.readouterr().err


def test_service_without_keys_does_not_start(
    any_line_env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the setting and how to make the file."""
    assert command([], any_line_env) == 78
    assert "FRAUD_INGEST_TOKEN_KEYS_FILE" in capsys.readouterr().err


def test_sample_folder_has_one_of_each_kind() -> None:
    """A newcomer finds every kind of movement."""
    kinds = {json.loads(path.read_text())["kind"] for path in SAMPLES.glob("*.json")}

    assert kinds == {"purchase", "refund", "reversal", "verification"}
