"""Test transactions: every outcome can be forced, and none leaves a trace or opens a way round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from fraudstream.client import ScoringClient
from fraudstream.errors import FraudStreamError, InvalidTransaction
from fraudstream.names import word_of
from fraudstream.topics import ACCEPTED, DECISIONS
from fraudstream.v1.decision_pb2 import Action, Decision, StandInCause
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.api import sandbox
from services.scoring.settings import ScoringSettings
from tests.worlds.scoring_world import ScoringWorld, scoring_world, some_transaction

BANK = "sandbox-bank"


@pytest.fixture
async def world(topics: Mapping[str, str]) -> AsyncIterator[ScoringWorld]:
    """Scoring with a sandbox and without a model."""
    async with scoring_world(topics, None, sandbox_bank=BANK) as running:
        yield running


@pytest.fixture
async def client(world: ScoringWorld) -> AsyncIterator[ScoringClient]:
    """A client of it."""
    async with ScoringClient(f"127.0.0.1:{world.service.ports[0]}", timeout_s=10) as opened:
        yield opened


def forced(merchant_id: str, number: int = 1) -> Transaction:
    """Return a test transaction that asks for an outcome."""
    transaction = some_transaction(number)
    transaction.bank_id = BANK
    transaction.card_token = transaction.card_token.replace("bank", BANK, 1)
    transaction.merchant_id = merchant_id
    return transaction


@pytest.mark.parametrize("merchant_id", sandbox.DECISIONS)
async def test_decision_can_be_forced_and_is_marked(
    client: ScoringClient, merchant_id: str
) -> None:
    """Each kind of decision comes as a real one would, and says that it is none."""
    decision = await client.score(forced(merchant_id))

    action = word_of(Action, decision.action)
    cause = StandInCause.Name(decision.stand_in_cause).replace("_CAUSE", "").replace("_", "-")
    assert merchant_id in (action, cause.lower(), "replayed", "provisional")
    assert decision.stand_in == merchant_id.startswith("stand-in")
    assert decision.replayed == (merchant_id == "replayed")
    says_provisional = ("provisional", "stand-in-store-unavailable")
    assert decision.provisional == (merchant_id in says_provisional)
    assert decision.model_hash == sandbox.MARK
    assert "SANDBOX" in {reason.code for reason in decision.reasons}
    assert decision.transaction_id == "t-1"


@pytest.mark.parametrize("merchant_id", sandbox.ERRORS)
async def test_error_can_be_forced(client: ScoringClient, merchant_id: str) -> None:
    """A caller's handling of each error is tried before it is needed."""
    with pytest.raises(FraudStreamError) as forced_error:
        await client.score(forced(merchant_id))

    assert type(forced_error.value) is sandbox.ERRORS[merchant_id]


async def test_unknown_wish_is_answered_with_those_there_are(client: ScoringClient) -> None:
    """A typing error is no approval."""
    with pytest.raises(InvalidTransaction, match=r"stand-in-deadline.*error-overloaded"):
        await client.score(forced("aprove"))


async def test_sandbox_leaves_no_trace_and_real_rows_beside_it_are_decided(
    world: ScoringWorld, client: ScoringClient
) -> None:
    """In one batch each row has its own; state, outbox and log know the real one alone."""
    real = some_transaction(2)

    answers = await client.score_batch([forced("decline"), real, forced("error-overloaded", 3)])

    kinds = [type(answer).__name__ for answer in answers]
    assert kinds == ["Decision", "Decision", "Overloaded"]
    decided = answers[1]
    assert isinstance(decided, Decision)
    assert decided.stand_in, "no model is served"
    decisions = [Decision.FromString(v) for v in await world.log.read(DECISIONS, 2, timeout_s=2)]
    assert [d.transaction_id for d in decisions] == ["t-2"]
    assert len(await world.log.read(ACCEPTED, 2, timeout_s=1)) == 1


async def test_bank_that_is_no_sandbox_cannot_be_one(topics: Mapping[str, str]) -> None:
    """A real bank's id is refused as a sandbox; without the setting the wishes are only names."""
    with pytest.raises(ValueError, match="sandbox_bank"):
        ScoringSettings.model_validate({"sandbox_bank": "bank"})
    async with (
        scoring_world(topics, None) as world,
        ScoringClient(f"127.0.0.1:{world.service.ports[0]}", timeout_s=10) as client,
    ):
        decision = await client.score(forced("approve"))

    assert decision.stand_in
    assert decision.model_hash != sandbox.MARK
