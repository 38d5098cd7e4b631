"""Models change under a running service: no call fails, and no reply mixes two of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from fraudstream.engines.protocol import score_rows
from fraudstream.features.catalogue import FEATURE_HASHES
from fraudstream.models.artefact import Artefact
from fraudstream.models.open_engine import open_engine, resident_bytes
from fraudstream.topics import SHADOWED
from fraudstream.v1.decision_pb2 import Decision, ShadowScore, StandInCause
from fraudstream.v1.scoring_pb2 import ScoreRequest
from services.scoring.decision.verdict import action_of
from services.scoring.inference.line_up import is_in_share
from services.scoring.inference.model_source import served_model
from services.scoring.inference.served_model import find_columns
from tests.fakes.tiny_model import some_sequences, some_vectors
from tests.worlds.model_line import ModelLine
from tests.worlds.scoring_world import (
    ScoringWorld,
    batch_of,
    card_shard,
    card_token,
    feature_rows,
    scoring_world,
    some_transaction,
)

ROWS = 12
SWAPS = 5
POLL_MS = 50


@pytest.fixture
def line(tmp_path: Path) -> ModelLine:
    """A repository without a model."""
    return ModelLine(tmp_path)


@asynccontextmanager
async def serving(topics: Mapping[str, str], line: ModelLine) -> AsyncIterator[ScoringWorld]:
    """Yield a service that follows the repository."""
    told = line.settings()
    async with scoring_world(topics, None, model_poll_ms=POLL_MS, **told) as world:
        yield world


class Expected:
    """What each version says of the made-up rows: score and action, one a row, by its hash."""

    def __init__(self, rows: int = ROWS) -> None:
        self._vectors = some_vectors(rows, len(FEATURE_HASHES))
        self._sequences = some_sequences(rows)
        self.by_hash: dict[str, list[tuple[float, float, int]]] = {}

    def add(self, artefact: Artefact) -> None:
        """Compute what one version says."""
        model = served_model(artefact)
        vectors = self._vectors[:, find_columns(model, FEATURE_HASHES)]
        engine = open_engine(artefact)
        scored = model.scores(score_rows(engine, vectors, self._sequences, 16))
        self.by_hash[model.model_hash] = [
            (score, raw, action_of(score, model.thresholds))
            for score, raw in zip(scored.scores.tolist(), scored.raw_scores.tolist(), strict=True)
        ]

    def check(self, decisions: list[Decision], tolerance: float = 1e-6) -> str:
        """Hold a reply to one version, which is returned; its scores may be of another bucket."""
        (model_hash,) = {decision.model_hash for decision in decisions}
        found = [(each.score, each.raw_score) for each in decisions]
        expected = self.by_hash[model_hash]
        assert np.allclose(found, [row[:2] for row in expected], rtol=0, atol=tolerance)
        assert [each.action for each in decisions] == [row[2] for row in expected]
        return model_hash


class Caller:
    """Sends batches of the same rows as new transactions, one after another."""

    def __init__(self, world: ScoringWorld, rows: int = ROWS) -> None:
        self._world = world
        self._rows = rows
        self._numbers = itertools.count()

    async def decide(self) -> list[Decision]:
        """Send one batch by the internal door."""
        first = next(self._numbers) * self._rows
        transactions = [
            some_transaction(number, card=number % self._rows)
            for number in range(first, first + self._rows)
        ]
        response = await self._world.stream(batch_of(feature_rows(transactions)))
        return [result.decision for result in response.results]

    async def until(self, model_hash: str) -> list[Decision]:
        """Send batches until one is decided by a model."""
        async with asyncio.timeout(30):
            while True:
                decisions = await self.decide()
                if {each.model_hash for each in decisions} == {model_hash}:
                    return decisions


async def wait_for(world: ScoringWorld, is_so: Callable[[], bool]) -> None:
    """Return when something is so."""
    async with asyncio.timeout(30):
        while not is_so():
            await world.store.marker(card_shard(0))


def gauge(name: str, **labels: str) -> float:
    """Return a metric's value."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def hash_of(line: ModelLine, version: int) -> str:
    """Return the hash of a version."""
    return line.artefacts[version].model_hash


