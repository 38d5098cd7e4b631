"""History by Feast: what each decision was made from, point in time, from the archive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.feast_plugin.sources import QuestionRefused
from fraudstream.features.catalogue import CATALOGUE, FEATURE_NAMES
from fraudstream.features.history import replay_history
from fraudstream.features.state import DAY_MS, EXPIRY_D
from harness.servers import ValkeyServer
from tests.worlds.feast_world import (
    DECIDED_MS,
    Decided,
    FeastWorld,
    Vector,
    archive_decisions,
    decision,
    is_same,
    make_world,
    vectors_in,
    write_cards,
)
from training.simulator.histories import simulated_history
from training.simulator.simulate import SimulationSettings, simulate

_CARD = "bank.k1.card"
_NOTHING = np.full(len(CATALOGUE), np.nan, np.float32)


@pytest.fixture
def world(valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeastWorld:
    """All stream views over an archive that is not there yet."""
    for name, setting in {**valkey.environment(), "FRAUD_REDIS_KEY_PREFIX": tmp_path.name}.items():
        monkeypatch.setenv(name, setting)
    return make_world(tmp_path)


def _vector(number: float) -> Vector:
    return np.full(len(CATALOGUE), number, np.float32)


def _ask(
    world: FeastWorld, cards: Sequence[str], times_ms: Sequence[int], is_known_only: bool = False
) -> list[Vector]:
    """Return the vectors of (card, time) rows."""
    question = pd.DataFrame(
        {"card_token": cards, "event_timestamp": pd.to_datetime(times_ms, unit="ms", utc=True)}
    )
    answer = world.store.get_historical_features(
        question, world.service, filter_by_created_timestamp=is_known_only
    ).to_df()
    assert answer["card_token"].tolist() == list(cards)
    return vectors_in({name: answer[name].tolist() for name in FEATURE_NAMES})


def test_online_historical_and_decided_values_are_equal_to_the_bit(world: FeastWorld) -> None:
    """A simulated stream through the kernel: store, archive and Feast's three ways agree."""
    simulated = simulate(SimulationSettings(seed=3, cards=40, days=12))
    history = simulated_history(simulated).history
    vectors = replay_history(history, np.ones(len(history.rows), np.bool_)).vectors
    cards = [f"bank.k1.{number:032x}" for number in history.card.tolist()]
    times_ms = history.rows["event_ms"].tolist()
    decided = [Decided(vector, ms) for vector, ms in zip(vectors, times_ms, strict=True)]
    last_at = {moment: place for place, moment in enumerate(zip(cards, times_ms, strict=True))}
    last_of = dict(zip(cards, decided, strict=True))
    messages = [decision(n, c, d) for n, (c, d) in enumerate(zip(cards, decided, strict=True))]
    archive_decisions(world.decisions, messages)
    asyncio.run(write_cards(last_of))
    names = list(last_of)
    now_ms = [times_ms[-1]] * len(names)
    then = [vectors[last_at[moment]] for moment in zip(cards, times_ms, strict=True)]

    online = world.online(names)
    concurrent = asyncio.run(world.online_async(names))
    historical = _ask(world, names, now_ms)
    each = _ask(world, cards, times_ms)

    assert len(cards) > 300
    expected = [last_of[name].vector for name in names]
    assert is_same(online, expected)
    assert is_same(concurrent, expected)
    assert is_same(historical, expected)
    assert is_same(each, then)


def test_question_gets_the_last_decision_at_or_before_it(world: FeastWorld) -> None:
    """Between two decisions the earlier; before the first, past the ttl or of nobody: null."""
    ttl_ms = EXPIRY_D * DAY_MS
    archive_decisions(
        world.decisions,
        [
            decision(1, _CARD, Decided(_vector(1), DECIDED_MS)),
            decision(2, _CARD, Decided(_vector(2), DECIDED_MS + DAY_MS)),
        ],
    )
    last_ms = DECIDED_MS + DAY_MS
    times_ms = [
        DECIDED_MS - 1,
        DECIDED_MS,
        last_ms - 1,
        last_ms,
        last_ms + ttl_ms,
        last_ms + ttl_ms + 1,
        last_ms,
    ]

    found = _ask(world, [_CARD] * 6 + ["nobody"], times_ms)

    expected = [_NOTHING, *map(_vector, (1, 1, 2, 2)), _NOTHING, _NOTHING]
    assert is_same(found, expected)


