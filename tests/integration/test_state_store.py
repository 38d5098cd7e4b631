"""The store's scripts on a real Valkey: each rule, and the ways in which its absence goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
import redis.asyncio as redis
from pydantic import SecretStr

from demo.servers import ValkeyServer
from fraudstream.errors import OnlineStoreUnavailable, ShardClosed, ShardMoved
from fraudstream.settings import RedisSettings
from fraudstream.shard import (
    AdmitOutcome,
    DoorRow,
    RecordOutcome,
    RecordRow,
    Role,
    ShardRef,
    incarnation_of,
    pack_claim,
)
from fraudstream.state_store import (
    PENDING_UNDECIDED_MS,
    ShardWrite,
    StateStore,
    StoredValue,
)

_SHARD = ShardRef(Role.CARD, 3, incarnation_of(bytes(16), 6))
_CARD = "bank.k1.card"
_X, _Y, _Z = (bytes([number] * 16) for number in (1, 2, 3))
_D1, _D2 = b"1" * 32, b"2" * 32
_NOW_MS = 1_700_000_000_000


def _settings(environment: Mapping[str, str], **more: float) -> RedisSettings:
    return RedisSettings(
        url=SecretStr(environment["FRAUD_REDIS_URL"]),
        key_prefix=environment["FRAUD_REDIS_KEY_PREFIX"],
        timeout_s=more.get("timeout_s", 5.0),
    )


@pytest.fixture
async def store(line_env: Mapping[str, str]) -> AsyncIterator[StateStore]:
    """A connected store with keys of its own; its shard is open at 1."""
    opened = StateStore(_settings(line_env), lambda: _NOW_MS)
    await opened.connect()
    await opened.open_shard(_SHARD, 1)
    yield opened
    await opened.close()


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator[redis.Redis]:
    """A plain connection, for what no script does."""
    plain = redis.Redis.from_url(valkey.url)
    yield plain
    await plain.aclose()


def _decision(identity: bytes, digest: bytes, offset: int | None, value: bytes = b"D") -> RecordRow:
    return RecordRow(identity, digest, value, offset)


async def _record(store: StateStore, row: RecordRow) -> tuple[RecordOutcome, bytes]:
    answer = (await store.record_decisions(_SHARD, [row]))[0]
    return answer.outcome, answer.value


async def _claim(store: StateStore, identity: bytes, digest: bytes, begin: int) -> None:
    """Write a state write of one row: its claim, and `next` one further."""
    key = store.keys(_SHARD).claim(identity)
    write = ShardWrite(
        begin,
        begin + 1,
        [StoredValue(key, pack_claim(digest, begin), 60)],
        cards=[_CARD],
        finished=[identity + digest],
    )
    await store.write_shard(_SHARD, write)


async def _next(store: StateStore) -> int:
    marker = await store.marker(_SHARD)
    assert marker is not None
    return marker.next_offset


def _door(identity: bytes, digest: bytes = _D1, row: bytes = b"row") -> DoorRow:
    return DoorRow(identity, digest, _CARD, row)


async def _pending(store: StateStore, identity: bytes = b"p" * 16) -> list[bytes]:
    """Return the identities that a further transaction of the card finds pending."""
    answer = (await store.admit(_SHARD, [_door(identity)]))[0]
    await store.refuse(_SHARD, _CARD, identity)
    return [entry.identity for entry in answer.pending]


async def test_batch_after_a_lost_write_is_refused(store: StateStore) -> None:
    """Partial success: rows 1 to 3 were not written, so a write that begins at 4 is not next."""
    with pytest.raises(ShardMoved):
        await store.write_shard(_SHARD, ShardWrite(4, 6))

    assert await _next(store) == 1


async def test_zombie_write_after_another_worker_is_refused(store: StateStore) -> None:
    """The batch's own begin is compared, not what was read: a replay of 1..5 writes nothing."""
    await store.write_shard(_SHARD, ShardWrite(1, 5))
    state = StoredValue(store.keys(_SHARD).state("card", _CARD), b"twice", 60)

    with pytest.raises(ShardMoved):
        await store.write_shard(_SHARD, ShardWrite(1, 5, [state]))

    assert await store.read_shard(_SHARD, None, [state.key]) == [None]


async def test_read_by_a_zombie_is_refused(store: StateStore) -> None:
    """Features' read checks the begin as its write does."""
    await store.write_shard(_SHARD, ShardWrite(1, 5))

    with pytest.raises(ShardMoved):
        await store.read_shard(_SHARD, 1, [])


