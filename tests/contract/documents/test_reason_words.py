"""Codes and words of reasons: what an analyst learned to read does not change."""

from __future__ import annotations

import json
from typing import Final

from fraudstream.v1.decision_pb2 import StandInCause
from harness.processes import PROJECT_FOLDER
from services.scoring.reasons.texts import FITS_HABITS, NO_HISTORY, SUM_OF_MANY, stand_in_reason
from training.train.explanations import reason_groups

# A line may be added; one that is here stays as it is, also when no model uses it any more.
GOLDEN: Final = {
    "FITS_HABITS": "Fits the card's habits",
    "MANY_SMALL_SIGNS": "Several small signs together",
    "NO_HISTORY": "First transaction of this card here",
    "R01": "Unusual amount",
    "R02": "Amount far from what this card usually spends",
    "R03": "Many or large purchases within an hour",
    "R04": "Many or large purchases within a day",
    "R05": "Unlike the card's last weeks",
    "R06": "Very soon or very long after the previous transaction",
    "R07": "Little known about this card",
    "R08": "First time at this terminal or merchant, or in this country",
    "R09": "Unusual time of day or week",
    "R10": "Unusual traffic at this terminal or merchant",
    "R11": "Known frauds at this terminal or merchant",
    "R12": "Kind of merchant",
    "R13": "How the card was used",
    "R14": "Large purchases of this card in the last days",
    "R15": "Far from the card's previous place",
    "R16": "New or busy device or address",
    "R17": "Unusual traffic of this customer",
    "R18": "Known frauds of this card, customer, device or address",
    "STAND_IN_DEADLINE": "There was no time left for the model",
    "STAND_IN_MODEL_FAILED": "The model gave no score",
    "STAND_IN_MODEL_NOT_LOADED": "No model is loaded",
    "STAND_IN_QUEUE_FULL": "Too many transactions waited for the model",
    "STAND_IN_STORE_UNAVAILABLE": "The card's history could not be read",
}
MANIFEST: Final = PROJECT_FOLDER / "models" / "demo" / "manifest.json"


def test_codes_and_words_are_the_golden_ones() -> None:
    """One code, one text, for ever."""
    causes = [StandInCause.Value(name) for name in StandInCause.keys()[1:]]
    reasons = [FITS_HABITS, NO_HISTORY, SUM_OF_MANY, *map(stand_in_reason, causes)]  # type: ignore[arg-type]  # stub

    found = {reason.code: reason.text for reason in reasons}
    found |= {group.code: group.text for group in reason_groups()}

    assert found == GOLDEN


def test_demo_model_speaks_the_golden_words() -> None:
    """A model carries the words that it was made with."""
    groups = json.loads(MANIFEST.read_text())["reason_groups"]

    assert {group["code"]: group["text"] for group in groups}.items() <= GOLDEN.items()
