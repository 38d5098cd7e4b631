"""Reasons: what the engine is asked, what its answers mean, and how many questions there are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest

from fraudstream.engines.golden import GoldenRows
from fraudstream.features.catalogue import SEQUENCE_CHANNELS, SEQUENCE_LENGTH
from services.scoring.reasons.estimate import Estimate
from services.scoring.reasons.occlusion import (
    MAX_EXTRA_ROWS,
    MAX_GROUPS,
    PAST_BLOCKS,
    Occlusion,
    blocks_of,
    logit,
    read_answers,
    rows_asked,
    without_steps,
)
from services.scoring.reasons.texts import reasons_of
from tests.fakes.tiny_model import some_sequences, some_vectors

NO_PLACES: Final = np.array([], np.intp)
NO_VALUES: Final = np.array([], np.float32)
SECONDS_BEFORE: Final = SEQUENCE_CHANNELS.index("seconds_before")
FIRST_PURCHASE: Final = np.full((SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS)), -1.0, np.float32)
FIRST_PURCHASE[-1] = 0.0

Floats = npt.NDArray[np.float64]
# Log-odds of vectors, float64 [R, F].
Game = Callable[[Floats], Floats]


def column(place: int) -> Occlusion:
    """Return a group of one column whose usual value is 0."""
    zero = np.zeros(1, np.float32)
    return Occlusion(f"R{place:02d}", f"r{place}", np.array([place]), zero, NO_PLACES, NO_VALUES)


def contributions(game: Game, columns: int) -> list[float]:
    """Return what is measured of a row of ones, of a model that is only a vector's game."""
    row, groups = np.ones(columns, np.float32), [column(place) for place in range(columns)]
    asked, _ = rows_asked(row, FIRST_PURCHASE, groups)
    scores = 1 / (1 + np.exp(-game(np.concatenate([row[None], asked]).astype(np.float64))))
    return list(read_answers(scores[0], scores[1:].astype(np.float32), columns, []).contributions)


def shapley(game: Game, columns: int) -> list[float]:
    """Return exact Shapley values of a row of ones: over every coalition."""
    found = []
    for player in range(columns):
        others = [place for place in range(columns) if place != player]
        value = 0.0
        for size in range(columns):
            weight = math.factorial(size) * math.factorial(columns - 1 - size)
            for coalition in itertools.combinations(others, size):
                rows = np.zeros((2, columns))
                rows[:, coalition] = 1.0
                rows[1, player] = 1.0
                before, after = game(rows)
                value += weight / math.factorial(columns) * (after - before)
        found.append(value)
    return found


def test_groups_that_act_alone_or_in_pairs_get_their_shapley_value() -> None:
    """The mean of leaving one out and adding one in halves every pair: that is its fair share."""
    random = np.random.default_rng(5)
    alone, pairs = random.normal(0, 0.5, 6), np.triu(random.normal(0, 0.5, (6, 6)), 1)

    def game(rows: Floats) -> Floats:
        return np.asarray(rows @ alone + np.einsum("ri,ij,rj->r", rows, pairs, rows))

    assert contributions(game, 6) == pytest.approx(shapley(game, 6), abs=1e-5)


def test_three_that_stand_for_each_other_get_more_than_their_share() -> None:
    """Where it provably differs: one of three is enough, and each is given half, not a third."""

    def game(rows: Floats) -> Floats:
        return np.asarray(3.0 * (rows.max(axis=1) > 0))

    assert shapley(game, 3) == pytest.approx([1.0, 1.0, 1.0])
    assert contributions(game, 3) == pytest.approx([1.5, 1.5, 1.5], abs=1e-6)


def test_row_asks_for_one_batch_at_most() -> None:
    """32 rows, stated, however many groups and transactions there are."""
    groups = [column(place) for place in range(MAX_GROUPS)]

    vectors, sequences = rows_asked(np.ones(20, np.float32), np.ones((32, 6), np.float32), groups)

    assert len(vectors) == len(sequences) == MAX_EXTRA_ROWS == 32
    assert PAST_BLOCKS[-1][1] == SEQUENCE_LENGTH - 1, "every past step is in a block"
    steps = [step for newest, oldest in PAST_BLOCKS for step in range(newest, oldest + 1)]
    assert steps == list(range(1, SEQUENCE_LENGTH))