async def test_batch_of_duplicates_only_moves_next(store: StateStore) -> None:
    """A batch that counts nothing still moves the marker, or it would replay for ever."""
    await store.write_shard(_SHARD, ShardWrite(1, 9))

    assert await _next(store) == 9


async def test_claims_states_marks_and_marker_are_written_together_or_not_at_all(
    store: StateStore,
) -> None:
    """A refused write leaves no claim behind: a claim alone would make its row a duplicate."""
    names = store.keys(_SHARD)
    keys = [names.claim(_X), names.state("card", _CARD)]
    values = [StoredValue(key, b"value", 60) for key in keys]

    with pytest.raises(ShardMoved):
        await store.write_shard(_SHARD, ShardWrite(2, 3, values, [("source", "1:1:1")]))
    refused = await store.read_shard(_SHARD, 1, keys)
    await store.write_shard(_SHARD, ShardWrite(1, 3, values, [("source", "1:1:1")]))

    assert refused == [None, None]
    assert await store.read_shard(_SHARD, 3, keys) == [b"value", b"value"]
    assert (await store.read_many((), [names.marks]))[1] == [{b"source": b"1:1:1"}]


async def test_first_decision_of_an_identity_stays(store: StateStore) -> None:
    """A second decision of the same digest is answered with the first; another is a conflict."""
    first = await _record(store, _decision(_X, _D1, 1, b"first"))
    again = await _record(store, _decision(_X, _D1, 1, b"second"))
    other = await _record(store, _decision(_X, _D2, 2, b"other"))

    assert first[0] is RecordOutcome.RECORDED
    assert again == (RecordOutcome.EXISTS, b"first")
    assert other[0] is RecordOutcome.CONFLICT


async def test_stream_row_below_next_records_nothing(store: StateStore) -> None:
    """A zombie's rows are applied already; their decisions were made by another."""
    await store.write_shard(_SHARD, ShardWrite(1, 5))

    below = await _record(store, _decision(_X, _D1, 4))
    at_next = await _record(store, _decision(_Y, _D1, 5))
    by_grpc = await _record(store, _decision(_Z, _D1, None))

    assert below[0] is RecordOutcome.APPLIED
    assert at_next[0] is RecordOutcome.RECORDED
    assert by_grpc[0] is RecordOutcome.RECORDED


async def test_claim_with_another_digest_refuses_a_decision(store: StateStore) -> None:
    """What the state counted decides which digest may be decided, while there is no record."""
    await _claim(store, _X, _D1, 1)

    assert (await _record(store, _decision(_X, _D2, None)))[0] is RecordOutcome.CONFLICT
    assert (await _record(store, _decision(_X, _D1, None)))[0] is RecordOutcome.RECORDED


async def test_decided_row_is_told_apart_from_the_conflict_before_it(store: StateStore) -> None:
    """The door decides X/d1; the bank's X/d2 comes first in the log: the record's digest wins."""
    await _record(store, _decision(_X, _D1, None, b"door"))

    conflict = await _record(store, _decision(_X, _D2, 1))
    decided = await _record(store, _decision(_X, _D1, 2))

    assert conflict[0] is RecordOutcome.CONFLICT
    assert decided == (RecordOutcome.EXISTS, b"door")


async def test_record_and_outbox_entry_are_made_together(store: StateStore) -> None:
    """What is recorded waits to be published, by whoever lives; conflicts do not."""
    await _record(store, _decision(_X, _D1, None, b"X"))
    await _record(store, _decision(_X, _D2, None, b"other"))

    waiting = await store.unpublished(_SHARD, _NOW_MS, 10)

    assert [(entry.identity, entry.digest, entry.value) for entry in waiting] == [(_X, _D1, b"X")]
    assert await store.unpublished(_SHARD, _NOW_MS - 1, 10) == []


async def test_record_is_put_back_after_its_publication_is_acknowledged(
    store: StateStore, client: redis.Redis
) -> None:
    """The answer was given, the store lost record and outbox: settling restores the decision."""
    row = _decision(_X, _D1, None, b"X")
    await _record(store, row)
    names = store.keys(_SHARD)
    await client.delete(names.record(_X), names.outbox)

    await store.settle_published(_SHARD, [row])

    assert await _record(store, _decision(_X, _D1, None, b"new")) == (RecordOutcome.EXISTS, b"X")
    assert await store.unpublished(_SHARD, _NOW_MS, 10) == []


