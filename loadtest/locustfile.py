"""Locust users who have transactions decided over gRPC, and read the decisions.

    locust -f loadtest/locustfile.py --host 127.0.0.1:50051 --headless -u 8 -r 8 -t 30s

Each user has a channel, so a connection, of its own and sends simulated transactions with card
tokens, one after another without a pause. An answer counts as a failure where it is no decision
about that very transaction. One Locust process makes about a thousand calls a second and costs more
CPU than the service: it is for behaviour, not for figures (`--processes` starts more of them).
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from typing import Final

import grpc
import grpc.experimental.gevent  # type: ignore[import-not-found]  # not in its stubs
from locust import User, task

from fraudstream.identity import decision_id_of, identity_of
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.scoring_pb2_grpc import ScoringStub
from fraudstream.v1.transaction_pb2 import Transaction
from training.simulate import SimulationSettings, live_traffic

# Locust has patched the standard library by now; gRPC waits in C, so it is told apart.
grpc.experimental.gevent.init_gevent()  # pyright: ignore[reportAttributeAccessIssue]  # as above

_TIMEOUT_S: Final = 5.0
_CARDS: Final = 2_000
# A key id that no key file has: these cards exist in load tests only.
_KEY_ID: Final = "loadtest"
_users: Final = itertools.count(1)


class WrongDecision(Exception):
    """An answer that is no decision about what was asked."""


def card_token_of(transaction: Transaction) -> str:
    """Return a made-up token, the same one for each transaction of a customer."""
    number = int(transaction.customer_id.rpartition("-")[2])
    return f"{transaction.bank_id}.{_KEY_ID}.{number:032x}"


def traffic(seed: int) -> Iterator[Transaction]:
    """Yield one user's transactions: cards by token, ids that were never used, time is now."""
    run = secrets.token_hex(4)
    settings = SimulationSettings(seed=seed, cards=_CARDS)
    for simulated in live_traffic(settings):
        transaction = simulated.transaction
        # Setting one member of the oneof clears the other: the PAN.
        transaction.card_token = card_token_of(transaction)
        transaction.transaction_id = f"{run}-{seed}-{transaction.transaction_id}"
        transaction.event_time_ms = time.time_ns() // 1_000_000
        yield transaction


def check_decision(transaction: Transaction, decision: Decision) -> None:
    """Check that an answer decides this transaction.

    Raises:
        WrongDecision: It does not.
    """
    identity = identity_of(transaction.bank_id, transaction.card_token, transaction.transaction_id)
    if decision.decision_id != decision_id_of(identity):
        raise WrongDecision("the decision's id is another transaction's")
    if decision.transaction_id != transaction.transaction_id:
        raise WrongDecision("the decision names another transaction")
    if decision.action == Action.ACTION_UNSPECIFIED:
        raise WrongDecision("the decision has no action")
    if not decision.reasons:
        raise WrongDecision("the decision has no reasons")


class ScoreUser(User):
    """A downstream system with one connection and one call in flight."""

    def on_start(self) -> None:
        """Connect, and begin with transactions that no other user sends."""
        # A pool of its own, as channels with equal options share connections otherwise.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(self.host or "127.0.0.1:50051", options)
        self._stub = ScoringStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._traffic = traffic(next(_users))

    def on_stop(self) -> None:
        """Disconnect."""
        self._channel.close()

    @task
    def score(self) -> None:
        """Have one transaction decided, and report the call to Locust under its action."""
        transaction = next(self._traffic)
        started_s = time.perf_counter()
        action, size, failure = "failed", 0, None
        try:
            decision = self._stub.Score(ScoreRequest(transaction=transaction), timeout=_TIMEOUT_S)
            size = decision.ByteSize()
            check_decision(transaction, decision)
            action = Action.Name(decision.action).removeprefix("ACTION_").lower()
        except (grpc.RpcError, WrongDecision) as exc:
            failure = exc
        self.environment.events.request.fire(
            request_type="grpc",
            name=f"Score {action}",
            response_time=(time.perf_counter() - started_s) * 1_000,
            response_length=size,
            exception=failure,
            context={},
        )
