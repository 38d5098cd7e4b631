"""Which model decides while models come and go, with engines of plain numpy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from prometheus_client import REGISTRY

from fraudstream.broker.clients import OutRecord
from fraudstream.errors import BrokerUnavailable
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.models.calibration import Thresholds
from fraudstream.settings import KafkaSettings
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.background.shadow_scorer import ShadowScorer
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.decision.message import Subject
from services.scoring.inference.batcher import Batcher
from services.scoring.inference.line_up import Canary, LineUp, LineUpJudge, is_in_share
from services.scoring.inference.model_scorer import ModelJudge
from services.scoring.inference.served_model import ServedModel
from services.scoring.reasons.estimate import Estimate
from services.scoring.stream.request import read_subject
from tests.fakes.fake_engine import FakeEngine
from tests.worlds.scoring_world import card_token, feature_rows, some_transaction

LAYOUT = Layout.of(FEATURE_HASHES, SEQUENCE_HASH)
CARDS = [card_token(number) for number in range(40)]
SHAPE = (len(CARDS), SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS))
ARRAYS = FeatureArrays(
    np.full((len(CARDS), len(FEATURE_HASHES)), 0.1, np.float32), np.zeros(SHAPE, np.float32)
)


class World:
    """A line-up over one batcher.

    Attributes:
        batcher: At work.
        judge: Of the line-up.
    """

    def __init__(self) -> None:
        self.batcher = Batcher(lambda: 1)
        self.judge = LineUpJudge(self.batcher, LineUp())

    def model(self, name: str, feature_hash: int = FEATURE_HASHES[0]) -> ModelJudge:
        """Return a model of one feature, which is its raw score."""
        served = ServedModel(
            model_hash=name,
            feature_hashes=(feature_hash,),
            feature_names=("one",),
            sequence_hash=SEQUENCE_HASH,
            calibrate=lambda raw: raw,
            thresholds=Thresholds(challenge=0.5, review=0.6, decline=0.7),
            occlusions=(),
            estimate=Estimate(np.zeros(1, np.float32), np.zeros((1, 0))),
        )
        return ModelJudge(served, FakeEngine(), self.batcher)

    async def deciders(self) -> list[str]:
        """Return which model decides each card."""
        judged = await self.judge.judge(ARRAYS, CARDS, LAYOUT)
        return [verdict.model_hash for verdict in judged.verdicts]


@asynccontextmanager
async def working() -> AsyncIterator[World]:
    """Yield a world whose batcher works."""
    world = World()
    work = asyncio.create_task(world.batcher.score_forever())
    yield world
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    world.batcher.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A world at work."""
    async with working() as world:
        yield world


def engine_of(judge: ModelJudge) -> FakeEngine:
    """Return the fake engine of a model."""
    engine = judge._engine
    assert isinstance(engine, FakeEngine)
    return engine


async def test_call_goes_on_with_the_model_that_it_began_with(world: World) -> None:
    """A swap in the middle of it changes nothing for it; its engine is closed after it."""
    old, new = world.model("old"), world.model("new")
    world.judge.line_up = LineUp(old)
    engine_of(old).gate.clear()
    call = asyncio.create_task(world.deciders())
    await asyncio.sleep(0)

    world.judge.line_up = LineUp(new)
    closing = asyncio.create_task(old.close())
    await asyncio.sleep(0)
    was_closed = engine_of(old).is_closed
    engine_of(old).gate.set()

    assert set(await call) == {"old"}
    assert set(await world.deciders()) == {"new"}
    await closing
    assert not was_closed
    assert engine_of(old).is_closed
    assert not engine_of(new).is_closed


async def test_engine_is_closed_after_the_batch_of_a_caller_who_gave_up(world: World) -> None:
    """A cancelled call leaves its batch running: the engine must still be there."""
    old = world.model("old")
    world.judge.line_up = LineUp(old)
    engine_of(old).gate.clear()
    call = asyncio.create_task(world.deciders())
    while world.batcher.waiting_rows or not call.done():
        await asyncio.sleep(0)
        if not world.batcher.waiting_rows:
            call.cancel()

    closing = asyncio.create_task(old.close())
    for _ in range(3):
        await asyncio.sleep(0)
    was_closed = engine_of(old).is_closed
    engine_of(old).gate.set()
    await closing

    assert not was_closed
    assert engine_of(old).is_closed


