"""Fill a generation of a card shard: records from the decisions, states and claims from the rows.

A row counts if it is the first in the log with the digest of its identity's first decision. What
the stream may not have finished with (its entity rows, its letters) is left to the stream: the
filling stops at the first row beyond the known `next` that is undecided, or whose record lives.
Lives of records and claims are counted to when that `next` was appended, as `first_decisions` says.
A decision whose accepted row or alert is not in the log is put into the outbox again: the entry
that promised it was lost with the store.
Memory: a card's state, 2.7 KB, for each card of the shard, besides `first_decisions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from fraudstream.broker.log_reader import ReadChunks
from fraudstream.features.card_kernel import advance_states
from fraudstream.features.catalogue import FEATURE_SET_HASH
from fraudstream.features.state import CARD_STATE, rows_of
from fraudstream.features.stored_values import CARD, CARD_VALUE
from fraudstream.store.generations import CHUNK, Generations
from fraudstream.store.shard import ShardKeys, pack_claim
from fraudstream.store.shard_store import (
    PENDING_LIFE_S,
    STATE_LIFE_S,
    StateStore,
    StoredValue,
)
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, partition_of, topic_id_of
from services.features.rebuild.first_decisions import (
    FirstDecisions,
    MadeDecision,
    decode_alerts,
    decode_decisions,
)
from services.features.rebuild.job import Filled, Job
from services.features.rows.accepted_rows import AcceptedRow, BadRow, decode_row

_FIRST_CARDS: Final = 1024
_VECTOR_BYTES: Final = CARD_VALUE["vector"].itemsize


class CardStates:
    """States of the cards of a shard, in memory."""

    def __init__(self) -> None:
        self._indices: dict[str, int] = {}
        self._states = np.zeros(_FIRST_CARDS, CARD_STATE)
        self._last: list[bytes] = []
        self._last_ms: list[int] = []

    @property
    def tokens(self) -> Iterable[str]:
        """Tokens of the cards."""
        return self._indices.keys()

    def last_identities(self) -> set[bytes]:
        """Return the identity of each card's last counted row."""
        return set(self._last)

    def advance(self, rows: Sequence[AcceptedRow]) -> None:
        """Move states on by counted rows, in log order."""
        if not rows:
            return
        for row in rows:
            index = self._indices.setdefault(row.card_token, len(self._indices))
            if index == len(self._last):
                self._last.append(b"")
                self._last_ms.append(0)
            self._last[index] = row.identity
            self._last_ms[index] = row.accepted.transaction.event_time_ms
        while len(self._indices) > len(self._states):
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
        state_of = np.array([self._indices[row.card_token] for row in rows], np.int64)
        packed = rows_of([row.accepted.transaction for row in rows])
        advance_states(self._states, state_of, packed)

    def values(self, names: ShardKeys, vectors: Mapping[bytes, bytes]) -> Iterator[StoredValue]:
        """Yield the packed values: each state beside the vector of its card's last decision.

        Args:
            names: Keys of the generation.
            vectors: Packed vectors by identity; a card without one has NaN.
        """
        tokens = list(self._indices)
        for begin in range(0, len(tokens), CHUNK):
            end = min(begin + CHUNK, len(tokens))
            values = np.zeros(end - begin, CARD_VALUE)
            values["state"] = self._states[begin:end]
            values["decided_ms"] = self._last_ms[begin:end]
            values["vector"] = np.nan
            for index, identity in enumerate(self._last[begin:end]):
                if identity in vectors:
                    values["vector"][index] = np.frombuffer(vectors[identity], "<f4")
            for index, token in enumerate(tokens[begin:end]):
                key = names.state(CARD, token)
                yield StoredValue(key, values[index].tobytes(), STATE_LIFE_S)