async def test_published_decision_leaves_the_outbox_and_stays_recorded(store: StateStore) -> None:
    """What is acknowledged is not published again by the sweep."""
    row = _decision(_X, _D1, None, b"X")
    await _record(store, row)

    await store.settle_published(_SHARD, [row])

    assert await store.unpublished(_SHARD, _NOW_MS, 10) == []
    assert await _record(store, row) == (RecordOutcome.EXISTS, b"X")


async def test_settling_never_replaces_another_record(store: StateStore) -> None:
    """A record that was made meanwhile stays: the fork shows on the topic, not in the store."""
    await _record(store, _decision(_X, _D1, None, b"stands"))

    await store.settle_published(_SHARD, [_decision(_X, _D1, None, b"late")])

    assert (await _record(store, _decision(_X, _D1, None)))[1] == b"stands"


async def test_outbox_entry_without_its_record_is_dropped(
    store: StateStore, client: redis.Redis
) -> None:
    """There is nothing to publish any more; the sweep must not stumble over it for ever."""
    await _record(store, _decision(_X, _D1, None))
    await client.delete(store.keys(_SHARD).record(_X))

    assert await store.unpublished(_SHARD, _NOW_MS, 10) == []
    assert await store.outbox_identities(_SHARD, [_X]) == set()


async def test_burst_at_the_door_sees_what_came_before_it(store: StateStore) -> None:
    """Pending entries are in order of admission, the same call's rows included."""
    answers = await store.admit(_SHARD, [_door(_X), _door(_Y), _door(_Z)])

    assert [[e.identity for e in a.pending] for a in answers] == [[], [_X], [_X, _Y]]
    assert {a.outcome for a in answers} == {AdmitOutcome.ADMITTED}


async def test_repeated_caller_leaves_no_ghost(store: StateStore) -> None:
    """A repeat joins the list once; after the state write it does not join again."""
    await store.admit(_SHARD, [_door(_X), _door(_X)])
    once = await _pending(store)
    await _claim(store, _X, _D1, 1)
    after_write = await _pending(store)
    await store.admit(_SHARD, [_door(_X)])

    assert once == [_X]
    assert after_write == []
    assert await _pending(store) == []


async def test_entry_of_a_dead_scorer_is_dropped_after_the_longest_deadline(
    store: StateStore, line_env: Mapping[str, str]
) -> None:
    """An old entry without a decision of its own is nobody's; a decided one waits for its row."""
    later = StateStore(_settings(line_env), lambda: _NOW_MS + PENDING_UNDECIDED_MS + 1)
    await later.connect()
    await store.admit(_SHARD, [_door(_X), _door(_Y), _door(_Z)])
    await _record(store, _decision(_Y, _D1, None))
    await _record(store, _decision(_Z, _D2, None))

    in_time = (await store.admit(_SHARD, [_door(b"a" * 16)]))[0]
    too_late = (await later.admit(_SHARD, [_door(b"b" * 16)]))[0]
    await later.close()

    assert [entry.identity for entry in in_time.pending] == [_X, _Y, _Z]
    assert [entry.identity for entry in too_late.pending] == [_Y]


async def test_repeat_of_a_pending_row_sees_only_what_came_before_it(store: StateStore) -> None:
    """A repeated row is not counted before itself."""
    await store.admit(_SHARD, [_door(_X), _door(_Y)])

    answer = (await store.admit(_SHARD, [_door(_X)]))[0]

    assert answer.outcome is AdmitOutcome.ADMITTED
    assert answer.pending == ()


async def test_state_write_finishes_only_the_digest_that_it_counted(store: StateStore) -> None:
    """A pending entry of another digest is its own caller's to remove."""
    await store.admit(_SHARD, [_door(_X, _D2)])

    await _claim(store, _X, _D1, 1)

    assert await _pending(store) == [_X]


async def test_door_knows_decided_claimed_and_pending_transactions(store: StateStore) -> None:
    """A record answers, and another digest than the known one is a conflict wherever it is."""
    await _record(store, _decision(_X, _D1, None, b"X"))
    await _claim(store, _Y, _D1, 1)
    await store.admit(_SHARD, [_door(_Z)])

    rows = [_door(_X), _door(_X, _D2), _door(_Y, _D2), _door(_Z, _D2)]
    answers = await store.admit(_SHARD, rows)

    conflict = AdmitOutcome.CONFLICT
    assert [a.outcome for a in answers] == [AdmitOutcome.EXISTS, conflict, conflict, conflict]
    assert answers[0].value == b"X"
    assert await _pending(store) == [_Z]