async def test_canary_decides_its_share_in_the_order_of_the_rows(world: World) -> None:
    """Each row's verdict is its own, whichever model made it."""
    world.judge.line_up = LineUp(world.model("champion"), Canary(world.model("canary"), 300))

    deciders = await world.deciders()

    assert deciders == [
        "canary" if is_in_share(card, "canary", 300) else "champion" for card in CARDS
    ]
    assert set(deciders) == {"canary", "champion"}


async def test_canary_that_lacks_a_feature_leaves_its_cards_to_the_champion(world: World) -> None:
    """Features workers of the release before do not send what it needs yet."""
    canary = world.model("canary", feature_hash=1)
    world.judge.line_up = LineUp(world.model("champion"), Canary(canary, 500))

    assert set(await world.deciders()) == {"champion"}


def test_larger_share_keeps_the_cards_of_the_smaller() -> None:
    """A canary that grows takes no card back."""
    small = {card for card in CARDS if is_in_share(card, "m", 100)}
    large = {card for card in CARDS if is_in_share(card, "m", 400)}

    assert small < large
    assert large != {card for card in CARDS if is_in_share(card, "another", 400)}


class FakeBroker:
    """Keeps what is sent, or is away; `calls` has an item for each call."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[None] = asyncio.Queue()
        self.sent: list[OutRecord] = []
        self.is_away = False

    async def send(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Keep the records."""
        self.calls.put_nowait(None)
        if self.is_away:
            msg = "away"
            raise BrokerUnavailable(msg)
        self.sent += records


def decided(number: int, model_hash: str = "champion") -> tuple[Subject, Decision]:
    """Return a decision as a door hands it on."""
    (row,) = feature_rows([some_transaction(number)])
    row.vector = ARRAYS.vectors[0].tobytes()
    subject = read_subject(row, 0.0, 0)
    decision = Decision(
        card_token=row.transaction.card_token,
        model_hash=model_hash,
        feature_set_hash=FEATURE_SET_HASH,
        sequence_hash=SEQUENCE_HASH,
    )
    return subject, decision


def shadowed(outcome: str) -> float:
    """Return how many decisions had an outcome."""
    labels = {"outcome": outcome}
    return REGISTRY.get_sample_value("fraud_shadowed_decisions_total", labels) or 0.0


async def until_sent(scorer: ShadowScorer, broker: FakeBroker) -> None:
    """Let shadows score until the broker was asked once more."""
    work = asyncio.create_task(scorer.work_forever())
    async with asyncio.timeout(10):
        await broker.calls.get()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def test_shadows_without_time_drop_and_count(world: World) -> None:
    """The queue is bounded: what does not fit is lost, decisions are not."""
    world.judge.line_up = LineUp(world.model("champion"), shadows=(world.model("shadow"),))
    scorer = ShadowScorer(world.judge, FakeBroker(), KafkaSettings(), 6)
    before = shadowed("dropped")

    scorer.add([decided(1)] * 10_000)

    assert shadowed("dropped") - before == 10_000 - 8_192


async def test_challenger_does_not_shadow_what_it_decided(world: World) -> None:
    """A canary may be a shadow of the other cards too."""
    broker = FakeBroker()
    world.judge.line_up = LineUp(world.model("champion"), shadows=(world.model("shadow"),))
    scorer = ShadowScorer(world.judge, broker, KafkaSettings(), 6)
    scorer.add([decided(1), decided(2, "shadow"), decided(3)])

    await until_sent(scorer, broker)

    assert len(broker.sent) == 2


async def test_broker_that_is_away_costs_shadow_scores_only(world: World) -> None:
    """They are counted, and the next ones go out."""
    broker = FakeBroker()
    world.judge.line_up = LineUp(world.model("champion"), shadows=(world.model("shadow"),))
    scorer = ShadowScorer(world.judge, broker, KafkaSettings(), 6)
    broker.is_away = True
    before = shadowed("failed")
    scorer.add([decided(1)])
    await until_sent(scorer, broker)
    failed = shadowed("failed") - before
    broker.is_away = False
    scorer.add([decided(2)])

    await until_sent(scorer, broker)

    assert (failed, len(broker.sent)) == (1, 1)


async def test_nothing_is_kept_where_there_is_no_challenger(world: World) -> None:
    """The usual case costs one comparison."""
    world.judge.line_up = LineUp(world.model("champion"))
    scorer = ShadowScorer(world.judge, FakeBroker(), KafkaSettings(), 6)

    scorer.add([decided(1)] * 10)

    assert not scorer._items