@dataclass(slots=True)
class _Replay:
    """A replay under way.

    Attributes:
        job: What was asked.
        names: Keys of the generation.
        decided: First decisions.
        horizon: Rows below it were applied before; those above may wait for the stream.
        now_ms: Epoch milliseconds.
        cards: States so far.
        counted: Identities that counted.
        stop: First offset of the shard's own log that is left to the stream, None where none is.
    """

    job: Job
    names: ShardKeys
    decided: FirstDecisions
    horizon: int
    now_ms: int
    cards: CardStates = field(default_factory=CardStates)
    counted: set[bytes] = field(default_factory=set)
    stop: int | None = None

    def own(self, chunk: Sequence[Any]) -> list[AcceptedRow]:
        """Return the rows of a chunk of the shard's own log that count, up to where it stops."""
        rows: list[AcceptedRow] = []
        for record in chunk:
            row = self._decode(record)
            is_left = record.offset >= self.horizon and not self._is_old(row)
            if is_left and self.stop is None:
                self.stop = int(record.offset)
            if self.stop is None and isinstance(row, AcceptedRow) and self._counts(row):
                rows.append(row)
        return rows

    def others(self, chunk: Sequence[Any]) -> list[AcceptedRow]:
        """Return the rows of a chunk of another partition that count here."""
        rows: list[AcceptedRow] = []
        for record in chunk:
            row = self._decode(record)
            if not isinstance(row, AcceptedRow) or not self.is_here(row.card_token):
                continue
            if self.decided.digest_of(row.identity) is not None and self._counts(row):
                rows.append(row)
        return rows

    def is_here(self, card_token: str) -> bool:
        """Return whether a card belongs to the shard."""
        partitions = self.job.log.partitions
        return partition_of(card_token.encode(), partitions) == self.job.shard.partition

    def waits_since_ms(self, chunk: Sequence[Any]) -> int:
        """Return since when the oldest row of a chunk waits that may be unread, now for none."""
        unread = (record for record in chunk if record.offset >= self.horizon)
        return min(
            (decode_row(record, 0.0).waits_since_ms for record in unread), default=self.now_ms
        )

    def claims(self, rows: Sequence[AcceptedRow]) -> Iterator[StoredValue]:
        """Yield the claims of counted rows that are still to live."""
        for row in rows:
            life_s = self.decided.life_s(int(row.record.timestamp))
            if life_s > 0:
                claim = pack_claim(row.digest, row.record.offset)
                yield StoredValue(self.names.claim(row.identity), claim, life_s)

    def may_be_pending(self, rows: Sequence[AcceptedRow]) -> list[AcceptedRow]:
        """Return the counted rows that a pending list may still hold."""
        begin_ms = self.now_ms - PENDING_LIFE_S * 1000
        return [row for row in rows if row.record.timestamp >= begin_ms]

    def _decode(self, record: Any) -> AcceptedRow | BadRow:
        row = decode_row(record, 0.0)
        if isinstance(row, AcceptedRow):
            self.decided.see_accepted(row.identity, row.digest)
        return row

    def _counts(self, row: AcceptedRow) -> bool:
        # An applied row without a decision is older than the decisions that are kept.
        decided = self.decided.digest_of(row.identity)
        if row.identity in self.counted or decided not in (None, row.digest):
            return False
        self.counted.add(row.identity)
        return True

    def _is_old(self, row: AcceptedRow | BadRow) -> bool:
        """Return whether a row was decided so long ago that the stream would decide it again."""
        if isinstance(row, BadRow) or self.decided.digest_of(row.identity) is None:
            return False
        return not self.decided.is_recorded(row.identity)


