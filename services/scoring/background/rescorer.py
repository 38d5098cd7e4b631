"""Score stand-in decisions as soon as a model answers. The action stays; a difference is an alert.

Reads decisions.stood_in as one consumer group of all scorers, and goes on where the last one
committed; while no model answers nothing is committed and the records are read again. Delivery is
at least once: consumers keep the first Rescore of a decision. Budget: one batch of 64 rows at a
time, so that a row of a caller waits for at most one of them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from fraudstream.broker.clients import (
    BatchProducer,
    OutRecord,
    aiokafka_consumer_options,
    broker_fault,
)
from fraudstream.broker.messages import message_of
from fraudstream.engines.fallback import Backoff, Retries
from fraudstream.errors import FeatureSpecMismatch, FraudStreamError
from fraudstream.settings import KafkaSettings
from fraudstream.telemetry.metrics import RESCORED
from fraudstream.topics import ALERTS, RESCORES, STAND_INS
from fraudstream.v1.decision_pb2 import StandInCause
from fraudstream.v1.rescore_pb2 import StandIn
from services.scoring.background.rescore_message import rescore_of, rescored_alert
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.decision.maker import DecisionMaker
from services.scoring.decision.verdict import Verdict

GROUP: Final = "scoring-rescore"
_ROUND: Final = 64
_POLL_MS: Final = 1_000
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
# A row that the model scores with NaN again and again is the row's fault, not the model's.
_MOST_TRIES: Final = 5

_LOG: Final = logging.getLogger(__name__)


class _NotWell(Exception):
    """No model answers; the records have to be read again later."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One stand-in decision, and where in the log it was."""

    stand_in: StandIn
    record: ConsumerRecord[bytes, bytes]


class Rescorer:
    """Scores what stand-ins decided. Use from one event loop.

    Args:
        maker: Judges and rules as it does for callers.
        producer: Sends events and alerts.
        kafka: Where stand-ins are read, and names of the topics.
        clock_ms: Epoch milliseconds.
    """

    def __init__(
        self,
        maker: DecisionMaker,
        producer: BatchProducer,
        kafka: KafkaSettings,
        clock_ms: Callable[[], int],
    ) -> None:
        self._maker = maker
        self._producer = producer
        self._kafka = kafka
        self._clock_ms = clock_ms
        self._tries = 0

    async def rescore_forever(self) -> None:
        """Follow the topic until cancelled; a broker that is away is waited for."""
        backoff = Backoff(Retries(_FIRST_PAUSE_S, _LONGEST_PAUSE_S))
        while True:
            # Without a model it takes no partition from a scorer that has one.
            if not self._maker.judge.has_model:
                await asyncio.sleep(_POLL_MS / 1000)
                continue
            consumer = AIOKafkaConsumer(
                self._kafka.topic(STAND_INS),
                **aiokafka_consumer_options(self._kafka, self._kafka.group(GROUP)),
            )
            try:
                await consumer.start()
                await self._follow(consumer, backoff)
            except KafkaError as exc:
                _LOG.warning("stand-in decisions wait: %s", broker_fault(self._kafka, exc))
                await asyncio.sleep(backoff.next_s())
            finally:
                await consumer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer, backoff: Backoff) -> None:
        while True:
            polled = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_ROUND)
            records = list(itertools.chain.from_iterable(polled.values()))
            if not records:
                continue
            try:
                await self._rescore(_read(records))
                await consumer.commit()
            except (_NotWell, FraudStreamError) as exc:
                _LOG.info("%d stand-in decisions wait: %s", len(records), exc)
                await asyncio.sleep(backoff.next_s())
                # Not to what is committed: without any commit aiokafka 0.14 would go on instead.
                for tp, records in polled.items():
                    consumer.seek(tp, records[0].offset)
            else:
                backoff.note_service(_LONGEST_PAUSE_S)

    async def _rescore(self, rows: Sequence[_Row]) -> None:
        """Score rows and publish what came of them.

        Raises:
            _NotWell: No model answers.
            Overloaded: Callers need the engine.
            BrokerUnavailable: Not all is known to be acknowledged.
        """
        batches: dict[tuple[tuple[int, ...], str], list[_Row]] = {}
        for row in rows:
            features = (tuple(row.stand_in.feature_hashes), row.stand_in.decision.sequence_hash)
            batches.setdefault(features, []).append(row)
        for features, batch in batches.items():
            layout = Layout.of(*features)
            try:
                decisions = [row.stand_in.decision for row in batch]
                cards = [decision.card_token for decision in decisions]
                arrays = FeatureArrays.joined(
                    [decision.vector for decision in decisions],
                    [decision.sequence for decision in decisions],
                )
                judged = await self._maker.judge.judge(arrays, cards, layout)
            except FeatureSpecMismatch as exc:
                _LOG.error("%d stand-in decisions cannot be scored: %s", len(batch), exc)
                RESCORED.labels("unscorable").inc(len(batch))
                continue
            self._check_well(judged.verdicts)
            await self._publish(
                batch, *self._maker.rule(decisions, judged.verdicts, arrays.vectors, layout)
            )

    def _check_well(self, verdicts: Sequence[Verdict]) -> None:
        """Tell a model that does not answer from a row that it cannot score."""
        if not all(verdict.is_stand_in for verdict in verdicts):
            self._tries = 0
            return
        cause = verdicts[0].stand_in_cause
        self._tries += cause == StandInCause.STAND_IN_CAUSE_MODEL_FAILED
        if self._tries < _MOST_TRIES:
            raise _NotWell(StandInCause.Name(cause))
        self._tries = 0

    async def _publish(
        self, rows: Sequence[_Row], verdicts: Sequence[Verdict], rule_set_hash: str
    ) -> None:
        rescores, alerts, outcomes = [], [], []
        for row, verdict in zip(rows, verdicts, strict=True):
            decision = row.stand_in.decision
            if verdict.is_stand_in:
                _LOG.error("decision %s: the model gives no score", decision.decision_id)
                outcomes.append("unscorable")
                continue
            rescore = rescore_of(decision, verdict, rule_set_hash, self._clock_ms())
            rescores.append(_record_like(row.record, rescore.SerializeToString()))
            alert = rescored_alert(decision, rescore)
            if alert is not None:
                alerts.append(_record_like(row.record, alert.SerializeToString()))
            outcomes.append("same" if alert is None else "different")
        for topic, records in ((RESCORES, rescores), (ALERTS, alerts)):
            if records:
                await self._producer.send(self._kafka.topic(topic), records)
        for outcome in outcomes:
            RESCORED.labels(outcome).inc()


def _read(records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[_Row]:
    rows = []
    for record in records:
        stand_in = message_of(StandIn, record)
        if stand_in is None:
            RESCORED.labels("unscorable").inc()
        else:
            rows.append(_Row(stand_in, record))
    return rows


def _record_like(record: ConsumerRecord[bytes, bytes], value: bytes) -> OutRecord:
    """Return a record of the same card, in the same trace."""
    return OutRecord(
        key=record.key or b"", value=value, partition=record.partition, headers=record.headers
    )
