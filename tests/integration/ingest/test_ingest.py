"""Ingest on a real broker: good records accepted, bad ones found, nothing lost by a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.runtime.clock import epoch_ms
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.topics import ACCEPTED, DLQ, LATE, RAW, Topic, partition_of
from fraudstream.transaction.card_token import Tokeniser, TokenKeys, write_token_keys
from fraudstream.transaction.json_form import decode_json
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from harness.processes import wait_until
from harness.servers import Broker, ValkeyServer
from harness.service_process import ServiceProcess
from services.ingest.cli import main
from services.ingest.dead_letters.reader import REPLAYED
from tests.conftest import ServiceLauncher, create_topics, environment_of_test
from tests.material.bad_samples import SAMPLES, BadSample, bad_samples, good_sample
from training.simulator.messages import pan_of

TIMEOUT_S = 60.0
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


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
    environment = any_line_env | ingest_keys(tmp_path)
    create_topics(environment, tmp_path)
    return environment


@pytest.fixture
def replay_env(any_line_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The same with topics of a replay."""
    replay = {"FRAUD_KAFKA_IS_REPLAY": "true"}
    environment = any_line_env | ingest_keys(tmp_path) | replay
    create_topics(environment, tmp_path)
    return environment


@pytest.fixture
def raw(ingest_env: dict[str, str]) -> Iterator[Raw]:
    """The topics of this test."""
    raw = Raw(ingest_env)
    yield raw
    raw.close()


def ingest_keys(folder: Path) -> dict[str, str]:
    """Make new keys; return the variables that name them."""
    write_token_keys(folder / "token.keys")
    write_seal_keys(folder / "seal.private", folder / "seal.public")
    return {
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(folder / "token.keys"),
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(folder / "seal.public"),
        "FRAUD_INGEST_SEAL_PRIVATE_KEY_FILE": str(folder / "seal.private"),
    }


