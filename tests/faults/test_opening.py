"""The first opening of a shard: its owner looks at the logs, then opens it, and may be late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from harness.servers import ValkeyServer
from tests.faults import without
from tests.faults.stage import Stage, play


def _fail_over(stage: Stage) -> None:
    stage.world.server.fail_over({})


def _flush(stage: Stage) -> None:
    stage.world.server.wipe()


def _late_opener(lose: Callable[[Stage], None]) -> Callable[[Stage], Awaitable[None]]:
    """Return the trace of an opener that found empty logs, and stood still until a loss."""

    async def trace(stage: Stage) -> None:
        stage.world.server.fail_over({})
        await stage.schedule.run(stage.card.process, "open_shard")
        stage.give_shard_to(stage.second_card)
        await stage.run_until_open()
        stage.accept(stage.body(0))
        await stage.schedule.run_past(stage.second_card.process, "write_shard")
        lose(stage)
        await stage.schedule.run_past(stage.card.process, "open_shard")

    return trace


@pytest.mark.parametrize("lose", [_fail_over, _flush], ids=["another primary", "emptied"])
def test_late_opener_does_not_open_a_shard_that_was_lost_meanwhile(
    valkey: ValkeyServer, lose: Callable[[Stage], None]
) -> None:
    """What it saw in the logs is old: a decision that Kafka acknowledged stays the decision."""
    assert play(valkey.url, _late_opener(lose)) == []
    broken = play(valkey.url, _late_opener(lose), without.OPENING_WITNESSED)
    assert any("forked" in line for line in broken)
