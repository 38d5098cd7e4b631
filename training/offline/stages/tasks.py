"""The stages of a training set, task by task, in as many processes as asked for."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fraudstream.features.catalogue import SHARED_ENTITIES, Entity
from fraudstream.runtime.crashpoint import crash_point
from training.offline.plan import Content, Found, Plan, Unit
from training.offline.progress import Progress
from training.offline.stages.cards import CardInputs, walk_cards
from training.offline.stages.entities import walk_entities
from training.offline.stages.join import PartRows, cut_parts, write_part
from training.offline.stages.ordering import Slice, number_slice, slice_runs
from training.offline.stages.reading import read_unit
from training.offline.work import Summary, read_json, write_json


@dataclass(frozen=True, slots=True)
class Task:
    """A function of the plan whose result is kept in a done file.

    Attributes:
        stage: Its stage.
        name: Unique inside the stage.
        work: What is called.
        arguments: With what, besides the plan.
        rows: How large it is, for the progress bar.
    """

    stage: str
    name: str
    work: Callable[..., Summary]
    arguments: tuple[object, ...]
    rows: int

    def done_path(self, plan: Plan) -> Path:
        """Return where its result is kept."""
        return plan.work / "done" / f"{self.stage}-{self.name}.json"


def _run_task(plan: Plan, task: Task) -> Summary:
    summary = task.work(plan, *task.arguments)
    crash_point(f"dataset_{task.stage}")
    write_json(task.done_path(plan), summary)
    return summary


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def wait() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Pool:
    """Runs tasks, here or in processes of their own.

    Args:
        plan: What every task is given.
        executor: Processes; None to run the tasks here.
        progress: Told of every task that is done.
    """

    def __init__(
        self, plan: Plan, executor: ProcessPoolExecutor | None, progress: Progress
    ) -> None:
        self._plan = plan
        self._executor = executor
        self._progress = progress

    def run(self, tasks: Sequence[Task]) -> list[Summary]:
        """Run what is not done yet, and return all results in order."""
        kept = [read_json(task.done_path(self._plan)) for task in tasks]
        results = {number: found for number, found in enumerate(kept) if found is not None}
        if tasks:
            self._progress.begin(tasks[0].stage, sum(task.rows for task in tasks))
        self._progress.advance(sum(tasks[number].rows for number in results))
        unfinished = {n: task for n, task in enumerate(tasks) if n not in results}
        for number, summary in self._finished(unfinished):
            results[number] = summary
            self._progress.advance(tasks[number].rows)
        return [results[number] for number in range(len(tasks))]

    def _finished(self, tasks: dict[int, Task]) -> Iterator[tuple[int, Summary]]:
        if self._executor is None:
            for number, task in tasks.items():
                yield number, _run_task(self._plan, task)
            return
        futures = {
            self._executor.submit(_run_task, self._plan, task): number
            for number, task in tasks.items()
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def open_pool(plan: Plan, processes: int, progress: Progress) -> Iterator[Pool]:
    """Yield a pool; its processes end with it."""
    if processes == 1:
        yield Pool(plan, None, progress)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _end_with_parent) as executor:
        yield Pool(plan, executor, progress)


def run_stages(plan: Plan, found: Found, pool: Pool) -> Summary:
    """Run all stages; return what `_dataset.json` says of the rows and parts."""
    (plan.work / "done").mkdir(parents=True, exist_ok=True)
    read = pool.run([_read_task(number, unit) for number, unit in enumerate(found.units)])
    runs = [run for summary in read for run in summary.get("runs", ())]
    slices = slice_runs(runs, is_log=plan.is_log)
    ordered = pool.run([_order_task(number, part) for number, part in enumerate(slices)])
    shares = _shares(sum(part.rows for part in slices), plan.shards)
    cards = pool.run(_card_tasks(plan, found, len(slices), shares))
    pool.run(_entity_tasks(plan, shares))
    ids = [
        (chunk["number"], chunk["rows"], str(plan.work / "order" / f"{number:05}" / "ids.arrow"))
        for number, chunk in enumerate(ordered)
    ]
    parts = pool.run(
        [_part_task(number, part, ids) for number, part in enumerate(cut_parts(_ranges(cards)))]
    )
    counts = {
        name: sum(summary[name] for summary in cards) for name in cards[0] if name != "ranges"
    }
    counts["unreadable"] = sum(summary["unreadable"] for summary in read)
    counts["refused"] = sum(summary.get("refused", 0) for summary in read)
    as_of_ms = max(
        [summary["last_ms"] for summary in (*runs, *read) if "last_ms" in summary] or [0]
    )
    return {"counts": counts, "parts": parts, "as_of_ms": as_of_ms}


def _shares(rows: int, parts: int) -> list[int]:
    """Return how many rows each part counts for on the bar; together all.

    >>> _shares(8, 3)
    [2, 3, 3]
    """
    return [rows * (n + 1) // parts - rows * n // parts for n in range(parts)]


def _by_kind(shares: list[int]) -> list[list[int]]:
    """Return the rows of each shard by kind of entity: each kind walks them all."""
    of_shard = [_shares(share, len(SHARED_ENTITIES)) for share in shares]
    return [[share[kind] for share in of_shard] for kind in range(len(SHARED_ENTITIES))]


def _ranges(cards: Sequence[Summary]) -> dict[int, int]:
    total: Counter[int] = Counter()
    for summary in cards:
        total.update({int(number): count for number, count in summary["ranges"].items()})
    return total


def _read_task(number: int, unit: Unit) -> Task:
    name = f"{number:06}"
    return Task("read", name, read_unit, (unit, name), unit.end - unit.begin)


def _order_task(number: int, part: Slice) -> Task:
    name = f"{number:05}"
    return Task("order", name, number_slice, (part, name), part.rows)


def _card_tasks(plan: Plan, found: Found, slices: int, shares: list[int]) -> list[Task]:
    def paths(content: Content) -> tuple[Path, ...]:
        return tuple(
            plan.work / "read" / f"{number:06}" / content.value
            for number, unit in enumerate(found.units)
            if unit.content is content
        )

    rows = tuple(plan.work / "order" / f"{number:05}" / "rows" for number in range(slices))
    inputs = CardInputs(rows, paths(Content.LABELS), paths(Content.DECISIONS))
    return [
        Task("cards", f"{shard:05}", walk_cards, (inputs, shard), shares[shard])
        for shard in range(plan.shards)
    ]


def _entity_tasks(plan: Plan, shares: list[int]) -> list[Task]:
    def events(entity: Entity) -> tuple[Path, ...]:
        return tuple(
            plan.work / "cards" / f"{shard:05}" / f"events-{entity.value}"
            for shard in range(plan.shards)
        )

    return [
        Task(
            "entities",
            f"{entity.value}-{shard:05}",
            walk_entities,
            (events(entity), (entity, shard)),
            share,
        )
        for entity, of_kind in zip(SHARED_ENTITIES, _by_kind(shares), strict=True)
        for shard, share in enumerate(of_kind)
    ]


def _part_task(number: int, part: PartRows, ids: list[tuple[int, int, str]]) -> Task:
    overlapping = [
        chunk for chunk in ids if chunk[0] < part.end and chunk[0] + chunk[1] > part.begin
    ]
    name = f"part-{number:05}.parquet"
    return Task("join", f"{number:05}", write_part, (part, overlapping, name), part.wanted)