def command(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run one command of ingest in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        for name, content in environment.items():
            patch.setenv(name, content)
        return main(arguments)


@pytest.mark.both_brokers
def test_good_record_is_accepted_as_canonical(
    ingest_env: dict[str, str], raw: Raw, service: ServiceLauncher
) -> None:
    """Key, partition, timestamp, trace, token and reference amount are what features relies on."""
    moment = epoch_ms() - 1_000
    sent_ms = epoch_ms()
    raw.send(good_sample(moment), [("traceparent", TRACEPARENT)], timestamp_ms=moment)
    service("services.ingest", [], ingest_env)

    record = raw.read(ACCEPTED, 1)[0]
    accepted = AcceptedTransaction.FromString(record.value)
    keys = TokenKeys.load(Path(ingest_env["FRAUD_INGEST_TOKEN_KEYS_FILE"]))
    token = Tokeniser(keys).token_of("bank-north", decode_json(good_sample(moment)).pan)
    trace = TraceContext.parse(dict(record.headers)["traceparent"])
    assert accepted.transaction.card_token == token == record.key.decode()
    assert record.partition == partition_of(record.key, 6)
    is_broker_clock = record.timestamp_type == 1
    assert accepted.raw_append_time_ms >= (sent_ms if is_broker_clock else moment)
    assert accepted.raw_append_time_ms <= record.timestamp <= epoch_ms()
    assert accepted.transaction.amount_reference_minor == 2350
    assert accepted.ingest_started_us <= accepted.ingest_ended_us
    assert trace is not None
    assert trace.trace_id != TRACEPARENT[3:35].decode()
    assert trace.is_sampled


def test_record_of_a_replay_is_judged_by_its_timestamp(
    replay_env: dict[str, str], service: ServiceLauncher
) -> None:
    """Old records are not late; one late by its own clock is, and a bad stamp is named."""
    recent = epoch_ms() - 2 * 86_400_000
    raw = Raw(replay_env)
    raw.send(good_sample(recent), timestamp_ms=recent + 1_000)
    raw.send(good_sample(recent), timestamp_ms=recent + 25 * 3_600_000)
    raw.send(good_sample(recent), timestamp_ms=recent // 1_000)
    service("services.ingest", [], replay_env)

    accepted, late, letter = raw.read(ACCEPTED, 1), raw.read(LATE, 1), raw.read(DLQ, 1)[0]
    raw.close()
    assert accepted[0].timestamp == recent + 1_000
    assert late[0].timestamp == recent + 25 * 3_600_000
    assert AcceptedTransaction.FromString(late[0].value).transaction.card_token
    assert dict(letter.headers)["reason"] == b"RECORD_TIME"
    assert "the record's timestamp looks like seconds" in json.loads(letter.value)["message"]


@pytest.mark.parametrize("stamp", ["1 ms", "seconds", "a year ahead", "2 h behind", "50 h behind"])
def test_stamp_of_a_live_sender_moves_nothing(
    ingest_env: dict[str, str], raw: Raw, service: ServiceLauncher, stamp: str
) -> None:
    """A good event is accepted with a time of this moment, one of 50 hours ago is late."""
    began_ms = epoch_ms()
    stamps = {
        "1 ms": 1,
        "seconds": began_ms // 1_000,
        "a year ahead": began_ms + 365 * 86_400_000,
        "2 h behind": began_ms - 2 * 3_600_000,
        "50 h behind": began_ms - 50 * 3_600_000,
    }
    raw.send(good_sample(began_ms), timestamp_ms=stamps[stamp])
    raw.send(good_sample(began_ms - 50 * 3_600_000), timestamp_ms=stamps[stamp])
    service("services.ingest", [], ingest_env)

    for record in (*raw.read(ACCEPTED, 1), *raw.read(LATE, 1)):
        row = AcceptedTransaction.FromString(record.value)
        assert began_ms <= row.raw_append_time_ms <= record.timestamp <= epoch_ms()


def test_every_bad_sample_is_dead_lettered_mended_and_accepted(
    ingest_env: dict[str, str],
    raw: Raw,
    service: ServiceLauncher,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each has its reason; `dlq list` finds it, `dlq replay` corrects it, and it passes once."""
    samples = bad_samples(epoch_ms())
    places = {raw.send(sample.value, sample.headers): sample for sample in samples}
    raw.send(good_sample(epoch_ms()))
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
    in_topic = raw.read(DLQ, 2 * len(samples))
    assert len([one for one in in_topic if REPLAYED not in dict(one.headers)]) == len(samples)
    holds_no_card_number(letters, accepted, ingest.log_text())


def holds_no_card_number(letters: list, accepted: list, log: str) -> None:  # type: ignore[type-arg]  # as above
    """Neither a letter, an accepted record nor the log holds the samples' number."""
    everything = b"".join(record.key + record.value for record in [*letters, *accepted])
    everything += b"".join(text for record in letters for _, text in record.headers)

    assert pan_of(10_000).encode() not in everything
    assert pan_of(10_000) not in log


def place_of(letter) -> tuple[int, int]:  # type: ignore[no-untyped-def]  # kafka-python has no types
    """Return the source place that a letter names."""
    headers = dict(letter.headers)
    return int(headers["partition"]), int(headers["offset"])


def mend_of(sample: BadSample, folder: Path) -> list[str]:
    """Return the arguments that correct a sample."""
    if sample.correction and not sample.card:
        return sample.correction
    if sample.card:
        changes = folder / "changes.json"
        changes.write_text(json.dumps({"pan": sample.card}))
        return [*sample.correction, f"--set-from={changes}"]
    body = folder / "corrected.json"
    body.write_bytes(good_sample(epoch_ms()))
    return [f"--body={body}"]


def test_crash_loses_nothing(
    ingest_env: dict[str, str], raw: Raw, service: ServiceLauncher, tmp_path: Path
) -> None:
    """Killed anywhere between reading and committing, ingest takes up every record again."""
    identities = set()
    for _ in range(20):
        value = good_sample(epoch_ms())
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
    raw.send(good_sample(epoch_ms()))
    first = service("services.ingest", [], ingest_env)
    raw.read(ACCEPTED, 1)

    assert first.stop() == 0
    raw.send(good_sample(epoch_ms()))
    service("services.ingest", [], ingest_env)
    assert len(raw.read(ACCEPTED, 2)) == 2


@pytest.mark.both_brokers
def test_topics_check_names_what_is_wrong(
    ingest_env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Topics as created pass; another number of partitions or a missing topic is named, exit 78."""
    assert command(["topics", "check"], ingest_env) == 0
    assert command(["topics", "create"], ingest_env) == 0
    assert "transactions.raw.v1: was there, left as it is" in capsys.readouterr().out

    other = {**ingest_env, "FRAUD_INGEST_TOPIC_PARTITIONS": "7"}
    for asked in ("check", "create"):
        assert command(["topics", asked], other) == 78
        assert "6 partitions, expected 7" in capsys.readouterr().err
    new = {**ingest_env, "FRAUD_KAFKA_TOPIC_PREFIX": f"{ingest_env['FRAUD_KAFKA_TOPIC_PREFIX']}n-"}
    assert command(["topics", "create"], new) == 0
    assert "n-transactions.raw.v1: made" in capsys.readouterr().out
    missing = {**ingest_env, "FRAUD_KAFKA_TOPIC_PREFIX": "nowhere-"}
    assert command(["topics", "check"], missing) == 78
    assert "nowhere-transactions.raw.v1: missing" in capsys.readouterr().err


@pytest.mark.kafka
@pytest.mark.both_brokers
def test_topics_of_another_clock_are_named(
    kafka_broker: Broker,
    valkey: ValkeyServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Live topics take the broker's clock, a replay's the records' own; `check` tells each."""
    live = environment_of_test(kafka_broker, valkey)
    replay = environment_of_test(kafka_broker, valkey) | {"FRAUD_KAFKA_IS_REPLAY": "true"}
    create_topics(live, tmp_path)
    create_topics(replay, tmp_path)

    assert command(["topics", "check"], live) == 0
    assert command(["topics", "check"], replay) == 0
    capsys.readouterr()
    assert command(["topics", "check"], live | {"FRAUD_KAFKA_IS_REPLAY": "true"}) == 78
    told = capsys.readouterr().err
    assert "raw.v1: message.timestamp.type LogAppendTime, expected CreateTime" in told
    assert command(["topics", "check"], replay | {"FRAUD_KAFKA_IS_REPLAY": "false"}) == 78
    told = capsys.readouterr().err
    assert "accepted.v1: message.timestamp.type CreateTime, expected LogAppendTime" in told


def test_letter_keeps_its_time_in_a_replay_only(
    ingest_env: dict[str, str],
    raw: Raw,
    service: ServiceLauncher,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On live topics the option would promise what the broker does not do."""
    raw.send(b"{}")
    service("services.ingest", [], ingest_env)
    place = raw.read(DLQ, 1)[0]
    name = f"{place.partition}:{place.offset}"

    assert command(["dlq", "replay", name, "--at-original-time"], ingest_env) == 78
    assert "live topics take the broker's clock" in capsys.readouterr().err


def test_letter_that_is_not_there_is_said_so(
    ingest_env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong place is no crash."""
    assert command(["dlq", "show", "0:5"], ingest_env) == 78
    assert "no dead letter 0:5" in capsys.readouterr().err


@pytest.fixture
def two_letters(
    ingest_env: dict[str, str],
    raw: Raw,
    service: ServiceLauncher,
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    """Names of two letters with a currency that is none, in order of time."""
    for _ in range(2):
        fields = json.loads(good_sample(epoch_ms())) | {"currency": "EUX"}
        raw.send(json.dumps(fields, indent=1).encode())
    service("services.ingest", [], ingest_env)
    raw.read(DLQ, 2)
    assert command(["dlq", "list", "--reason", "CURRENCY"], ingest_env) == 0
    return [json.loads(line)["letter"] for line in capsys.readouterr().out.splitlines()]


def test_mend_that_ingest_would_refuse_is_not_sent(
    ingest_env: dict[str, str],
    raw: Raw,
    two_letters: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is told at once, instead of by a second letter that nobody looks for."""
    assert command(["dlq", "replay", two_letters[0], "--set=currency=EUZ"], ingest_env) == 65

    told = capsys.readouterr()
    assert "is not sent: CURRENCY: " in told.err
    assert "replayed" not in told.out
    assert len(raw.read(DLQ, 2)) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--reason", "CURENCY"],
        ["replay", "0:1", "--set=curency=EUR"],
        ["replay", "zero"],
        ["replay"],
        ["replay", "0:1", "--all"],
        ["replay", "0:1", "--reason", "CURRENCY"],
        ["replay", "--all", "--body", "file"],
    ],
)
def test_wrong_command_line_is_told_before_anything_is_read(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No broker is asked: none runs at the default address."""
    with pytest.raises(SystemExit) as ended:
        main(["dlq", *arguments])

    assert ended.value.code == 64
    assert "usage: " in capsys.readouterr().err


def test_letters_are_replayed_together_and_marked(
    ingest_env: dict[str, str],
    raw: Raw,
    two_letters: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--all` takes those that were not replayed yet; `list` says which were."""
    one_by_name = ["dlq", "replay", two_letters[0], "--set=currency=EUR"]
    rest = ["dlq", "replay", "--all", "--reason=CURRENCY", "--set=currency=EUR"]

    assert command(one_by_name, ingest_env) == 0
    assert command(rest, ingest_env) == 0

    sent = [json.loads(line)["replayed"] for line in capsys.readouterr().out.splitlines()]
    assert sent == two_letters
    raw.read(ACCEPTED, 2)
    assert command(["dlq", "list"], ingest_env) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["letter"], one["replayed"]) for one in listed] == [
        (name, True) for name in two_letters
    ]


def test_holder_of_the_private_key_sees_the_original(
    ingest_env: dict[str, str], two_letters: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the key the record as it was sent; without it a preview of safe fields."""
    key = ingest_env["FRAUD_INGEST_SEAL_PRIVATE_KEY_FILE"]

    assert command(["dlq", "show", two_letters[0], "--key", key], ingest_env) == 0
    opened = json.loads(capsys.readouterr().out)
    assert command(["dlq", "show", two_letters[0]], ingest_env) == 0
    closed = json.loads(capsys.readouterr().out)

    assert json.loads(opened["original"]["value"])["currency"] == "EUX"
    assert "original" not in closed
    assert closed["preview"]["currency"] == "EUX"
    assert closed["preview"]["pan"] == "<string, 16>"
    assert closed["first_seen"].endswith("Z")


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