async def test_swaps_under_load_fail_no_call_and_mix_nothing(
    topics: Mapping[str, str], line: ModelLine
) -> None:
    """Every reply of both doors is wholly of one version, while five others come."""
    expected = Expected()
    line.promote(1)
    expected.add(line.artefacts[1])
    async with serving(topics, line) as world:
        caller, stub, is_over = Caller(world), world.front, asyncio.Event()
        replies: list[list[Decision]] = []
        seen: set[str] = set()

        async def stream() -> None:
            while not is_over.is_set():
                replies.append(await caller.decide())
                seen.add(replies[-1][0].model_hash)

        async def front(card: int) -> None:
            numbers = itertools.count(1_000_000 * card)
            while not is_over.is_set():
                request = ScoreRequest(transaction=some_transaction(next(numbers), card=card))
                decision = await stub.Score(request, timeout=20)
                assert not decision.stand_in
                replies.append([decision])

        load = [asyncio.create_task(stream()), *(asyncio.create_task(front(n)) for n in (101, 102))]
        for version in range(2, SWAPS + 2):
            thresholds = (0.1 + version / 20, 0.3 + version / 20, 0.6)
            await asyncio.to_thread(line.promote, version, thresholds=thresholds)
            expected.add(line.artefacts[version])
            await wait_for(world, partial(seen.__contains__, hash_of(line, version)))
        is_over.set()
        await asyncio.gather(*load)

    assert {reply[0].model_hash for reply in replies} == set(expected.by_hash)
    for reply in replies:
        if len(reply) == ROWS:
            expected.check(reply)


async def test_rollback_is_served_without_a_restart(
    topics: Mapping[str, str], line: ModelLine
) -> None:
    """At 3 a.m. one order is enough; the former champion decides again."""
    line.promote(1)
    line.promote(2)
    async with serving(topics, line) as world:
        caller = Caller(world)
        await caller.until(hash_of(line, 2))

        line.roll_back()

        await caller.until(hash_of(line, 1))
        assert gauge("fraud_model_ledger_entry") == line.repository.read().head.sequence


async def test_refused_candidate_changes_nothing_until_it_is_mended(
    topics: Mapping[str, str], line: ModelLine
) -> None:
    """The former champion serves on, a metric and the log say so; a corrected one takes over."""
    line.promote(1)
    async with serving(topics, line) as world:
        caller = Caller(world)
        name = line.add(2)
        file = line.member_of(2)
        good = file.read_bytes()
        file.write_bytes(good[:-4] + b"evil")
        line.propose(name)
        line.approve(name)

        await wait_for(world, lambda: gauge("fraud_model_refused", role="champion") == 1)
        decisions = await caller.decide()
        file.write_bytes(good)

        assert {decision.model_hash for decision in decisions} == {hash_of(line, 1)}
        await caller.until(hash_of(line, 2))
        await wait_for(world, lambda: gauge("fraud_model_refused", role="champion") == 0)


async def test_ledger_that_goes_back_is_refused(topics: Mapping[str, str], line: ModelLine) -> None:
    """A ledger of an earlier day is good in itself, and still not what was seen."""
    line.promote(1)
    early = line.repository.ledger_bytes()
    line.promote(2)
    async with serving(topics, line) as world:
        line.repository.ledger.write_bytes(early)

        await wait_for(world, lambda: gauge("fraud_model_refused", role="ledger") == 1)

        decisions = await Caller(world).decide()
        assert {decision.model_hash for decision in decisions} == {hash_of(line, 2)}


