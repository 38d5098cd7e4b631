"""What a rebuild counts, restores and leaves to the stream, from logs that are written by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import pytest

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.broker.topic_info import Log, find_log
from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import FEATURE_NAMES, FEATURE_SET_HASH
from fraudstream.features.stored_values import CARD, CARD_VALUE, unpack_values
from fraudstream.runtime.clock import epoch_ms
from fraudstream.store.generations import Switch
from fraudstream.store.shard import AdmitOutcome, DoorRow, Role, ShardKeys, ShardRef
from fraudstream.store.shard_store import RECORD_LIFE_S, StateStore
from fraudstream.topics import ACCEPTED, DECISIONS, Topic, partition_of
from fraudstream.transaction.identity import DIGEST_BYTES, Identity, digest_of, identity_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision, Freshness, LogCoordinates
from fraudstream.v1.transaction_pb2 import Transaction
from services.features.rebuild.job import Filled, Progress
from services.features.rebuild.rebuilder import Rebuilder, RebuildParts, rebuilder_of
from tests.worlds.accepted_rows import decision_about, token_of, transaction_of
from tests.worlds.scoring_world import kafka_settings, redis_settings
from tests.worlds.store_shard import admit

_CARD = token_of("card-1")
_OLD_MS = (RECORD_LIFE_S + 3600) * 1000


def identity(transaction: Transaction) -> Identity:
    """Return the identity of a transaction."""
    return identity_of(transaction.bank_id, transaction.card_token, transaction.transaction_id)


@dataclass
class HandLog:
    """The logs of one card's shard."""

    store: StateStore
    producer: BatchProducer
    rebuilder: Rebuilder
    log: Log
    names: Mapping[Topic, str]

    @property
    def partition(self) -> int:
        """Where the card is."""
        return partition_of(_CARD.encode(), self.log.partitions)

    @property
    def shard(self) -> ShardRef:
        """Return the card's shard in its first generation."""
        return self.rebuilder.shard(self.partition)

    async def append(self, topic: Topic, values: Sequence[bytes], age_ms: int = 0) -> None:
        """Append records to the card's partition."""
        at_ms = epoch_ms() - age_ms
        records = [OutRecord(_CARD.encode(), v, self.partition, timestamp_ms=at_ms) for v in values]
        await self.producer.send(self.names[topic], records)

    async def accept(self, transactions: Sequence[Transaction], age_ms: int = 0) -> None:
        """Append accepted rows."""
        rows = [AcceptedTransaction(transaction=t).SerializeToString() for t in transactions]
        await self.append(ACCEPTED, rows, age_ms)

    async def decide(
        self,
        transaction: Transaction,
        applied: int | None = 0,
        age_ms: int = 0,
        score: float = 0.5,
    ) -> Decision:
        """Append the decision of a row that was decided while `next` was `applied`.

        None is what came by gRPC.
        """
        coordinates = LogCoordinates(topic_id=self.log.topic_id, partition=self.partition)
        made = decision_about(transaction)
        made.MergeFrom(
            Decision(
                feature_set_hash=FEATURE_SET_HASH,
                vector=bytes(4 * len(FEATURE_NAMES)),
                coordinates=None if applied is None else coordinates,
                freshness=Freshness(applied_offset=applied or 0),
            )
        )
        made.score = score
        await self.append(DECISIONS, [made.SerializeToString()], age_ms)
        return made

    async def fill(self) -> Filled:
        """Fill a generation of the shard."""
        return await self.rebuilder.fill(self.partition, Progress())

    async def rows_in(self, filled: Filled) -> int:
        """Return how many rows a filled generation has counted of the card."""
        key = self.keys(filled).state(CARD, _CARD)
        values, _, _ = await self.store.read_many([key])
        return int(unpack_values(values, CARD_VALUE)["state"]["rows"][0])

    def keys(self, filled: Filled) -> ShardKeys:
        """Return the keys of a filled generation."""
        return self.store.keys(filled.job.shard)

    async def value_of(self, key: str) -> bytes | None:
        """Return a stored value."""
        return (await self.store.read_many([key]))[0][0]


