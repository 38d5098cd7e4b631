"""Reasons of the demo's model against exact Shapley values, on cases small enough to be exact.

Eight of its reason groups are the players, the rest of a row stays as it is; every one of the 256
coalitions is scored. The same baseline, the same engine.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest

from fraudstream.engines.protocol import Engine, FloatArray, score_rows
from fraudstream.models.artefact import read_artefact
from fraudstream.models.open_engine import open_engine
from harness.processes import PROJECT_FOLDER
from services.scoring.inference.explainer import groups_to_ask
from services.scoring.inference.model_source import served_model
from services.scoring.inference.served_model import ServedModel
from services.scoring.reasons.occlusion import Occlusion, logit, read_answers, rows_asked

Floats = npt.NDArray[np.float64]

MODEL: Final = PROJECT_FOLDER / "models" / "demo"
PLAYERS: Final = ("R01", "R04", "R08", "R09", "R10", "R12", "R13", "R16")
ROWS: Final = 40
# Contributions below this are no reason for anybody: a tenth of a log-odd.
NOTICED: Final = 0.1


class Cases:
    """Flagged golden rows of the demo's model.

    Attributes:
        vectors: float32 [B, F].
        sequences: float32 [B, T, C].
        logits: float64 [B].
    """

    def __init__(self) -> None:
        artefact = read_artefact(MODEL)
        self.model: ServedModel = served_model(artefact)
        self.engine: Engine = open_engine(artefact)
        golden = artefact.golden
        scores = self.model.calibrate(golden.raw_scores.astype(np.float64))
        flagged = np.flatnonzero(scores >= self.model.thresholds.review)[:ROWS]
        self.vectors, self.sequences = golden.vectors[flagged], golden.sequences[flagged]
        self.logits = self.score(self.vectors, self.sequences)

    def score(self, vectors: FloatArray, sequences: FloatArray) -> Floats:
        """Return log-odds of rows."""
        return logit(score_rows(self.engine, vectors, sequences))

    def groups(self, codes: tuple[str, ...]) -> list[Occlusion]:
        """Return groups by code."""
        return [group for group in self.model.occlusions if group.code in codes]

    def measured(self, row: int, groups: list[Occlusion]) -> list[float]:
        """Return what the service measures of one row, from the engine's own scores."""
        asked = rows_asked(self.vectors[row], self.sequences[row], groups)
        whole = score_rows(self.engine, self.vectors[[row]], self.sequences[[row]])
        answers = score_rows(self.engine, *asked)[: 2 * len(groups) + 1]
        return list(read_answers(float(whole[0]), answers, len(groups), []).contributions)


@pytest.fixture(scope="module")
def cases() -> Cases:
    """Flagged golden rows."""
    return Cases()


@pytest.fixture(scope="module")
def coalitions(cases: Cases) -> Floats:
    """Log-odds of each row under each coalition of the players, float64 [2^players, B]."""
    groups = cases.groups(PLAYERS)
    found = []
    for present in range(1 << len(groups)):
        vectors, sequences = cases.vectors.copy(), cases.sequences.copy()
        for place, group in enumerate(groups):
            if not present >> place & 1:
                group.put_back(vectors, sequences, np.ones(len(vectors), np.bool_))
        found.append(cases.score(vectors, sequences))
    return np.array(found)


def shapley(coalitions: Floats, players: int) -> Floats:
    """Return exact Shapley values, float64 [B, players]."""
    values = np.zeros((coalitions.shape[1], players))
    for player in range(players):
        for present in range(1 << players):
            if not present >> player & 1:
                size = present.bit_count()
                weight = math.factorial(size) * math.factorial(players - 1 - size)
                gained = coalitions[present | 1 << player] - coalitions[present]
                values[:, player] += weight / math.factorial(players) * gained
    return values


def agreement(found: Floats, exact: Floats) -> tuple[float, float, float]:
    """Return the share of equal first reasons, the mean rank correlation, that of equal signs."""
    first = float((found.argmax(axis=1) == exact.argmax(axis=1)).mean())
    ranks = [np.argsort(np.argsort(values, axis=1), axis=1) for values in (found, exact)]
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*ranks, strict=True)])
    is_noticed = np.abs(exact) > NOTICED
    signs = float((np.sign(found) == np.sign(exact))[is_noticed].mean())
    return first, float(correlation), signs


def test_reasons_agree_with_exact_shapley_values(cases: Cases, coalitions: Floats) -> None:
    """First reason for 95 of 100 rows, ranks by 0.9, signs of what is noticed by 95 %."""
    exact = shapley(coalitions, len(PLAYERS))
    groups = cases.groups(PLAYERS)

    found = np.array([cases.measured(row, groups) for row in range(len(cases.vectors))])

    first, ranks, signs = agreement(found, exact)
    assert first >= 0.95
    assert ranks >= 0.9
    assert signs >= 0.95
    assert np.abs(found - exact).mean() <= 0.15 * np.abs(exact).mean()


def test_leaving_out_alone_agrees_less(cases: Cases, coalitions: Floats) -> None:
    """Why a group is asked about twice: features that stand for each other hide each other."""
    players = len(PLAYERS)
    exact = shapley(coalitions, players)
    whole = (1 << players) - 1

    left_out = np.stack([coalitions[whole] - coalitions[whole ^ 1 << p] for p in range(players)], 1)

    assert agreement(left_out, exact)[1] < 0.85
    assert np.abs(left_out - exact).mean() > 0.3 * np.abs(exact).mean()


def test_row_of_many_groups_asks_about_those_that_moved_it(cases: Cases) -> None:
    """Twelve of eighteen are asked about; the three largest of all are hardly ever left out."""
    everything = list(cases.model.occlusions)
    kept, total = 0, 0
    for row in range(len(cases.vectors)):
        contributions = cases.measured(row, everything)
        largest = sorted(range(len(everything)), key=contributions.__getitem__)[-3:]
        asked = {group.code for group in groups_to_ask(cases.model, cases.vectors[row])}
        kept += sum(everything[place].code in asked for place in largest)
        total += 3

    assert kept / total >= 0.9


def test_estimate_names_the_first_reason_of_most_rows(cases: Cases) -> None:
    """Without the engine: the same first reason for 85 of 100 rows."""
    everything = list(cases.model.occlusions)
    measured = [cases.measured(row, everything) for row in range(len(cases.vectors))]

    estimated = cases.model.estimate.contributions(cases.vectors)

    same = estimated.argmax(axis=1) == np.array(measured).argmax(axis=1)
    assert same.mean() >= 0.85
