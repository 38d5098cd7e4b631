"""Decision records and their outbox on a real Valkey: the first decision stays."""

from __future__ import annotations

import redis.asyncio as redis

from fraudstream.store.shard import RecordOutcome
from fraudstream.store.shard_store import ShardWrite, StateStore
from tests.worlds.store_shard import D1, D2, SHARD, X, Y, Z, decision_row, record_row, write_claim


async def test_first_decision_of_an_identity_stays(store: StateStore) -> None:
    """A second decision of the same digest is answered with the first; another is a conflict."""
    first = await record_row(store, decision_row(X, D1, 1, b"first"))
    again = await record_row(store, decision_row(X, D1, 1, b"second"))
    other = await record_row(store, decision_row(X, D2, 2, b"other"))

    assert first[0] is RecordOutcome.RECORDED
    assert again == (RecordOutcome.EXISTS, b"first")
    assert other[0] is RecordOutcome.CONFLICT


async def test_stream_row_below_next_records_nothing(store: StateStore) -> None:
    """A zombie's rows are applied already; their decisions were made by another."""
    await store.write_shard(SHARD, ShardWrite(1, 5))

    below = await record_row(store, decision_row(X, D1, 4))
    at_next = await record_row(store, decision_row(Y, D1, 5))
    by_grpc = await record_row(store, decision_row(Z, D1, None))

    assert below[0] is RecordOutcome.APPLIED
    assert at_next[0] is RecordOutcome.RECORDED
    assert by_grpc[0] is RecordOutcome.RECORDED


async def test_claim_with_another_digest_refuses_a_decision(store: StateStore) -> None:
    """What the state counted decides which digest may be decided, while there is no record."""
    await write_claim(store, X, D1, 1)

    assert (await record_row(store, decision_row(X, D2, None)))[0] is RecordOutcome.CONFLICT
    assert (await record_row(store, decision_row(X, D1, None)))[0] is RecordOutcome.RECORDED


async def test_decided_row_is_told_apart_from_the_conflict_before_it(store: StateStore) -> None:
    """The door decides X/d1; the bank's X/d2 comes first in the log: the record's digest wins."""
    await record_row(store, decision_row(X, D1, None, b"door"))

    conflict = await record_row(store, decision_row(X, D2, 1))
    decided = await record_row(store, decision_row(X, D1, 2))

    assert conflict[0] is RecordOutcome.CONFLICT
    assert decided == (RecordOutcome.EXISTS, b"door")


async def test_record_and_outbox_entry_are_made_together(store: StateStore) -> None:
    """What is recorded waits to be published, by whoever lives; conflicts do not."""
    await record_row(store, decision_row(X, D1, None, b"X"))
    await record_row(store, decision_row(X, D2, None, b"other"))

    waiting = await store.take_unpublished(SHARD, 0, 10)

    assert [(entry.identity, entry.digest, entry.value) for entry in waiting] == [(X, D1, b"X")]


async def test_record_is_put_back_after_its_publication_is_acknowledged(
    store: StateStore, client: redis.Redis
) -> None:
    """The answer was given, the store lost record and outbox: settling restores the decision."""
    row = decision_row(X, D1, None, b"X")
    await record_row(store, row)
    names = store.keys(SHARD)
    await client.delete(names.record(X), names.outbox)

    await store.settle_published(SHARD, [row])

    assert await record_row(store, decision_row(X, D1, None, b"new")) == (
        RecordOutcome.EXISTS,
        b"X",
    )
    assert await store.take_unpublished(SHARD, 0, 10) == []


async def test_published_decision_leaves_the_outbox_and_stays_recorded(store: StateStore) -> None:
    """What is acknowledged is not published again by the sweep."""
    row = decision_row(X, D1, None, b"X")
    await record_row(store, row)

    await store.settle_published(SHARD, [row])

    assert await store.take_unpublished(SHARD, 0, 10) == []
    assert await record_row(store, row) == (RecordOutcome.EXISTS, b"X")


async def test_settling_never_replaces_another_record(store: StateStore) -> None:
    """A record that was made meanwhile stays: the fork shows on the topic, not in the store."""
    await record_row(store, decision_row(X, D1, None, b"stands"))

    await store.settle_published(SHARD, [decision_row(X, D1, None, b"late")])

    assert (await record_row(store, decision_row(X, D1, None)))[1] == b"stands"


async def test_outbox_entry_without_its_record_is_dropped(
    store: StateStore, client: redis.Redis
) -> None:
    """There is nothing to publish any more; the sweep must not stumble over it for ever."""
    await record_row(store, decision_row(X, D1, None))
    await client.delete(store.keys(SHARD).record(X))

    assert await store.take_unpublished(SHARD, 0, 10) == []
    assert await store.outbox_identities(SHARD, [X]) == set()


async def test_entry_ages_by_the_clock_of_the_store(store: StateStore, client: redis.Redis) -> None:
    """A scorer whose clock is an hour ahead keeps nobody from publishing what it left."""
    before_s = (await client.time())[0]
    await record_row(store, decision_row(X, D1, None))
    recorded_ms = await client.zscore(store.keys(SHARD).outbox, X)

    assert recorded_ms is not None
    assert before_s * 1000 <= recorded_ms < (await client.time())[0] * 1000 + 1000


async def test_young_entry_is_left_to_its_scorer(store: StateStore) -> None:
    """Whoever recorded it is publishing it."""
    await record_row(store, decision_row(X, D1, None))

    assert await store.take_unpublished(SHARD, 600_000, 10) == []


async def test_entry_is_taken_by_one_sweep(store: StateStore, client: redis.Redis) -> None:
    """Every scorer sweeps every shard; the first one publishes."""
    await record_row(store, decision_row(X, D1, None))
    await client.zadd(store.keys(SHARD).outbox, {X: 1})

    assert len(await store.take_unpublished(SHARD, 600_000, 10)) == 1
    assert await store.take_unpublished(SHARD, 600_000, 10) == []


async def test_held_entry_is_not_taken(store: StateStore, client: redis.Redis) -> None:
    """A slow scorer says that it lives; what was settled meanwhile stays settled."""
    outbox = store.keys(SHARD).outbox
    for identity in (X, Y):
        await record_row(store, decision_row(identity, D1, None))
    await client.zadd(outbox, {X: 1, Y: 1})
    await store.settle_published(SHARD, [decision_row(Y, D1, None)])

    await store.hold_unpublished(SHARD, [X, Y])

    assert await store.take_unpublished(SHARD, 600_000, 10) == []
    assert await store.outbox_identities(SHARD, [X, Y]) == {X}


async def test_loss_is_noted_when_it_is_first_seen(store: StateStore, client: redis.Redis) -> None:
    """Whoever sees it later is told how long ago that was; another loss is another."""
    first = await store.note_loss(SHARD, "store_empty")
    await client.hset(store.keys(SHARD).loss, "since", "1")

    assert first == 0
    assert await store.note_loss(SHARD, "store_empty") > 1_000_000
    assert await store.note_loss(SHARD, "another_primary") == 0