class CardFiller:
    """Fills generations of card shards.

    Args:
        store: The online store.
        chunks: Reads the logs.
        clock_ms: Epoch milliseconds.
    """

    def __init__(self, store: StateStore, chunks: ReadChunks, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._generations = Generations(store)
        self._chunks = chunks
        self._clock_ms = clock_ms

    async def fill(self, job: Job) -> Filled:
        """Fill states and claims from the beginning of the log, and restore records."""
        now_ms = self._clock_ms()
        names = self._store.keys(job.shard)
        decided = FirstDecisions(job.log, job.shard.partition, now_ms)
        replay = _Replay(job, names, decided, 0, now_ms)
        async for made in self._decisions(replay):
            decided.take(made)
        replay.horizon = _horizon(job, decided)
        decided.stands_ms = await self._stands_ms(replay)
        next_offset = await self._replay(replay)
        vectors = await self._restore(replay)
        await self._publish_again(replay)
        states = await self._generations.fill(replay.cards.values(names, vectors))
        tokens = list(replay.cards.tokens)
        return Filled(job, next_offset, states, lambda n: (n.state(CARD, t) for t in tokens))

    async def _decisions(self, replay: _Replay) -> AsyncIterator[list[MadeDecision]]:
        """Yield all decisions of the shard, chunk by chunk, the oldest partition first."""
        job = replay.job
        for partition in (*job.other_partitions, job.shard.partition):
            async for chunk in self._chunks(DECISIONS, partition):
                made: list[MadeDecision] = await asyncio.to_thread(decode_decisions, chunk)
                job.progress.add(len(chunk))
                if partition != job.shard.partition:
                    made = [each for each in made if replay.is_here(each.decision.card_token)]
                yield made

    async def _stands_ms(self, replay: _Replay) -> int:
        """Return since when the oldest row that may be unread waits, now where there is none.

        It need not be the first: what came by gRPC did not wait in the raw topic for ingest.
        Of a log that was cut nobody knows which rows those are, so lives are counted to now.
        """
        stands_ms = replay.now_ms
        if replay.job.is_log_cut:
            return stands_ms
        async for chunk in self._chunks(ACCEPTED, replay.job.shard.partition, replay.horizon):
            stands_ms = min(stands_ms, await asyncio.to_thread(replay.waits_since_ms, chunk))
        return stands_ms

    async def _replay(self, replay: _Replay) -> int:
        """Count rows; return the first offset of the shard's log that is left to the stream."""
        job = replay.job
        for partition in job.other_partitions:
            async for chunk in self._chunks(ACCEPTED, partition):
                await self._take(replay, await asyncio.to_thread(replay.others, chunk), len(chunk))
        next_offset = job.begin
        async for chunk in self._chunks(ACCEPTED, job.shard.partition):
            await self._take(replay, await asyncio.to_thread(replay.own, chunk), len(chunk))
            next_offset = int(chunk[-1].offset) + 1
        return next_offset if replay.stop is None else replay.stop

    async def _publish_again(self, replay: _Replay) -> None:
        """Have scorers publish decisions again whose accepted row or alert a loss cut off.

        Of a topic that was made again nothing is known: what lies in the old one is not repeated.
        """
        job, decided = replay.job, replay.decided
        if decided.has_unraised():
            for partition in (*job.other_partitions, job.shard.partition):
                await self._see_alerts(replay, partition)
        is_same = job.read is None or topic_id_of(job.read.incarnation) == job.log.topic_id
        await self._generations.fill_outbox(job.shard, decided.unfinished(has_same_log=is_same))

    async def _see_alerts(self, replay: _Replay, partition: int) -> None:
        """Take note of the alerts of a partition; retention may have dropped the first of them."""
        is_first = True
        async for chunk in self._chunks(ALERTS, partition):
            if is_first and chunk[0].offset > 0:
                replay.decided.forgive_alerts(int(chunk[0].timestamp))
            is_first = False
            replay.decided.see_alerts(await asyncio.to_thread(decode_alerts, chunk))
            replay.job.progress.add(len(chunk))

    async def _take(self, replay: _Replay, rows: Sequence[AcceptedRow], read: int) -> None:
        """Move states on by counted rows, and write what is known of them already."""
        replay.job.progress.add(read)
        await asyncio.to_thread(replay.cards.advance, rows)
        await self._generations.fill(replay.claims(rows))
        waiting = replay.may_be_pending(rows)
        cards = list({row.card_token for row in waiting})
        finished = [row.identity + row.digest for row in waiting]
        await self._generations.drop_pending(replay.job.shard, cards, finished)

    async def _restore(self, replay: _Replay) -> dict[bytes, bytes]:
        """Restore records; return the vector of each card's last counted row on the way.

        Both are of first decisions. Lives are known only after the decisions were read once.
        """
        wanted = replay.cards.last_identities()
        vectors: dict[bytes, bytes] = {}
        async for made in self._decisions(replay):
            await self._generations.restore(replay.decided.records(made, replay.names))
            for each in made:
                if each.identity in wanted:
                    wanted.discard(each.identity)
                    if _has_own_vector(each):
                        vectors[each.identity] = each.decision.vector
        return vectors


def _horizon(job: Job, decided: FirstDecisions) -> int:
    """Return the offset below which all rows were applied, with all that follows from them."""
    if job.is_log_cut:
        return 0
    is_same_topic = job.read and topic_id_of(job.read.incarnation) == job.log.topic_id
    marked = job.read.next_offset if job.read and is_same_topic else 0
    return max(marked, decided.applied_offset)


def _has_own_vector(made: MadeDecision) -> bool:
    is_same_set = made.decision.feature_set_hash == FEATURE_SET_HASH
    return is_same_set and len(made.decision.vector) == _VECTOR_BYTES
