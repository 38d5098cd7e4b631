"""Which models serve at one moment, and the judge that takes that moment once for each call.

A change is one assignment on the event loop: a call that has begun goes on with the line-up that it
took, to its last reason, and a later one takes the other. So no reply mixes two moments, and no
call waits for a change.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import FeatureSpecMismatch
from fraudstream.v1.decision_pb2 import Decision, StandInCause
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.decision.verdict import EngineTimes, Judged, Verdict, stand_in
from services.scoring.inference.batcher import Batcher
from services.scoring.inference.explainer import BUSY_ROWS
from services.scoring.inference.model_scorer import ModelJudge
from services.scoring.reasons.explanation import Explanation

_HASH_BYTES: Final = 8
_PERMILLE: Final = 1_000
_NO_MODEL: Final = stand_in(StandInCause.STAND_IN_CAUSE_MODEL_NOT_LOADED)


@dataclass(frozen=True, slots=True)
class Canary:
    """A challenger that decides some cards.

    Attributes:
        judge: The challenger.
        share_permille: Its share of all cards.
    """

    judge: ModelJudge
    share_permille: int

    def indices(self, cards: Sequence[str]) -> list[int]:
        """Return which of some rows, by their cards, it decides."""
        salt = self.judge.model.model_hash
        return [
            index
            for index, card in enumerate(cards)
            if is_in_share(card, salt, self.share_permille)
        ]


def is_in_share(card_token: str, salt: str, share_permille: int) -> bool:
    """Return whether a card belongs to a share of all cards.

    The same card always does while the share stands, and still does when it grows; another salt
    takes other cards.

    >>> sum(is_in_share(f"bank.k1.{card:032x}", "a model", 50) for card in range(10_000))
    539
    """
    digest = hashlib.blake2b(card_token.encode(), digest_size=_HASH_BYTES, key=salt.encode())
    return int.from_bytes(digest.digest()) * _PERMILLE < share_permille << (8 * _HASH_BYTES)


@dataclass(frozen=True, slots=True)
class LineUp:
    """Which models serve at one moment.

    Attributes:
        champion: Decides; None for none: a stand-in decides.
        canary: Decides some cards in its place; None for none.
        shadows: Score what was decided, and decide nothing.
    """

    champion: ModelJudge | None = None
    canary: Canary | None = None
    shadows: tuple[ModelJudge, ...] = ()

    def deciding(self) -> tuple[ModelJudge, ...]:
        """Return the models that decide."""
        judges = (self.champion, self.canary.judge if self.canary else None)
        return tuple(judge for judge in judges if judge is not None)

    def all(self) -> tuple[ModelJudge, ...]:
        """Return every model that serves."""
        return (*self.deciding(), *self.shadows)


class LineUpJudge:
    """Judges with whichever models serve when a call begins.

    Attributes:
        line_up: Taken once by each call; whoever changes it assigns another.
    """

    def __init__(self, batcher: Batcher, line_up: LineUp) -> None:
        self.line_up = line_up
        self._batcher = batcher

    async def judge(self, arrays: FeatureArrays, cards: Sequence[str], layout: Layout) -> Judged:
        """Return one verdict a row; each names the model that made it.

        Args:
            arrays: Of the rows.
            cards: Token of each row's card.
            layout: What the arrays hold.

        Raises:
            FeatureSpecMismatch: The champion needs what is not there.
            Overloaded: Too many rows wait for the engine.
        """
        line_up = self.line_up
        champion, canary = line_up.champion, line_up.canary
        if champion is None:
            return Judged([_NO_MODEL] * len(cards))
        indices = canary.indices(cards) if canary and _can_read(canary.judge, layout) else []
        if canary is None or not indices:
            with champion.used():
                return await champion.judge(arrays, layout)
        with champion.used(), canary.judge.used():
            rest = sorted(set(range(len(cards))) - set(indices))
            batches = [(canary.judge, indices), *([(champion, rest)] if rest else [])]
            judged = await asyncio.gather(
                *(judge.judge(arrays.select(batch), layout) for judge, batch in batches)
            )
        return _joined(zip((batch for _, batch in batches), judged, strict=True))

    @property
    def has_model(self) -> bool:
        """Return whether a model decides; else stand-ins do."""
        return self.line_up.champion is not None

    @property
    def is_busy(self) -> bool:
        """Whether the engine has no time for reasons now."""
        return self._batcher.waiting_rows > BUSY_ROWS

    async def measure_decisions(self, decisions: Sequence[Decision]) -> list[Explanation | None]:
        """Return measured explanations of decisions; None for those of a model that left.

        Raises:
            Overloaded: Too many rows wait for the engine.
        """
        found: list[Explanation | None] = [None] * len(decisions)
        for judge in self.line_up.deciding():
            with judge.used():
                measured = await judge.explainer.measure_decisions(decisions)
            found = [one or other for one, other in zip(found, measured, strict=True)]
        return found


def _can_read(judge: ModelJudge, layout: Layout) -> bool:
    """Return whether a canary has what it needs: where not, the champion decides for it."""
    try:
        judge.columns_of(layout.feature_hashes)
    except FeatureSpecMismatch:
        return False
    return True


def _joined(batches: Iterable[tuple[Sequence[int], Judged]]) -> Judged:
    """Return what two models said of some rows, in the order of the rows."""
    verdicts: dict[int, Verdict] = {}
    times: list[EngineTimes] = []
    for indices, judged in batches:
        verdicts |= zip(indices, judged.verdicts, strict=True)
        times.append(judged.engine)
    return Judged(
        [verdicts[index] for index in range(len(verdicts))],
        EngineTimes(min(time.started_us for time in times), max(time.ended_us for time in times)),
    )