async def test_first_promotion_takes_over_from_stand_ins(
    topics: Mapping[str, str], line: ModelLine
) -> None:
    """A service may start before a model is promoted: stand-ins decide until one is."""
    async with serving(topics, line) as world:
        caller = Caller(world)
        before = await caller.decide()
        line.promote(1)

        await caller.until(hash_of(line, 1))

        cause = StandInCause.STAND_IN_CAUSE_MODEL_NOT_LOADED
        assert {decision.stand_in_cause for decision in before} == {cause}


async def test_canary_decides_the_same_cards_until_it_ends(
    topics: Mapping[str, str], line: ModelLine, caplog: pytest.LogCaptureFixture
) -> None:
    """A share of the cards by their tokens, whatever the batch; a rollback gives them back."""
    expected = Expected()
    line.promote(1)
    name = line.add(2, thresholds=(0.3, 0.5, 0.6))
    for version in (1, 2):
        expected.add(line.artefacts[version])
    line.propose(name)
    line.canary(name, share_permille=500)
    champion, canary = hash_of(line, 1), hash_of(line, 2)
    by_card = [
        canary if is_in_share(card_token(card), canary, 500) else champion for card in range(ROWS)
    ]
    assert set(by_card) == {champion, canary}
    async with serving(topics, line) as world:
        caller = Caller(world)
        for _ in range(3):
            decisions = await caller.decide()

            assert [decision.model_hash for decision in decisions] == by_card
            for place, decision in enumerate(decisions):
                score, _, action = expected.by_hash[decision.model_hash][place]
                assert decision.score == pytest.approx(score, abs=1e-6)
                assert decision.action == action

        line.roll_back()

        await caller.until(champion)

    assert "there is no canary model now" in caplog.messages


async def test_promoted_canary_decides_all_cards(
    topics: Mapping[str, str], line: ModelLine
) -> None:
    """Its proposal stood open all the while."""
    line.promote(1)
    name = line.add(2)
    line.propose(name)
    line.canary(name, share_permille=100)
    async with serving(topics, line) as world:
        line.approve(name)

        await Caller(world).until(hash_of(line, 2))


async def test_shadow_scores_follow_the_decisions(
    topics: Mapping[str, str], line: ModelLine
) -> None:
    """What a challenger would have said comes on a topic of its own, and decides nothing."""
    expected = Expected()
    line.promote(1)
    line.shadow(line.add(2, thresholds=(0.3, 0.5, 0.6)))
    for version in (1, 2):
        expected.add(line.artefacts[version])
    async with serving(topics, line) as world:
        decisions = await Caller(world).decide()

        found = [ShadowScore.FromString(value) for value in await world.log.read(SHADOWED, ROWS)]

    assert expected.check(decisions) == hash_of(line, 1)
    by_id = {score.decision_id: score for score in found}
    assert len(by_id) == len(found) == ROWS
    for decision, (score, _, action) in zip(
        decisions, expected.by_hash[hash_of(line, 2)], strict=True
    ):
        shadowed = by_id[decision.decision_id]
        assert shadowed.model_hash == hash_of(line, 2)
        assert shadowed.score == pytest.approx(score, abs=1e-6)
        assert shadowed.action == action
        assert shadowed.card_token == decision.card_token


@pytest.mark.slow
async def test_fifty_swaps_leave_no_memory_behind(
    topics: Mapping[str, str], line: ModelLine
) -> None:
    """Engines are closed: the process after 50 swaps is as large as after 10."""
    line.promote(1)
    line.promote(2)
    sizes = []
    async with serving(topics, line) as world:
        caller = Caller(world)
        for version in _versions():
            await asyncio.to_thread(line.promote, version)
            await caller.until(hash_of(line, version))
            sizes.append(resident_bytes())

    early, late = np.median(sizes[8:13]), np.median(sizes[-5:])
    assert late <= 1.05 * early, f"{early:.0f} bytes became {late:.0f}"


def _versions() -> Iterator[int]:
    return iter(range(3, 53))