@pytest.fixture
async def logs(topics: Mapping[str, str]) -> AsyncIterator[HandLog]:
    """Logs without a record, and a store without a shard."""
    kafka = kafka_settings(topics)
    store = StateStore(redis_settings(topics))
    await store.connect()
    producer = BatchProducer(kafka)
    await producer.start()
    log = find_log(kafka, ACCEPTED)
    rebuilder = rebuilder_of(RebuildParts(store, kafka, epoch_ms), Role.CARD, log)
    names = {topic: kafka.topic(topic) for topic in (ACCEPTED, DECISIONS)}
    yield HandLog(store, producer, rebuilder, log, names)
    await producer.stop()
    await store.close()


async def test_rebuild_stops_before_the_first_row_that_nobody_decided(logs: HandLog) -> None:
    """What the stream has not decided it decides now, and all that follows comes after it."""
    rows = [transaction_of(f"t-{number}") for number in range(4)]
    await logs.accept(rows)
    for row in (rows[0], rows[1], rows[3]):
        await logs.decide(row, applied=2)

    filled = await logs.fill()

    assert filled.next_offset == 2
    assert await logs.rows_in(filled) == 2


async def test_rows_of_the_last_batch_are_left_to_the_stream(logs: HandLog) -> None:
    """Its worker may have ended before it sent the entities' rows: the stream sends them again."""
    rows = [transaction_of(f"t-{number}") for number in range(4)]
    await logs.accept(rows)
    for row in rows:
        await logs.decide(row, applied=0 if row in rows[:2] else 2)

    filled = await logs.fill()

    assert filled.next_offset == 2


async def test_marker_of_an_open_shard_says_what_was_applied(logs: HandLog) -> None:
    """While the stream runs its marker is newer than any decision."""
    rows = [transaction_of(f"t-{number}") for number in range(3)]
    await logs.accept(rows)
    for row in rows:
        await logs.decide(row)
    await logs.store.open_shard(logs.shard, 3)

    filled = await logs.fill()

    assert filled.next_offset == 3
    assert await logs.rows_in(filled) == 3


async def test_row_with_the_decided_digest_counts_and_not_the_first_copy(logs: HandLog) -> None:
    """The door decided t-1; a conflict came first in the log; the decided row counts, once."""
    conflict, decided = transaction_of("t-1", 999), transaction_of("t-1", 100)
    await logs.accept([conflict, decided, decided])
    await logs.decide(decided, applied=3)

    filled = await logs.fill()

    assert await logs.rows_in(filled) == 1
    claim = await logs.value_of(logs.keys(filled).claim(identity(decided)))
    assert claim is not None
    assert claim[:DIGEST_BYTES] == digest_of(decided)


async def test_first_decision_of_an_identity_is_restored(logs: HandLog) -> None:
    """A later, different one never overwrites; other bytes are skipped."""
    row = transaction_of("t-1")
    await logs.accept([row])
    await logs.append(DECISIONS, [b"\xff\xff\xff"])
    first = await logs.decide(row, applied=1)
    await logs.decide(row, applied=1, score=0.9)

    filled = await logs.fill()

    record = await logs.value_of(logs.keys(filled).record(identity(row)))
    assert record == digest_of(row) + first.SerializeToString()


async def test_record_that_is_there_stays(logs: HandLog) -> None:
    """Restoring never overwrites what the store still knows, but has it live for as long."""
    row = transaction_of("t-1")
    await logs.accept([row])
    await logs.decide(row, applied=1)
    key = logs.store.keys(logs.shard).record(identity(row))
    await logs.store.nodes.pipeline([("SET", key, b"stands", "EX", 60)])

    await logs.fill()

    assert await logs.value_of(key) == b"stands"
    (life_s,) = await logs.store.nodes.pipeline([("TTL", key)])
    assert life_s == pytest.approx(RECORD_LIFE_S, abs=60)


async def test_old_rows_count_without_record_and_claim(logs: HandLog) -> None:
    """What was applied longer ago than a record lives is counted, and no more is known of it."""
    old, young = transaction_of("t-1"), transaction_of("t-2")
    await logs.accept([old], age_ms=_OLD_MS)
    await logs.decide(old, age_ms=_OLD_MS)
    await logs.accept([young])
    await logs.decide(young, applied=1)

    filled = await logs.fill()

    assert filled.next_offset == 1
    assert await logs.rows_in(filled) == 1
    assert await logs.value_of(logs.keys(filled).record(identity(old))) is None
    assert await logs.value_of(logs.keys(filled).claim(identity(old))) is None