def test_occlusion_changes_its_own_group_only_and_no_padding() -> None:
    """A copy of a row has one group at its usual value; padded steps stay padding."""
    vectors, sequences = some_vectors(2), some_sequences(2)
    channel = SEQUENCE_CHANNELS.index("mcc")
    seven = np.array([7.0], np.float32)
    by_channel = Occlusion("R01", "", NO_PLACES, NO_VALUES, np.array([channel]), seven)

    asked, steps = rows_asked(vectors[0], sequences[0], [column(1), by_channel])

    assert asked[:5, 1].tolist() == [0.0, vectors[0, 1], vectors[0, 1], 0.0, 0.0]
    others = [place for place in range(vectors.shape[1]) if place != 1]
    np.testing.assert_array_equal(asked[:, others], np.repeat(vectors[:1, others], len(asked), 0))
    is_step = sequences[0, :, SECONDS_BEFORE] >= 0
    for row, is_put_back in enumerate([False, True, True, False, True]):
        np.testing.assert_array_equal(steps[row, ~is_step], sequences[0, ~is_step])
        assert (steps[row, is_step, channel] == 7.0).all() == is_put_back


def test_past_transaction_is_taken_out_as_if_it_had_never_been() -> None:
    """Older steps move up, padding takes their place, the decided transaction stays last."""
    sequence = np.zeros((5, len(SEQUENCE_CHANNELS)), np.float32)
    sequence[:, SECONDS_BEFORE] = [-1, 300, 200, 100, 0]

    shorter = without_steps(sequence, 2, 2)

    assert shorter[:, SECONDS_BEFORE].tolist() == [-1, -1, 300, 100, 0]
    assert without_steps(sequence, 1, 3)[:, SECONDS_BEFORE].tolist() == [-1, -1, -1, -1, 0]


@pytest.mark.parametrize(
    ("steps", "blocks"),
    [(0, []), (1, [(1, 1)]), (4, [(1, 1), (2, 2), (3, 3), (4, 4)]), (31, list(PAST_BLOCKS))],
)
def test_blocks_end_with_the_cards_past(steps: int, blocks: list[tuple[int, int]]) -> None:
    """Nobody is asked about transactions that are not there."""
    sequence = FIRST_PURCHASE.copy()
    sequence[SEQUENCE_LENGTH - 1 - steps :, SECONDS_BEFORE] = 0.0

    assert blocks_of(sequence) == blocks


def test_past_is_read_newest_first() -> None:
    """What the score loses without a block is what the block gave it."""
    answers = np.array([0.5, 0.9], np.float32)

    measured = read_answers(0.8, answers, 0, [(1, 1), (2, 2)])

    newest, older = measured.past
    assert (newest.newest_steps_back, older.newest_steps_back) == (1, 2)
    assert newest.contribution == pytest.approx(np.log(4), abs=1e-6)
    assert older.contribution == pytest.approx(np.log(4) - np.log(9), abs=1e-6)


def test_answers_that_are_none_move_nothing() -> None:
    """An engine that failed on the questions costs the reasons, not the decision."""
    measured = read_answers(0.8, np.full(5, np.nan, np.float32), 1, [(1, 1), (2, 2)])

    assert measured.contributions == (0.0,)
    assert [block.contribution for block in measured.past] == [0.0, 0.0]


def test_reasons_are_the_three_largest_moves_towards_fraud() -> None:
    """What moves away from fraud is no reason."""
    groups = [column(place) for place in range(5)]

    reasons = reasons_of([0.4, 2.0, -1.0, 0.9, 0.1], groups)

    assert [reason.code for reason in reasons] == ["R01", "R03", "R00"]
    assert reasons[0].contribution == 2.0


def test_flagged_row_without_a_leading_group_still_has_a_reason() -> None:
    """Reasons are never empty."""
    assert [reason.code for reason in reasons_of([-0.7], [column(0)])] == ["MANY_SMALL_SIGNS"]


def test_estimate_of_a_straight_model_is_near_what_it_does() -> None:
    """Ridge finds what golden rows show, and a feature that never moves is worth nothing."""
    random = np.random.default_rng(2)
    vectors = random.exponential(1.0, (256, 4)).astype(np.float32)
    vectors[:, 3] = 5.0
    steps = np.log1p(vectors[:, :3])
    scores = 1 / (1 + np.exp(-(steps @ np.array([2.0, -1.0, 0.5]) - 1.0)))
    golden = GoldenRows(vectors, np.zeros((256, 2, 6), np.float32), scores.astype(np.float32))

    estimate = Estimate.fit(golden, [column(place) for place in range(4)])
    found = estimate.contributions(vectors)

    np.testing.assert_allclose(found[:, 0], 2.0 * steps[:, 0], atol=0.6)
    assert (found.argmax(axis=1) == (steps * [2.0, -1.0, 0.5]).argmax(axis=1)).mean() > 0.95
    assert not found[:, 3].any()


def test_estimate_of_a_missing_value_is_none() -> None:
    """NaN stands at no distance."""
    estimate = Estimate(np.zeros(2, np.float32), np.ones((2, 1)))

    assert estimate.contributions(np.array([[np.nan, 0.0]], np.float32)).tolist() == [[0.0]]


def test_logit_is_finite_at_its_ends() -> None:
    """A float32 score reaches 0 and 1."""
    assert np.isfinite(logit(np.array([0.0, 1.0], np.float32))).all()
