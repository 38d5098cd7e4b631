"""Locust users who have transactions decided over gRPC, and read the decisions.

    locust -f loadtest/locustfile.py --host 127.0.0.1:50051 --headless -u 8 -r 8 -t 30s

Each user has a channel, so a connection, of its own and sends simulated transactions with card
tokens, one after another without a pause. An answer counts as a failure where it is no decision
about that very transaction. One Locust process makes about a thousand calls a second and costs more
CPU than the service: it is for behaviour, not for figures (`--processes` starts more of them).
"""

from __future__ import annotations

import itertools
import time
from typing import Final

import grpc
import grpc.experimental.gevent  # type: ignore[import-not-found]  # not in its stubs
from locust import User, task

from fraudstream.identity import decision_id_of, identity_of
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.scoring_pb2_grpc import ScoringStub
from fraudstream.v1.transaction_pb2 import Transaction
from loadtest.traffic import traffic

# Locust has patched the standard library by now; gRPC waits in C, so it is told apart.
grpc.experimental.gevent.init_gevent()  # pyright: ignore[reportAttributeAccessIssue]  # as above

_TIMEOUT_S: Final = 5.0
_users: Final = itertools.count(1)


class WrongDecision(Exception):
    """An answer that is no decision about what was asked."""


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