async def test_full_pending_list_refuses_and_stays_as_it_is(store: StateStore) -> None:
    """256 entries bound a card's list; one more is told so."""
    rows = [_door(number.to_bytes(16, "big")) for number in range(300)]

    answers = await store.admit(_SHARD, rows)

    outcomes = [answer.outcome for answer in answers]
    assert outcomes[:256] == [AdmitOutcome.ADMITTED] * 256
    assert set(outcomes[256:]) == {AdmitOutcome.FULL}


async def test_door_reads_state_and_next_at_one_moment(store: StateStore) -> None:
    """The answer says which rows the state holds."""
    key = store.keys(_SHARD).state("card", _CARD)
    await store.write_shard(_SHARD, ShardWrite(1, 8, [StoredValue(key, b"state", 60)]))

    answer = (await store.admit(_SHARD, [_door(_X)]))[0]

    assert (answer.state, answer.next_offset) == (b"state", 8)


_OTHERS = [
    replace(_SHARD, incarnation=incarnation_of(b"n" * 16, 6)),
    replace(_SHARD, incarnation=incarnation_of(bytes(16), 7)),
    replace(_SHARD, generation="g2"),
    replace(_SHARD, layout="other"),
    replace(_SHARD, partition=4),
]


@pytest.mark.parametrize("other", _OTHERS, ids=["topic", "widened", "generation", "layout", "none"])
async def test_shard_of_another_marker_is_closed_for_all(
    store: StateStore, other: ShardRef
) -> None:
    """Closed, no script decides, reads or writes."""
    row = _decision(_X, _D1, None)

    with pytest.raises(ShardClosed):
        await store.record_decisions(other, [row])
    with pytest.raises(ShardClosed):
        await store.admit(other, [_door(_X)])
    with pytest.raises(ShardClosed):
        await store.read_shard(other, 1, [])
    with pytest.raises(ShardClosed):
        await store.write_shard(other, ShardWrite(1, 2))

    assert (await _record(store, row))[0] is RecordOutcome.RECORDED


async def test_another_primary_closes_the_shard(store: StateStore, client: redis.Redis) -> None:
    """A replica that was promoted may lack the last writes; the marker names who opened it."""
    await client.hset(store.keys(_SHARD).marker, "primary", "another")

    with pytest.raises(ShardClosed):
        await store.record_decisions(_SHARD, [_decision(_X, _D1, None)])
    assert not store.is_open(_SHARD, await store.marker(_SHARD))


async def test_primary_is_looked_at_on_every_connection(store: StateStore) -> None:
    """A connection made anew learns who answers it."""
    expected = store.primary
    assert len(expected) == 40

    await store.close()
    store._primary = ""  # what a reconnection must fill
    await store.marker(_SHARD)

    assert store.primary == expected


async def test_flushed_store_is_closed(store: StateStore, client: redis.Redis) -> None:
    """Without its marker a shard decides nothing."""
    await client.delete(store.keys(_SHARD).marker)

    with pytest.raises(ShardClosed):
        await store.record_decisions(_SHARD, [_decision(_X, _D1, None)])
    assert await store.marker(_SHARD) is None


async def test_open_shard_is_not_opened_twice(store: StateStore) -> None:
    """The marker that stands is answered; a second opener changes nothing."""
    await store.write_shard(_SHARD, ShardWrite(1, 7))

    assert (await store.open_shard(_SHARD, 0)).next_offset == 7


async def test_scripts_are_loaded_again_where_the_server_forgot_them(
    store: StateStore, client: redis.Redis
) -> None:
    """A script that is not there did not run, so it is safe to load and run it."""
    await client.script_flush()

    assert (await _record(store, _decision(_X, _D1, None)))[0] is RecordOutcome.RECORDED


async def test_store_that_is_gone_is_an_error_of_ours(line_env: Mapping[str, str]) -> None:
    """Nobody listens: one attempt, at once."""
    gone = _settings({**line_env, "FRAUD_REDIS_URL": "redis://127.0.0.1:1/0"})

    with pytest.raises(OnlineStoreUnavailable):
        await StateStore(gone, lambda: _NOW_MS).connect()


async def test_store_that_does_not_answer_costs_one_timeout(line_env: Mapping[str, str]) -> None:
    """No retry is hidden: the outcome of a script is unknown after the first time-out."""
    calls = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        await reader.read()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    silent = {**line_env, "FRAUD_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    store = StateStore(_settings(silent, timeout_s=0.3), lambda: _NOW_MS)
    began = time.monotonic()

    with pytest.raises(OnlineStoreUnavailable):
        await store.marker(_SHARD)

    assert time.monotonic() - began < 3.0
    assert len(calls) == 1
    await store.close()
    server.close()
