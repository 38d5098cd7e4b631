"""The store as scoring trusts it: a record that scoring did not write is none.

Such a record is taken out (compared and deleted in one step, so that no honest one goes), counted,
and its transaction is decided as if it had never been there. Nobody else stops because of one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from fraudstream.errors import FraudStreamError, OnlineStoreUnavailable
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.runtime.allowance import MOST_TOLD, Allowance
from fraudstream.settings import RedisSettings
from fraudstream.store.shard import (
    AdmitOutcome,
    DoorAnswer,
    DoorRow,
    OutboxEntry,
    RecordAnswer,
    RecordOutcome,
    RecordRow,
    ShardRef,
)
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.metrics import QUARANTINED
from fraudstream.transaction.identity import DIGEST_BYTES
from services.scoring.shards.seal import Seal

# Who writes forged records faster than they are taken out has the store's shard anyway.
_TRIES: Final = 3

STORE: Final = "store"
"""Stands in the quarantine's counter where others have a topic."""

_LOG: Final = logging.getLogger(__name__)


class _Row(Protocol):
    @property
    def identity(self) -> bytes: ...

    @property
    def digest(self) -> bytes: ...


class _Answer(Protocol):
    @property
    def outcome(self) -> RecordOutcome | AdmitOutcome: ...

    @property
    def value(self) -> bytes: ...


R = TypeVar("R", bound=_Row)
A = TypeVar("A", bound=_Answer)
Run = Callable[
    [Sequence[tuple[ShardRef, Sequence[R]]]], Awaitable[list[list[A] | FraudStreamError]]
]


class SealedStore(StateStore):
    """Shards of the online store; what it answers of a decision is scoring's own.

    Args:
        settings: Where the store is.
        seal: Tells scoring's records.
    """

    def __init__(self, settings: RedisSettings, seal: Seal) -> None:
        super().__init__(settings)
        self._seal = seal
        self._told = Allowance(MOST_TOLD)

    async def record_decisions(
        self, batches: Sequence[tuple[ShardRef, Sequence[RecordRow]]]
    ) -> list[list[RecordAnswer] | FraudStreamError]:
        """Record decisions, as `StateStore` does; no forged record is an answer."""
        return await self._trusted(super().record_decisions, batches)

    async def admit(
        self, batches: Sequence[tuple[ShardRef, Sequence[DoorRow]]]
    ) -> list[list[DoorAnswer] | FraudStreamError]:
        """Admit transactions, as `StateStore` does; no forged record is an answer."""
        return await self._trusted(super().admit, batches)

    async def take_unpublished(
        self, shard: ShardRef, unheld_ms: int, limit: int
    ) -> list[OutboxEntry]:
        """Take entries of the outbox, as `StateStore` does; a forged one leaves it."""
        taken = await super().take_unpublished(shard, unheld_ms, limit)
        kept = []
        for entry in taken:
            if self._seal.is_true(entry.identity, entry.digest, entry.value):
                kept.append(entry)
            else:
                await self._take_out(shard, entry.identity, entry.digest + entry.value)
        return kept

    async def take_out_forged(self, shard: ShardRef, identities: Sequence[bytes]) -> int:
        """Take forged records of some identities out; return how many there were."""
        names = self.keys(shard)
        (records,) = await self.nodes.pipeline([("MGET", *map(names.record, identities))])
        forged = [
            (identity, record)
            for identity, record in zip(identities, records, strict=True)
            if record is not None and not self._is_true(identity, record)
        ]
        for identity, record in forged:
            await self._take_out(shard, identity, record)
        return len(forged)

    async def _trusted(
        self, run: Run[R, A], batches: Sequence[tuple[ShardRef, Sequence[R]]]
    ) -> list[list[A] | FraudStreamError]:
        """Run a script for each shard's rows, and again for rows that met a forged record."""
        answers = await run(batches)
        for _ in range(_TRIES):
            forged = self._forged(batches, answers)
            if not forged:
                return answers
            for number, records in forged.items():
                for index, record in records.items():
                    await self._take_out(
                        batches[number][0], batches[number][1][index].identity, record
                    )
            again = [
                (batches[number][0], [batches[number][1][index] for index in indices])
                for number, indices in forged.items()
            ]
            for (number, indices), found in zip(forged.items(), await run(again), strict=True):
                answers[number] = _merged(answers[number], indices, found)
        for number in self._forged(batches, answers):
            partition = batches[number][0].partition
            msg = f"shard {partition}: records are forged faster than they are removed"
            answers[number] = OnlineStoreUnavailable(msg)
        return answers

    def _forged(
        self,
        batches: Sequence[tuple[ShardRef, Sequence[R]]],
        answers: Sequence[list[A] | FraudStreamError],
    ) -> dict[int, dict[int, bytes]]:
        """Return forged records by shard and row: what rows were answered with, or refused for."""
        found: dict[int, dict[int, bytes]] = {}
        for number, ((_, rows), answered) in enumerate(zip(batches, answers, strict=True)):
            if isinstance(answered, FraudStreamError):
                continue
            for index, (row, answer) in enumerate(zip(rows, answered, strict=True)):
                record = _record_of(row, answer)
                if record and not self._is_true(row.identity, record):
                    found.setdefault(number, {})[index] = record
        return found

    def _is_true(self, identity: bytes, record: bytes) -> bool:
        return self._seal.is_true(identity, record[:DIGEST_BYTES], record[DIGEST_BYTES:])

    async def _take_out(self, shard: ShardRef, identity: bytes, record: bytes) -> None:
        names = self.keys(shard)
        keys = [names.record(identity), names.outbox]
        if not await self.nodes.run("take_out_record", keys, [identity, record]):
            return  # another scorer was faster
        QUARANTINED.labels(STORE, QuarantineReason.UNTRUSTED.value).inc()
        if self._told.take(STORE) is not None:
            _LOG.error(
                "shard %d: the record of %s, %d bytes, is not sealed by scoring: it is taken out"
                " and counts for nothing",
                shard.partition,
                identity.hex(),
                len(record),
            )


def _record_of(row: _Row, answer: _Answer) -> bytes:
    """Return the record that an answer comes from, empty for none."""
    return row.digest + answer.value if answer.outcome == RecordOutcome.EXISTS else answer.value


def _merged(
    answered: list[A] | FraudStreamError, indices: Iterable[int], found: list[A] | FraudStreamError
) -> list[A] | FraudStreamError:
    """Return a shard's answers with those of some rows in place of the ones of before."""
    if isinstance(answered, FraudStreamError) or isinstance(found, FraudStreamError):
        return found
    return list((dict(enumerate(answered)) | dict(zip(indices, found, strict=True))).values())
