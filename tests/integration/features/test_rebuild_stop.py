"""A stop that outlasts decision records: the shard is opened as after a loss, and nothing forks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from fraudstream.broker.clients import OutRecord
from fraudstream.broker.topic_info import Log
from fraudstream.features.catalogue import FEATURE_NAMES, FEATURE_SET_HASH
from fraudstream.runtime.clock import epoch_ms
from fraudstream.store.shard import FIRST_GENERATION, Role
from fraudstream.store.shard_store import OUTAGE_LONGEST_S
from fraudstream.topics import ACCEPTED, DECISIONS, Topic, partition_of
from fraudstream.transaction.identity import decision_id_of, digest_of, identity_of
from fraudstream.v1.decision_pb2 import (
    ACTION_APPROVE,
    AcceptedTransaction,
    Decision,
    LogCoordinates,
)
from fraudstream.v1.transaction_pb2 import Transaction
from tests.conftest import create_topics
from tests.worlds.scoring_world import canonical, some_transaction
from tests.worlds.shard_line import CARDS, ShardLine, shard_line

_HOUR_MS: Final = 3_600_000
_LONG_MS: Final = OUTAGE_LONGEST_S * 1000 + 33 * _HOUR_MS
_SHORT_MS: Final = OUTAGE_LONGEST_S * 1000 - _HOUR_MS
_FIRST_SCORE: Final = 0.125
# Since 1970, since its end, since two days before the event, and since what no sum can hold.
_ODD_WAITS_MS: Final = (1_700_000_000_000, 10**15, _LONG_MS, -(2**62))


class StoppedLine:
    """A line of which one card's shard stood still, with its marker at the second row.

    Attributes:
        line: The line.
        log: The accepted topic.
        partition: The card's shard.
    """

    def __init__(self, line: ShardLine, log: Log) -> None:
        self.line = line
        self.log = log
        self.partition = partition_of(CARDS[0].encode(), log.partitions)

    async def stop_before(self, age_ms: int, *, is_in_raw: bool = False) -> None:
        """Stand as after a stop: t-0 was applied; t-1 and t-3 are decided, their records gone.

        t-1 was in the last batch, which was decided and not applied. t-2 waits since. t-3 came by
        gRPC, and the bank sent it too. Then there are later copies of t-0 and t-1. Where they
        waited in the raw topic, a row that came by gRPC just now is the first of them.
        """
        rows = [canonical(some_transaction(number, card=1)) for number in range(4)]
        for row in rows:
            row.event_time_ms -= age_ms
        if is_in_raw:
            await self.accept([rows[0]], age_ms)
            await self.accept([canonical(some_transaction(4, card=1))], 0)
            await self.accept([*rows[1:], rows[0], rows[1]], 0, waited_ms=age_ms)
        else:
            await self.accept([*rows, rows[0], rows[1]], age_ms)
        made = [self._decision(rows[0], 0), self._decision(rows[1], 1), self._decision(rows[3])]
        await self._append(DECISIONS, made, age_ms)
        for shard, marker in (await self.line.markers(Role.CARD, self.log)).items():
            assert marker is None
            await self.line.store.open_shard(shard, int(shard.partition == self.partition))

    async def accept(
        self, rows: Sequence[Transaction], age_ms: int, waited_ms: int | None = None
    ) -> None:
        """Append accepted rows of some age, that waited for so long in the raw topic, if at all."""
        raw_ms = 0 if waited_ms is None else epoch_ms() - waited_ms
        accepted = [AcceptedTransaction(transaction=r, raw_append_time_ms=raw_ms) for r in rows]
        await self._append(ACCEPTED, accepted, age_ms)

    async def generation(self) -> str:
        """Return the generation that the shard is served in."""
        marker = await self.line.marker_of(self.partition)
        assert marker is not None
        return marker.generation

    async def scores(self) -> dict[str, set[float]]:
        """Return all scores that were ever decided for each transaction."""
        found: dict[str, set[float]] = {}
        for made in await self.line.decisions():
            found.setdefault(made.transaction_id, set()).add(made.score)
        return found

    def _decision(self, row: Transaction, applied: int | None = None) -> Decision:
        """Return the decision of a row that was decided with `next` at `applied`; None by gRPC."""
        made = Decision(
            decision_id=decision_id_of(
                identity_of(row.bank_id, row.card_token, row.transaction_id)
            ),
            bank_id=row.bank_id,
            transaction_id=row.transaction_id,
            card_token=row.card_token,
            digest=digest_of(row),
            event_time_ms=row.event_time_ms,
            action=ACTION_APPROVE,
            score=_FIRST_SCORE,
            feature_set_hash=FEATURE_SET_HASH,
            vector=bytes(4 * len(FEATURE_NAMES)),
            transaction=row,
        )
        if applied is not None:
            made.coordinates.CopyFrom(
                LogCoordinates(topic_id=self.log.topic_id, partition=self.partition)
            )
            made.freshness.applied_offset = applied
        return made

    async def _append(
        self, topic: Topic, messages: Sequence[AcceptedTransaction | Decision], age_ms: int
    ) -> None:
        key, at_ms = CARDS[0].encode(), epoch_ms() - age_ms
        records = [
            OutRecord(key, each.SerializeToString(), self.partition, timestamp_ms=at_ms)
            for each in messages
        ]
        await self.line.producer.send(self.line.kafka.topic(topic), records)


@pytest.fixture
async def stopped(any_line_env: Mapping[str, str], tmp_path: Path) -> AsyncIterator[StoppedLine]:
    """A line over topics of its own, to which a test can write what was appended long ago."""
    create_topics(any_line_env, tmp_path, "--replay")
    async with shard_line(any_line_env, tmp_path) as line:
        yield StoppedLine(line, await line.log_of(ACCEPTED))


async def test_shard_that_stood_still_for_too_long_is_rebuilt_and_forks_nothing(
    stopped: StoppedLine,
) -> None:
    """What was decided before the stop stays decided, and what was applied is counted once."""
    await stopped.stop_before(_LONG_MS)

    async with stopped.line.role(Role.CARD) as cards:
        await stopped.line.settle(cards, 6)

    scores = await stopped.scores()
    assert {number: len(each) for number, each in scores.items()} == dict.fromkeys(scores, 1)
    assert [scores[number] for number in ("t-0", "t-1", "t-3")] == [{_FIRST_SCORE}] * 3
    assert await stopped.line.counted_rows(CARDS[:1]) == 4
    assert await stopped.generation() != FIRST_GENERATION


async def test_rows_that_waited_for_ingest_for_too_long_fork_nothing(stopped: StoppedLine) -> None:
    """What stood in the raw topic is as old as there, wherever in its batch it comes."""
    await stopped.stop_before(_LONG_MS, is_in_raw=True)

    async with stopped.line.role(Role.CARD) as cards:
        await stopped.line.settle(cards, 7)

    scores = await stopped.scores()
    assert {number: len(each) for number, each in scores.items()} == dict.fromkeys(scores, 1)
    assert [scores[number] for number in ("t-0", "t-1", "t-3")] == [{_FIRST_SCORE}] * 3
    assert await stopped.line.counted_rows(CARDS[:1]) == 5
    assert await stopped.generation() != FIRST_GENERATION


async def test_stamp_that_cannot_be_closes_no_shard(stopped: StoppedLine) -> None:
    """A forged or odd time in the raw topic costs nothing: its row is decided like any other."""
    for number in range(4):
        await stopped.accept(
            [canonical(some_transaction(number, card=1))], 0, _ODD_WAITS_MS[number]
        )
    for shard in await stopped.line.markers(Role.CARD, stopped.log):
        await stopped.line.store.open_shard(shard, 0)

    async with stopped.line.role(Role.CARD) as cards:
        await stopped.line.settle(cards, 4)

    assert set(await stopped.scores()) == {"t-0", "t-1", "t-2", "t-3"}
    assert await stopped.generation() == FIRST_GENERATION


async def test_shard_is_rebuilt_once_a_stop(stopped: StoppedLine) -> None:
    """The rebuild satisfies old rows that it left to the stream, for every later owner too."""
    await stopped.stop_before(_LONG_MS)
    async with stopped.line.role(Role.CARD) as cards:
        await stopped.line.settle(cards, 6)
    rebuilt = await stopped.generation()
    await stopped.accept([canonical(some_transaction(9, card=1))], _LONG_MS)

    async with stopped.line.role(Role.CARD) as cards:
        await stopped.line.settle(cards, 7)

    assert await stopped.generation() == rebuilt


async def test_shard_goes_on_after_a_shorter_stop(stopped: StoppedLine) -> None:
    """Records outlive it together with the lateness bound."""
    await stopped.stop_before(_SHORT_MS)

    async with stopped.line.role(Role.CARD) as cards:
        await stopped.line.settle(cards, 6)

    assert await stopped.generation() == FIRST_GENERATION


async def test_rows_of_a_replay_are_never_too_old(stopped: StoppedLine) -> None:
    """Where the records' own times rule, their age says nothing of a stop."""
    await stopped.stop_before(_LONG_MS)

    async with stopped.line.role(Role.CARD) as cards:
        cards.owner.positions.clock_ms = None
        await stopped.line.settle(cards, 6)

    assert await stopped.generation() == FIRST_GENERATION
