"""A caller in JavaScript that has nothing but the proto files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.fakes.tiny_model import tiny_artefact
from tests.outside.clients.grpc_js import Answer, Call, GrpcJs
from tests.worlds.scoring_world import ScoringWorld, scoring_world, some_transaction


@pytest.fixture
async def world(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ScoringWorld]:
    """Scoring with the tiny model."""
    tiny_artefact(tmp_path / "model")
    async with scoring_world(topics, tmp_path / "model") as running:
        yield running


async def _answers(grpc_js: GrpcJs, world: ScoringWorld, calls: list[Call]) -> dict[str, Answer]:
    """Make calls in a process of their own, while the service works in this one."""
    address = f"127.0.0.1:{world.service.ports[0]}"
    answers = await asyncio.to_thread(grpc_js.run, address, calls, 60.0)
    return {answer.tag: answer for answer in answers}


async def test_grpc_js_reads_decisions_repeats_and_refusals(
    grpc_js: GrpcJs, world: ScoringWorld
) -> None:
    """A decision, the same one again, a conflict and a bad row, each in the words of the docs."""
    payment, changed = some_transaction(1), some_transaction(1, amount_minor=9)
    bad = some_transaction(2, amount_minor=-5)
    calls = [
        Call("first", 0, 10_000, payment),
        Call("again", 1_500, 10_000, payment),
        Call("changed", 3_000, 10_000, changed),
        Call("bad", 3_000, 10_000, bad),
    ]

    answers = await _answers(grpc_js, world, calls)

    first, again = answers["first"].decision, answers["again"].decision
    assert first is not None
    assert again is not None
    assert first["action"].startswith("ACTION_")
    assert first["reasons"]
    assert (again["decision_id"], again["score"]) == (first["decision_id"], first["score"])
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert (answers["changed"].code, answers["changed"].reason) == (
        "ALREADY_EXISTS",
        "ConflictingTransaction",
    )
    assert (answers["bad"].code, answers["bad"].reason) == ("INVALID_ARGUMENT", "AMOUNT_SIGN")


async def test_grpc_js_has_many_calls_answered_at_once(
    grpc_js: GrpcJs, world: ScoringWorld
) -> None:
    """Each of 100 calls in flight on one connection has its own decision."""
    calls = [Call(f"t-{n}", 0, 20_000, some_transaction(n, card=n)) for n in range(100)]

    answers = await _answers(grpc_js, world, calls)

    told = {tag: a.decision["transaction_id"] for tag, a in answers.items() if a.decision}
    assert told == {call.tag: call.tag for call in calls}