def test_of_decisions_of_one_millisecond_the_last_in_the_log_counts(world: FeastWorld) -> None:
    """As it is online; equal rows of the question are answered each."""
    same_ms = [Decided(_vector(number), DECIDED_MS) for number in range(20)]
    archive_decisions(world.decisions, [decision(n, _CARD, d) for n, d in enumerate(same_ms)])

    found = _ask(world, [_CARD] * 3, [DECIDED_MS] * 3)

    assert is_same(found, [_vector(19)] * 3)


def test_later_record_of_an_identity_never_overwrites_the_first(world: FeastWorld) -> None:
    """The decision of an identity is its first record in the log, in whichever file."""
    archive_decisions(world.decisions, [decision(1, _CARD, Decided(_vector(1), DECIDED_MS))])
    fork = decision(1, _CARD, Decided(_vector(2), DECIDED_MS))
    archive_decisions(world.decisions, [fork], first=1, appended_ms=[DECIDED_MS + DAY_MS])

    assert is_same(_ask(world, [_CARD], [DECIDED_MS + DAY_MS]), [_vector(1)])


def test_decision_with_another_feature_set_is_null(world: FeastWorld) -> None:
    """Its values had other meanings; an older decision does not stand in for it."""
    first = decision(1, _CARD, Decided(_vector(1), DECIDED_MS))
    foreign = decision(2, _CARD, Decided(_vector(2), DECIDED_MS + 1), feature_set="of another")
    archive_decisions(world.decisions, [first, foreign])

    assert is_same(_ask(world, [_CARD] * 2, [DECIDED_MS, DECIDED_MS + 1]), [_vector(1), _NOTHING])


def test_late_decision_counts_from_its_event_or_from_when_it_was_known(world: FeastWorld) -> None:
    """By event time it may say what nobody knew yet; `filter_by_created_timestamp` is strict."""
    on_time = decision(1, _CARD, Decided(_vector(1), DECIDED_MS))
    late = decision(2, _CARD, Decided(_vector(2), DECIDED_MS + 10))
    archive_decisions(world.decisions, [on_time, late], appended_ms=[DECIDED_MS, DECIDED_MS + 99])
    times_ms = [DECIDED_MS + 50, DECIDED_MS + 99]

    by_event = _ask(world, [_CARD] * 2, times_ms)
    by_knowledge = _ask(world, [_CARD] * 2, times_ms, is_known_only=True)

    assert is_same(by_event, [_vector(2)] * 2)
    assert is_same(by_knowledge, [_vector(1), _vector(2)])


def test_archive_that_is_not_there_is_refused(world: FeastWorld) -> None:
    """A wrong path must not look like cards without decisions."""
    with pytest.raises(QuestionRefused, match=r"no archived decisions under .*FRAUD_ARCHIVE_ROOT"):
        _ask(world, [_CARD], [DECIDED_MS])


def test_file_that_is_none_of_the_archives_is_refused(world: FeastWorld) -> None:
    """What lies in the archive and was not written by it is not read."""
    archive_decisions(world.decisions, [decision(1, _CARD, Decided(_vector(1), DECIDED_MS))])
    whole = next(world.decisions.glob("*/*/*.parquet"))
    whole.rename(whole.with_name("copy.parquet"))

    with pytest.raises(InvalidSettings, match="no archive file"):
        _ask(world, [_CARD], [DECIDED_MS])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (None, "expected entity_df"),
        (pd.DataFrame({"card_token": [_CARD]}), "event_timestamp"),
        (pd.DataFrame({"card_token": [_CARD], "event_timestamp": [pd.NaT]}), "1 rows"),
    ],
)
def test_question_without_times_is_refused(
    world: FeastWorld, rows: pd.DataFrame | None, reason: str
) -> None:
    """A point in time is needed for each row."""
    with pytest.raises(QuestionRefused, match=reason):
        world.store.get_historical_features(rows, world.service).to_df()