async def test_lives_are_counted_to_the_first_unread_row(logs: HandLog) -> None:
    """After a long stop the stream finds records and claims as if it had never stood still."""
    applied, unread = transaction_of("t-1"), transaction_of("t-2")
    for row in (applied, unread):
        await logs.accept([row], age_ms=_OLD_MS)
        await logs.decide(row, applied=1, age_ms=_OLD_MS)

    filled = await logs.fill()

    assert filled.next_offset == 1
    assert await logs.value_of(logs.keys(filled).record(identity(unread))) is not None
    assert await logs.value_of(logs.keys(filled).claim(identity(applied))) is not None


async def test_applied_row_counts_though_its_decision_aged_out(logs: HandLog) -> None:
    """Below `next` every row was applied, also where the decisions topic begins later."""
    rows = [transaction_of("t-1"), transaction_of("t-1"), transaction_of("t-2")]
    await logs.accept(rows)
    await logs.decide(rows[2], applied=3)

    filled = await logs.fill()

    assert filled.next_offset == 3
    assert await logs.rows_in(filled) == 2


async def test_rebuilt_rows_leave_the_pending_list(logs: HandLog) -> None:
    """A row that is in the state is not counted a second time at the door."""
    row, other = transaction_of("t-1"), transaction_of("t-2")
    await logs.store.open_shard(logs.shard, 0)
    door = [DoorRow(identity(each), digest_of(each), _CARD, b"row") for each in (row, other)]
    await admit(logs.store, logs.shard, door)
    await logs.accept([row])
    await logs.decide(row, applied=1)

    filled = await logs.fill()
    await logs.rebuilder.switch(filled)

    third = DoorRow(b"3" * 16, b"3" * 32, _CARD, b"row")
    (answer,) = await admit(logs.store, filled.job.shard, [third])
    assert answer.outcome is AdmitOutcome.ADMITTED
    assert [entry.identity for entry in answer.pending] == [identity(other)]


async def test_accepted_row_that_a_loss_cut_off_is_sent_again(logs: HandLog) -> None:
    """The door's decision is in the log and its row is not: a scorer publishes both once more."""
    streamed, sent, unsent = (transaction_of(f"t-{number}") for number in range(3))
    await logs.decide(streamed)
    for row in (sent, unsent):
        await logs.decide(row, applied=None)
    await logs.accept([transaction_of("t-9"), sent, transaction_of("t-2", 999)])

    filled = await logs.fill()
    await logs.rebuilder.switch(filled)

    found = await logs.store.take_unpublished(filled.job.shard, 5_000, 9)
    assert [entry.identity for entry in found] == [identity(unsent)]


async def test_store_that_lost_some_of_the_filling_is_not_switched(logs: HandLog) -> None:
    """A flush while a generation is filled takes its witness too."""
    await logs.accept([transaction_of("t-1")])
    filled = await logs.fill()
    await logs.store.nodes.pipeline([("DEL", logs.keys(filled).witness)])

    assert await logs.rebuilder.switch(filled) is Switch.LOST
    assert await logs.store.marker(logs.shard) is None


async def test_marker_that_changed_meanwhile_is_left_alone(logs: HandLog) -> None:
    """The pointer moves only if it is what was read at the start."""
    filled = await logs.fill()
    opened = await logs.store.open_shard(logs.shard, 0)

    assert await logs.rebuilder.switch(filled) is Switch.OTHER
    assert await logs.store.marker(logs.shard) == opened


async def test_earlier_generation_is_freed_after_the_switch(logs: HandLog) -> None:
    """Two generations of states stay no longer than the switch takes."""
    row = transaction_of("t-1")
    await logs.accept([row])
    await logs.decide(row, applied=1)
    first = await logs.fill()
    await logs.rebuilder.switch(first)
    second = await logs.fill()

    assert await logs.rebuilder.switch(second) is Switch.SWITCHED
    assert await logs.value_of(logs.keys(first).state(CARD, _CARD)) is None
    assert await logs.rows_in(second) == 1


async def test_decisions_topic_of_other_width_is_refused(logs: HandLog) -> None:
    """A card's decisions are looked for in the partition of its rows."""
    logs.rebuilder.log = Log(logs.log.name, logs.log.topic_id, logs.log.partitions + 1)

    with pytest.raises(InvalidSettings, match="both need the same count"):
        await logs.fill()
