"""The poll loop commits what was acknowledged and nothing else; one record never fails a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event

import pytest
from kafka.errors import CommitFailedError
from kafka.structs import OffsetAndMetadata, TopicPartition
from nacl.public import PrivateKey

from fraudstream.broker.clients import OutRecord
from fraudstream.dead_letters.letter import LetterWriter
from fraudstream.errors import BrokerUnavailable, StreamStalled
from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry.spans import Telemetry
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.topics import RAW
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.formats import Headers
from fraudstream.transaction.money import RateTable, indicative_rate_table
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from services.ingest.loop import IngestLoop
from services.ingest.pan_opener import PanOpener
from services.ingest.processor import Canon, Outcome, RecordProcessor
from tests.material.bad_samples import good_sample

NOW_MS = 1_780_000_000_000
BROKER_CLOCK, SENDER_CLOCK = 1, 0
PLACE = TopicPartition(RAW.name, 0)


@dataclass(frozen=True)
class Record:
    """A raw record."""

    offset: int
    value: bytes | None
    topic: str = RAW.name
    partition: int = 0
    timestamp: int = NOW_MS
    timestamp_type: int = BROKER_CLOCK
    key: bytes | None = None
    headers: Headers = ()


@dataclass
class FakeConsumer:
    """A consumer of one partition in memory; tells the loop to stop at its end."""

    log: list[Record]
    stop: Event
    polls: int = 0
    next: int = 0
    committed: int = 0
    refuses_commits: bool = False

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        """Return two records at a time."""
        self.polls += 1
        batch = self.log[self.next : self.next + 2]
        self.next += len(batch)
        if not batch:
            self.stop.set()
        return {PLACE: batch} if batch else {}

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Keep the offset, unless the group moved on."""
        if self.refuses_commits:
            raise CommitFailedError
        self.committed = offsets[PLACE].offset

    def assignment(self) -> set[TopicPartition]:
        """Return the one partition."""
        return {PLACE}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go there."""
        self.next = offset

    def position(self, partition: TopicPartition, timeout_ms: int) -> int:
        """Return where the next poll begins."""
        return self.next


@dataclass
class FakeOutlet:
    """Topics in memory; fails as often as told, having taken some records before."""

    failures: int = 0
    sent: dict[Outcome, list[OutRecord]] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)

    def send(self, chunks: Mapping[Outcome, list[OutRecord]]) -> None:
        """Keep the records."""
        self.batches.append(sum(map(len, chunks.values())))
        for outcome, records in chunks.items():
            self.sent.setdefault(outcome, []).extend(records)
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailable("not acknowledged")

    def ids(self) -> set[str]:
        """Return the ids of what was accepted."""
        return {
            AcceptedTransaction.FromString(record.value).transaction.transaction_id
            for record in self.sent.get(Outcome.ACCEPTED, [])
        }


class FailingTokeniser(Tokeniser):
    """A fault of this software: fails for one bank."""

    def token_of(self, bank_id: str, pan: str) -> str:  # type: ignore[override]  # never returns
        """Fail."""
        raise ZeroDivisionError(pan)


def processor_with(tokeniser: Tokeniser, rates: RateTable | None = None) -> RecordProcessor:
    """Return a processor with fixed keys and clock."""
    key = PrivateKey(bytes(range(32)))
    return RecordProcessor(
        Canon(tokeniser, rates or indicative_rate_table(), PanOpener(None), TimeBounds()),
        LetterWriter(key.public_key, "ingest", lambda: NOW_MS),
        dict.fromkeys(Outcome, 6),
        0.0,
        lambda: NOW_MS * 1_000,
    )


TOKENISER = Tokeniser(TokenKeys("k1", {"k1": bytes(32)}))


def run(consumer: FakeConsumer, outlet: FakeOutlet) -> None:
    """Run the loop until the consumer is at its end."""
    telemetry = Telemetry(TelemetrySettings(), "ingest")
    loop = IngestLoop(consumer, processor_with(TOKENISER), outlet, telemetry, lambda _is_idle: None)
    loop.run(consumer.stop)


class NoPause(Event):
    """A stop signal whose waiting takes no time."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        return self.is_set()


