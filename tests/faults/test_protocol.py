"""Seeded interleavings over the real services and scripts: effects happen once.

A seed that fails is named and can be played again alone: `FRAUD_TEST_SEED=1249 pytest -k one_seed
tests/faults/test_protocol.py`, with the trail of its steps in the message.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.servers import ValkeyServer
from tests.faults import without
from tests.faults.chaos import Outcome, Storm
from tests.faults.protocol_world import run_stepped
from tests.faults.seeds import SeedSettings
from tests.faults.without import NOTHING, Without

# A run takes about a third of a second.
_QUICK = 40
_MANY_BEGIN = 1_000  # beyond what the quick ones play


def _weather(
    valkey: ValkeyServer, seed: int, *, has_loss: bool, lacking: Without = NOTHING
) -> Outcome:
    async def run() -> Outcome:
        return await Storm(seed, valkey.url, has_loss=has_loss, without=lacking).run()

    outcome: Outcome = run_stepped(run())
    return outcome


def _failures(
    valkey: ValkeyServer, seeds: Sequence[int], *, has_loss: bool
) -> dict[int, list[str]]:
    """Return what is broken, by seed."""
    outcomes = ((seed, _weather(valkey, seed, has_loss=has_loss)) for seed in seeds)
    return {seed: outcome.faults for seed, outcome in outcomes if outcome.faults}


def test_effects_happen_once_in_any_interleaving(valkey: ValkeyServer) -> None:
    """Crashes, zombies, rebalances, time-outs and lost acknowledgements break no promise."""
    assert _failures(valkey, range(_QUICK), has_loss=False) == {}


def test_store_that_loses_writes_forks_only_what_was_unpublished(valkey: ValkeyServer) -> None:
    """A decision that Kafka acknowledged before the loss stays the decision."""
    assert _failures(valkey, range(_QUICK), has_loss=True) == {}


@pytest.mark.parametrize(
    ("lacking", "begin"),
    [
        (without.WRITE_FENCE, 0),
        (without.PARTIAL_SUCCESS, 10),
        (without.EMPTY_WRITES, 0),
        (without.RECORD_WINS, 0),
        (without.APPEND_IF_ABSENT, 1),
        (without.CLAIMS_WITH_STATES, 0),
    ],
    ids=["write fence", "partial", "empty writes", "record wins", "append", "claims"],
)
def test_seeds_find_a_rule_that_is_missing(
    valkey: ValkeyServer, lacking: Without, begin: int
) -> None:
    """The storm is strong enough: without the rule a promise breaks in one of a dozen seeds.

    They begin where the first was found among the seeds from 0.
    """
    seeds = range(begin, begin + 12)
    outcomes = (_weather(valkey, seed, has_loss=False, lacking=lacking) for seed in seeds)

    assert any(outcome.faults for outcome in outcomes)


@pytest.mark.parametrize(
    ("lacking", "begin"),
    [
        (without.RECORDS_RESTORED, 2),
        (without.CLAIMS_RESTORED, 17),
        (without.ALERTS_RAISED_AGAIN, 115),
    ],
    ids=["records restored", "claims restored", "alerts raised again"],
)
def test_seeds_find_a_rule_that_a_rebuild_misses(
    valkey: ValkeyServer, lacking: Without, begin: int
) -> None:
    """So are the losses: a rebuild that leaves something out is found in one of a dozen seeds."""
    seeds = range(begin, begin + 12)
    outcomes = (_weather(valkey, seed, has_loss=True, lacking=lacking) for seed in seeds)

    assert any(outcome.faults for outcome in outcomes)


@pytest.mark.slow
@pytest.mark.timeout(300 + 3 * SeedSettings().seeds)
@pytest.mark.parametrize("has_loss", [False, True], ids=["no loss", "loss"])
def test_effects_happen_once_for_as_many_seeds_as_were_asked_for(
    valkey: ValkeyServer, has_loss: bool
) -> None:
    """The same for more seeds: `FRAUD_TEST_SEEDS` of them, a slice by default, a night's worth."""
    seeds = range(_MANY_BEGIN, _MANY_BEGIN + SeedSettings().seeds)

    assert _failures(valkey, seeds, has_loss=has_loss) == {}


@pytest.mark.parametrize("has_loss", [False, True], ids=["no loss", "loss"])
def test_one_seed_alone(valkey: ValkeyServer, has_loss: bool) -> None:
    """Play the seed that is asked for, and show what happened in it."""
    seed = SeedSettings().seed
    outcome = _weather(valkey, seed, has_loss=has_loss)

    assert outcome.faults == [], "\n".join(outcome.trail)


def test_same_seed_gives_the_same_interleaving(valkey: ValkeyServer) -> None:
    """A seed can be played again: its steps are the same, one after another."""
    assert _weather(valkey, 7, has_loss=True).trail == _weather(valkey, 7, has_loss=True).trail
