"""Alerts that wait for their reasons: measured when the engine is free, then published and settled.

Under load a row is answered with estimated reasons and published at once but for its alert. That
waits here, at most two seconds for the engine, and then goes out with the reasons that it has: an
alert is worth more than its why. Bounded: what does not fit, and what a dead scorer had here, is in
the outbox still, where the sweep finds it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import Overloaded
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.settings import KafkaSettings
from fraudstream.store.shard import ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.metrics import ALERTS
from fraudstream.topics import ALERTS as ALERTS_TOPIC
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.inference.line_up import LineUpJudge
from services.scoring.publishing.alert import build_alert
from services.scoring.publishing.backlog import Backlog, settled_by_sweep
from services.scoring.publishing.publisher import Outgoing, Producer, record_of
from services.scoring.reasons.explanation import Explanation

# With 32 rows each, half a second of an LSTM 2 x 64 on one core.
_ROUND: Final = 128
_LONGEST: Final = 10_000
_POLL_S: Final = 0.02
PATIENCE_MS: Final = 2_000

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    shard: ShardRef
    row: Outgoing
    since_ms: int


class AlertBacklog(Backlog[_Waiting]):
    """Decisions that are published, but for their alerts.

    Args:
        producer: Sends records.
        outbox: Where the decisions are until they are settled.
        kafka: Names the topic.
        judge: Measures reasons, by the models that serve.
        clock_ms: Epoch milliseconds.
    """

    def __init__(
        self,
        producer: Producer,
        outbox: StateStore,
        kafka: KafkaSettings,
        judge: LineUpJudge,
        clock_ms: Callable[[], int],
    ) -> None:
        super().__init__("alerts", _LONGEST)
        self._producer = producer
        self._outbox = outbox
        self._topic = kafka.topic(ALERTS_TOPIC)
        self._judge = judge
        self._clock_ms = clock_ms
        # A row that features sends again waits here already.
        self._identities: set[bytes] = set()

    def add(self, shard: ShardRef, rows: Sequence[Outgoing]) -> None:
        """Take decisions; those over the bound are left to the sweep of the outbox."""
        for row in rows:
            if self._room and row.row.identity not in self._identities:
                self._identities.add(row.row.identity)
                self._take([_Waiting(shard, row, self._clock_ms())])

    def waiting(self) -> Iterator[tuple[ShardRef, Outgoing]]:
        """Yield decisions whose alerts are not published yet."""
        return ((each.shard, each.row) for each in self._items)

    async def _work(self) -> int:
        if self._is_patient():
            await asyncio.sleep(_POLL_S)
            return 0
        taken = self._first(_ROUND)
        with settled_by_sweep("alerts"):
            await self._publish(taken)
        self._identities.difference_update(each.row.row.identity for each in taken)
        return len(taken)

    def _is_patient(self) -> bool:
        """Whether the engine is busy and the oldest alert may wait for it."""
        is_young = self._clock_ms() - self._items[0].since_ms < PATIENCE_MS
        return is_young and self._judge.is_busy

    async def _publish(self, taken: Sequence[_Waiting]) -> None:
        # From what was recorded: the message itself may be on its way to a caller, shortened.
        decisions = [Decision.FromString(each.row.row.value) for each in taken]
        records = []
        for each, decision, explanation in zip(
            taken, decisions, await self._measure(decisions), strict=True
        ):
            alert = build_alert(decision)
            if explanation is not None:
                explanation.write_into(alert.decision)
            records.append(record_of(each.shard, each.row, alert.SerializeToString()))
        crash_point("scoring.before_late_alerts")
        await self._producer.send(self._topic, records)
        ALERTS.inc(len(records))
        batches: dict[ShardRef, list[Outgoing]] = {}
        for each in taken:
            batches.setdefault(each.shard, []).append(each.row)
        for shard, rows in batches.items():
            await self._outbox.settle_published(shard, [row.row for row in rows])

    async def _measure(self, decisions: Sequence[Decision]) -> Sequence[Explanation | None]:
        try:
            return await self._judge.measure_decisions(decisions)
        except Overloaded as exc:
            _LOG.warning("%d alerts keep estimated reasons: %s", len(decisions), exc)
        return [None] * len(decisions)
