"""Admission at the gRPC door on a real Valkey: pending lists without ghosts."""

from __future__ import annotations

import struct
from typing import Any

import redis.asyncio as redis

from fraudstream.store.shard import AdmitOutcome
from fraudstream.store.shard_store import PENDING_UNDECIDED_MS, ShardWrite, StateStore, StoredValue
from tests.worlds.store_shard import (
    CARD,
    D1,
    D2,
    SHARD,
    X,
    Y,
    Z,
    admit,
    decision_row,
    door_row,
    pending_of,
    record_row,
    write_claim,
)


async def test_burst_at_the_door_sees_what_came_before_it(store: StateStore) -> None:
    """Pending entries are in order of admission, the same call's rows included."""
    answers = await admit(store, SHARD, [door_row(X), door_row(Y), door_row(Z)])

    assert [[e.identity for e in a.pending] for a in answers] == [[], [X], [X, Y]]
    assert {a.outcome for a in answers} == {AdmitOutcome.ADMITTED}


async def test_repeated_caller_leaves_no_ghost(store: StateStore) -> None:
    """A repeat joins the list once; after the state write it does not join again."""
    await admit(store, SHARD, [door_row(X), door_row(X)])
    once = await pending_of(store)
    await write_claim(store, X, D1, 1)
    after_write = await pending_of(store)
    await admit(store, SHARD, [door_row(X)])

    assert once == [X]
    assert after_write == []
    assert await pending_of(store) == []


async def test_entry_of_a_dead_scorer_is_dropped_after_the_longest_deadline(
    store: StateStore, client: redis.Redis
) -> None:
    """An old entry without a decision of its own is nobody's; a decided one waits for its row."""
    await admit(store, SHARD, [door_row(X), door_row(Y), door_row(Z)])
    await record_row(store, decision_row(Y, D1, None))
    await record_row(store, decision_row(Z, D2, None))

    in_time = (await admit(store, SHARD, [door_row(b"a" * 16)]))[0]
    await _age_pending(client, store.keys(SHARD).pending(CARD))
    too_late = (await admit(store, SHARD, [door_row(b"b" * 16)]))[0]

    assert [entry.identity for entry in in_time.pending] == [X, Y, Z]
    assert [entry.identity for entry in too_late.pending] == [Y]


async def test_entry_ages_by_the_clock_of_the_store(store: StateStore, client: redis.Redis) -> None:
    """A scorer whose clock is wrong neither drops what another admitted nor leaves ghosts."""
    before_ms = (await client.time())[0] * 1000
    await admit(store, SHARD, [door_row(X)])
    (entry,) = (await admit(store, SHARD, [door_row(Y)]))[0].pending

    assert before_ms <= entry.admitted_ms < (await client.time())[0] * 1000 + 1000
    assert (entry.identity, entry.digest, entry.row) == (X, D1, b"row")


async def _age_pending(client: redis.Redis, name: str) -> None:
    """Let every entry of a pending list be as old as if it was admitted longer ago than may be."""
    seconds, _ = await client.time()
    old = struct.pack("<q", seconds * 1000 - PENDING_UNDECIDED_MS - 1)
    plain: Any = client
    for place, entry in enumerate(await plain.lrange(name, 0, -1)):
        await plain.lset(name, place, entry[:48] + old + entry[56:])


async def test_repeat_of_a_pending_row_sees_only_what_came_before_it(store: StateStore) -> None:
    """A repeated row is not counted before itself."""
    await admit(store, SHARD, [door_row(X), door_row(Y)])

    answer = (await admit(store, SHARD, [door_row(X)]))[0]

    assert answer.outcome is AdmitOutcome.ADMITTED
    assert answer.pending == ()


async def test_state_write_finishes_only_the_digest_that_it_counted(store: StateStore) -> None:
    """A pending entry of another digest is its own caller's to remove."""
    await admit(store, SHARD, [door_row(X, D2)])

    await write_claim(store, X, D1, 1)

    assert await pending_of(store) == [X]


async def test_door_knows_decided_claimed_and_pending_transactions(store: StateStore) -> None:
    """A record answers, and another digest than the known one is a conflict wherever it is."""
    await record_row(store, decision_row(X, D1, None, b"X"))
    await write_claim(store, Y, D1, 1)
    await admit(store, SHARD, [door_row(Z)])

    rows = [door_row(X), door_row(X, D2), door_row(Y, D2), door_row(Z, D2)]
    answers = await admit(store, SHARD, rows)

    conflict = AdmitOutcome.CONFLICT
    assert [a.outcome for a in answers] == [AdmitOutcome.EXISTS, conflict, conflict, conflict]
    assert answers[0].value == b"X"
    assert await pending_of(store) == [Z]


async def test_full_pending_list_refuses_and_stays_as_it_is(store: StateStore) -> None:
    """256 entries bound a card's list; one more is told so."""
    rows = [door_row(number.to_bytes(16, "big")) for number in range(300)]

    answers = await admit(store, SHARD, rows)

    outcomes = [answer.outcome for answer in answers]
    assert outcomes[:256] == [AdmitOutcome.ADMITTED] * 256
    assert set(outcomes[256:]) == {AdmitOutcome.FULL}


async def test_door_reads_state_and_next_at_one_moment(store: StateStore) -> None:
    """The answer says which rows the state holds."""
    key = store.keys(SHARD).state("card", CARD)
    await store.write_shard(SHARD, ShardWrite(1, 8, [StoredValue(key, b"state", 60)]))

    answer = (await admit(store, SHARD, [door_row(X)]))[0]

    assert (answer.state, answer.next_offset) == (b"state", 8)
