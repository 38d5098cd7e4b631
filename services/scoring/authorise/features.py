"""Features at the gRPC door: admit, read, preview; once for all callers of a round.

Two calls to the store are in flight at once: the cards' shards (admission, state and pending list
in one script a shard) and the terminals'. Axes: `T` sequence length, `C` channels, `F` features.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fraudstream.engines.protocol import FloatArray
from fraudstream.errors import FraudStreamError
from fraudstream.store.entity_reader import EntityReader, SharedView
from fraudstream.store.shard import AdmitOutcome, DoorAnswer
from fraudstream.store.shard_store import StateStore
from fraudstream.v1.decision_pb2 import Freshness
from services.scoring.authorise.intake import Arrival
from services.scoring.authorise.preview import preview_rows
from services.scoring.shards.card_shards import CardShards


@dataclass(frozen=True, slots=True)
class RowFeatures:
    """What the kernel computed for one row.

    Attributes:
        vector: float32 [F].
        sequence: float32 [T, C].
        freshness: How fresh both are.
    """

    vector: FloatArray
    sequence: FloatArray
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class Admission:
    """What the store said of one arrival; features only of one that it admitted."""

    answer: DoorAnswer
    features: RowFeatures | None = None


Admitted = Admission | FraudStreamError


class DoorFeatures:
    """Admits arrivals and computes their features."""

    def __init__(self, store: StateStore, shards: CardShards, entities: EntityReader) -> None:
        self._store = store
        self._shards = shards
        self._entities = entities

    async def admit(self, arrivals: Sequence[Arrival]) -> Sequence[Admitted]:
        """Return the admission of each arrival, or the error of its shard."""
        reading = asyncio.create_task(self._read_shared(arrivals))
        answers = await self._shards.work_on(
            [arrival.partition for arrival in arrivals],
            [arrival.row for arrival in arrivals],
            self._store.admit,
        )
        shared = await reading
        admitted = [
            index
            for index, answer in enumerate(answers)
            if isinstance(answer, DoorAnswer) and answer.outcome is AdmitOutcome.ADMITTED
        ]
        outcome: list[Admitted] = [
            answer if isinstance(answer, FraudStreamError) else Admission(answer)
            for answer in answers
        ]
        if admitted and isinstance(shared, FraudStreamError):
            return [shared if index in set(admitted) else o for index, o in enumerate(outcome)]
        if admitted and isinstance(shared, SharedView):
            self._preview(arrivals, admitted, shared, outcome)
        return outcome

    async def _read_shared(self, arrivals: Sequence[Arrival]) -> SharedView | FraudStreamError:
        try:
            shard = await self._shards.any_open()
            return await self._entities.read(
                {arrival.entities for arrival in arrivals}, shard.incarnation
            )
        except FraudStreamError as exc:
            return exc

    def _preview(
        self,
        arrivals: Sequence[Arrival],
        admitted: list[int],
        shared: SharedView,
        outcome: list[Admitted],
    ) -> None:
        """Compute the features of the admitted arrivals and put them into `outcome`."""
        answers = [
            o.answer for o in (outcome[index] for index in admitted) if isinstance(o, Admission)
        ]
        rows = [arrivals[index].row.row for index in admitted]
        keys = [arrivals[index].entities for index in admitted]
        seen = preview_rows(answers, rows, keys, shared)
        for number, index in enumerate(admitted):
            freshness = _freshness(arrivals[index], answers[number], seen.newest_ms[number], shared)
            features = RowFeatures(seen.vectors[number], seen.sequences[number], freshness)
            outcome[index] = Admission(answers[number], features)


def _freshness(
    arrival: Arrival, answer: DoorAnswer, newest_ms: int, shared: SharedView
) -> Freshness:
    freshness = Freshness(
        applied_offset=answer.next_offset,
        previous_event_time_ms=newest_ms,
        cold_start=answer.state is None and not answer.pending,
        pending_identities=[entry.identity for entry in answer.pending],
    )
    shared.write_freshness(arrival.entities, arrival.transaction.event_time_ms, freshness)
    return freshness
