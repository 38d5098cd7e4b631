"""Follow the promotion ledger: load what it names beside what serves, then swap. No call waits.

The ledger is looked at by size and time of its file, so it may lie on a shared volume. One model is
loaded at a time, in a thread of its own: verified, held to its golden rows, warm and inside its
budget before it serves. What is refused changes nothing: the former model serves on, and the
refusal is said in the log once, by metrics until it is over, and tried again ever more rarely (the
ledger may have come before the artefact). A model that left is closed after its last call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from enum import StrEnum
from functools import partial
from threading import Thread
from typing import Final, TypeVar

from fraudstream.engines.fallback import Backoff, Retries
from fraudstream.engines.protocol import Engine
from fraudstream.errors import InvalidSettings, ModelNotLoaded, ModelRefused
from fraudstream.models.ledger_entry import LedgerEntry, LedgerHead, ModelRef
from fraudstream.models.promotion_rules import Standing
from fraudstream.runtime.file_change import FileState, state_of
from fraudstream.telemetry.metrics import MODEL_ENTRY, MODEL_REFUSED, MODEL_SWAPS
from services.scoring.inference.batcher import Batcher
from services.scoring.inference.line_up import Canary, LineUp, LineUpJudge
from services.scoring.inference.model_scorer import ModelJudge
from services.scoring.inference.model_source import ModelSource
from services.scoring.inference.served_model import ServedModel

T = TypeVar("T")

_LONGEST_WAIT_S: Final = 300.0

_LOG = logging.getLogger(__name__)


class Role(StrEnum):
    """What may be refused, as metrics name it."""

    LEDGER = "ledger"
    CHAMPION = "champion"
    CANARY = "canary"
    SHADOW = "shadow"


class ModelFollower:
    """Makes the line-up what the ledger says. Use from one event loop."""

    def __init__(
        self,
        source: ModelSource,
        batcher: Batcher,
        judge: LineUpJudge,
        every_ms: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._batcher = batcher
        self._judge = judge
        self._every_s = every_ms / 1_000
        self._clock_s = clock_s
        self._backoff = Backoff(Retries(self._every_s, _LONGEST_WAIT_S))
        self._again_at_s = 0.0
        self._state = FileState()
        self._seen: LedgerHead | None = None
        self._loaded: dict[str, ModelJudge] = {}
        self._complaints: dict[Role, str] = {}
        self._refused: dict[Role, str] = {}
        self._load = source.load
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load what the ledger names now. Without a champion stand-ins decide until there is one.

        Raises:
            ModelRefused: There is no repository, its ledger does not hold together, or its champion
                is not fit to serve.
            ModelNotLoaded: The champion's engine failed.
            InvalidSettings: The ledger's head cannot be read or kept.
        """
        self._state = state_of(self._source.repository.ledger)
        standing = self._source.read()
        self._seen = standing.head
        if standing.champion is not None:
            self._keep(standing.champion, self._source.load(standing, standing.champion))
        elif self._source.repository.folder.is_dir():
            _LOG.error("no model is promoted yet: stand-ins decide until one is")
        else:
            self._source.repository.load_champion(standing)  # says that there is none
        await self._bring(standing)
        self._settle()
        self._load = self._source.load_beside  # from now on there is one that serves meanwhile

    async def follow_forever(self) -> None:
        """Look at the ledger again and again."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
            except Exception as exc:  # noqa: BLE001  # outermost loop: no candidate ends a service
                _LOG.exception("the models could not be brought up to the ledger")
                self._refused[Role.LEDGER] = f"{type(exc).__name__}, not foreseen"
                self._settle()

    async def look(self) -> None:
        """Read the ledger if it changed, or if a refusal is due to be tried again; and swap."""
        # In a thread as well: on a shared volume that hangs, even this never returns.
        state = await _in_thread(partial(state_of, self._source.repository.ledger))
        is_due = bool(self._complaints) and self._clock_s() >= self._again_at_s
        if state == self._state and not is_due:
            return
        self._state = state
        try:
            standing = await _in_thread(partial(self._source.read, self._seen))
        except (ModelRefused, InvalidSettings) as exc:
            self._refused[Role.LEDGER] = str(exc)
        else:
            self._seen = standing.head
            await self._bring(standing)
        self._settle()

    async def close(self) -> None:
        """Give all engines back, after the last call and the last batch."""
        self._serve(LineUp())
        await asyncio.gather(*self._closing)

    async def _bring(self, standing: Standing) -> None:
        """Load what a standing names and does not serve yet, and serve it."""
        served = self._judge.line_up
        champion = await self._judge_of(standing, standing.champion, Role.CHAMPION)
        canary = await self._canary_of(standing, standing.canary)
        named = {model.manifest_sha256 for model in standing.challengers}
        kept = tuple(judge for judge in served.shadows if judge.model.model_hash in named)
        # What decides does not wait for what only looks on.
        self._serve(LineUp(champion or served.champion, canary, kept))
        shadows = [
            await self._judge_of(standing, model, Role.SHADOW) for model in standing.challengers
        ]
        found = tuple(judge for judge in shadows if judge is not None)
        self._serve(replace(self._judge.line_up, shadows=found))

    async def _canary_of(self, standing: Standing, entry: LedgerEntry | None) -> Canary | None:
        judge = await self._judge_of(standing, entry.order.model if entry else None, Role.CANARY)
        if judge is None or entry is None or entry.order.share_permille is None:
            return None
        return Canary(judge, entry.order.share_permille)

    async def _judge_of(
        self, standing: Standing, model: ModelRef | None, role: Role
    ) -> ModelJudge | None:
        """Return the judge of a model, loaded now if it is new; None for none or a refused one."""
        if model is None:
            return None
        found = self._loaded.get(model.manifest_sha256)
        if found is not None:
            return found
        try:
            ready = await _in_thread(partial(self._load, standing, model))
        except (ModelRefused, ModelNotLoaded) as exc:
            self._refused[role] = f"{self._refused.get(role, '')} {model}: {exc}".strip()
            return None
        return self._keep(model, ready)

    def _keep(self, model: ModelRef, ready: tuple[ServedModel, Engine]) -> ModelJudge:
        judge = ModelJudge(*ready, self._batcher)
        self._loaded[model.manifest_sha256] = judge
        _LOG.warning("model %s is loaded: %s", model, model.manifest_sha256)
        return judge

    def _serve(self, line_up: LineUp) -> None:
        """Swap, say what changed, and close what left."""
        former = self._judge.line_up
        self._judge.line_up = line_up
        was, now = _roles(former), _roles(line_up)
        for role in now:
            for judge in set(now[role]) - set(was[role]):
                MODEL_SWAPS.labels(role, "served").inc()
                _LOG.warning("%s model is now %s", role, judge.model.model_hash)
            if was[role] and not now[role]:
                _LOG.warning("there is no %s model now", role)
        for judge in set(former.all()) - set(line_up.all()):
            del self._loaded[judge.model.model_hash]
            closing = asyncio.create_task(judge.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _settle(self) -> None:
        """Say what is refused now, once each, and when it is tried again."""
        refused, self._refused = self._refused, {}
        for role, message in refused.items():
            if self._complaints.get(role) != message:
                _LOG.error("%s refused, what served before serves on: %s", role, message)
                MODEL_SWAPS.labels(role, "refused").inc()
        self._complaints = refused
        for role in Role:
            MODEL_REFUSED.labels(role).set(role in refused)
        if refused:
            self._again_at_s = self._clock_s() + self._backoff.next_s()
            return
        self._backoff.note_service(_LONGEST_WAIT_S)
        MODEL_ENTRY.set(self._seen.sequence if self._seen else 0)


def _roles(line_up: LineUp) -> dict[Role, tuple[ModelJudge, ...]]:
    return {
        Role.CHAMPION: (line_up.champion,) if line_up.champion else (),
        Role.CANARY: (line_up.canary.judge,) if line_up.canary else (),
        Role.SHADOW: line_up.shadows,
    }


async def _in_thread(work: Callable[[], T]) -> T:
    """Do work in a thread that does not hold up the end: a GPU engine's build cannot be stopped."""
    done: Future[T] = Future()

    def run() -> None:
        done.set_running_or_notify_cancel()  # from now on it cannot be cancelled
        try:
            done.set_result(work())
        except BaseException as exc:  # noqa: BLE001  # it is raised where the work is waited for
            done.set_exception(exc)

    Thread(target=run, name="model-loader", daemon=True).start()
    return await asyncio.wrap_future(done)