def log_of(number: int) -> list[Record]:
    """Return good records, with a bad one in the middle."""
    records = [Record(offset, good_sample(NOW_MS)) for offset in range(number)]
    records[number // 2] = Record(number // 2, b"nonsense")
    return records


def test_everything_read_is_sent_and_committed() -> None:
    """A bad record among good ones goes its own way; the offset moves past it."""
    consumer, outlet = FakeConsumer(log_of(7), NoPause()), FakeOutlet()
    run(consumer, outlet)

    assert consumer.committed == 7
    assert len(outlet.ids()) == len(outlet.sent[Outcome.ACCEPTED]) == 6
    assert len(outlet.sent[Outcome.DEAD_LETTERED]) == 1


def test_what_was_not_acknowledged_is_read_again() -> None:
    """After a failure the same records are sent once more, and only then committed."""
    consumer, outlet = FakeConsumer(log_of(7), NoPause()), FakeOutlet(failures=3)
    run(consumer, outlet)

    assert consumer.committed == 7
    assert len(outlet.ids()) == 6
    assert len(outlet.sent[Outcome.ACCEPTED]) == 6 + 3 * 3  # the fourth of a poll is bad


def test_poll_of_large_records_is_worked_on_in_parts() -> None:
    """Each part is sent and committed before the next is read: memory and time of one are bound."""
    log = [Record(offset, bytes(9 << 20)) for offset in range(6)]
    consumer, outlet = FakeConsumer(log, NoPause()), FakeOutlet()
    run(consumer, outlet)

    worked_on = consumer.committed
    assert worked_on >= 4
    assert outlet.batches == [1] * worked_on
    assert [record.key for record in outlet.sent[Outcome.DEAD_LETTERED]] == [
        f"{RAW.name}/0/{offset}".encode() for offset in range(worked_on)
    ]


def test_little_is_gathered_with_what_comes_next() -> None:
    """A poll of a few records waits a moment for more: what is sent together costs less."""
    consumer, outlet = FakeConsumer(log_of(7), NoPause()), FakeOutlet()
    run(consumer, outlet)

    assert outlet.batches == [4, 3]


def test_broker_that_stays_away_ends_the_service() -> None:
    """Nothing is committed, and the supervisor starts it again."""
    consumer, outlet = FakeConsumer(log_of(3), NoPause()), FakeOutlet(failures=100)

    with pytest.raises(StreamStalled):
        run(consumer, outlet)
    assert consumer.committed == 0


def test_refused_commit_does_not_end_the_service() -> None:
    """A rebalance took the partition: its new owner reads on from the last commit."""
    consumer = FakeConsumer(log_of(5), NoPause(), refuses_commits=True)
    outlet = FakeOutlet()
    run(consumer, outlet)

    assert len(outlet.ids()) == 4


def test_stop_signal_ends_the_loop_before_the_next_poll() -> None:
    """Nothing is read that would not be worked on."""
    stop = NoPause()
    stop.set()
    consumer = FakeConsumer(log_of(5), stop)
    run(consumer, FakeOutlet())

    assert (consumer.polls, consumer.committed) == (0, 0)


def test_fault_of_this_software_becomes_a_dead_letter(caplog: pytest.LogCaptureFixture) -> None:
    """The record is kept under seal, and neither log nor letter says what it held."""
    processor = processor_with(FailingTokeniser(TokenKeys("k1", {"k1": bytes(32)})))
    processed = processor.process(Record(0, good_sample(NOW_MS)), NOW_MS * 1_000)

    assert (processed.outcome, processed.reason) == (Outcome.DEAD_LETTERED, "INTERNAL")
    assert caplog.messages == [f"ZeroDivisionError at {RAW.name}/0/0"]


@pytest.mark.parametrize("traceparent", [b"nonsense", b"", None])
def test_malformed_trace_context_starts_a_new_trace(traceparent: bytes | None) -> None:
    """A spoofed header is ignored, and never copied."""
    headers = [("traceparent", traceparent)]
    record = Record(0, good_sample(NOW_MS), headers=headers)  # type: ignore[arg-type]  # Kafka allows None
    processed = processor_with(TOKENISER).process(record, NOW_MS * 1_000)
    sent = TraceContext.parse(dict(processed.record.headers)["traceparent"])

    assert processed.outcome == Outcome.ACCEPTED
    assert sent == processed.span


def test_all_records_of_a_card_go_to_one_partition() -> None:
    """The key's partition, whatever the raw partition was."""
    processor = processor_with(TOKENISER)
    found = {
        processor.process(Record(0, good_sample(NOW_MS), partition=number), 0).record.partition
        for number in range(6)
    }

    assert len(found) == 1


@pytest.mark.parametrize(
    ("stamp_ms", "append_time_ms"),
    [
        (NOW_MS - 60_000, NOW_MS - 60_000),
        (NOW_MS - 3_600_000, NOW_MS),
        (NOW_MS + 1, NOW_MS),
        (NOW_MS // 1_000, NOW_MS),
        (-1, NOW_MS),
    ],
)
def test_stamp_of_a_sender_counts_where_the_clock_agrees(
    stamp_ms: int, append_time_ms: int
) -> None:
    """Anything else would let one record look old or new to all that follows."""
    record = Record(0, good_sample(NOW_MS), timestamp=stamp_ms, timestamp_type=SENDER_CLOCK)
    processed = processor_with(TOKENISER).process(record, NOW_MS * 1_000)

    assert processed.outcome == Outcome.ACCEPTED
    assert processed.record.timestamp_ms == append_time_ms


def test_stamp_of_the_broker_is_the_append_time() -> None:
    """However long ingest was away."""
    day_ago_ms = NOW_MS - 86_400_000
    record = Record(0, good_sample(day_ago_ms), timestamp=day_ago_ms)
    processed = processor_with(TOKENISER).process(record, (NOW_MS + 86_400_000) * 1_000)

    assert processed.outcome == Outcome.ACCEPTED
    assert processed.record.timestamp_ms == day_ago_ms
