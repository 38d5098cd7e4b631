"""Locust users: a caller of gRPC, and a bank that sends to Kafka; both read their decisions.

    make load                                        HTML and JSON in build/, 30 seconds
    locust -f loadtest/locustfile.py ScoreUser --host 127.0.0.1:50051 --headless -u 8 -r 8 -t 30s
    locust -f loadtest/locustfile.py KafkaUser --headless -u 8 -r 8 -t 30s

`ScoreUser` has a connection of its own. `KafkaUser` appends to the raw topic of the broker that
`FRAUD_KAFKA_BOOTSTRAP` names and times the decision's arrival: it needs the whole line. Each sends
simulated transactions one after another; an answer that is no decision about that very transaction
is a failure. One Locust process makes about a thousand calls a second and costs more CPU than the
service: figures are measured by `python -m loadtest.bench`.

The exit code is 0 only where something was sent and all of it was decided: 1 where a request
failed, 69 where there was none. Without a service or broker a run ends before it begins, and leaves
the report of an earlier one as it is.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Final, cast

import gevent
import grpc
import grpc.experimental.gevent  # type: ignore[import-not-found]  # not in its stubs
from gevent.event import AsyncResult
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kafka import KafkaProducer
from kafka.errors import KafkaError
from locust import User, events, task
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import print_error_report

from fraudstream.broker.clients import kafka_python_options
from fraudstream.broker.log_reader import LogReader
from fraudstream.errors import FraudStreamError
from fraudstream.names import word_of
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, RAW
from fraudstream.transaction.formats import CONTENT_TYPE, PROTOBUF
from fraudstream.transaction.identity import decision_id_of, identity_of
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.scoring_pb2_grpc import ScoringStub
from fraudstream.v1.transaction_pb2 import Transaction
from loadtest.traffic import raw_traffic, traffic

# Locust has patched the standard library by now; gRPC waits in C, so it is told apart.
grpc.experimental.gevent.init_gevent()  # pyright: ignore[reportAttributeAccessIssue]  # as above

_ADDRESS: Final = "127.0.0.1:50051"
_NO_ANSWER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_TIMEOUT_S: Final = 5.0
_LINE_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05
_log: Final = logging.getLogger(__name__)
# One line a connection attempt, between Locust's tables.
logging.getLogger("kafka").setLevel(logging.ERROR)


class WrongDecision(Exception):
    """An answer that is no decision about what was asked."""


def check_decision(transaction: Transaction, decision: Decision) -> None:
    """Check that an answer decides this transaction, else `WrongDecision`."""
    # A bank that sends to Kafka does not know the token that ingest gives.
    token = transaction.card_token or decision.card_token
    identity = identity_of(transaction.bank_id, token, transaction.transaction_id)
    if decision.decision_id != decision_id_of(identity):
        raise WrongDecision("the decision's id is another transaction's")
    if decision.transaction_id != transaction.transaction_id:
        raise WrongDecision("the decision names another transaction")
    if decision.action == Action.ACTION_UNSPECIFIED:
        raise WrongDecision("the decision has no action")
    if not decision.reasons:
        raise WrongDecision("the decision has no reasons")


@cache
def _population(source: Callable[[int], Iterator[Transaction]]) -> Iterator[Transaction]:
    """Return the transactions that all users of a process share: each is sent once."""
    return source(1)


@events.init.add_listener  # type: ignore[untyped-decorator]  # not in its stubs
def make_traffic(environment: Environment, **_: object) -> None:
    """Make the population before the run, in seconds of CPU; end where nobody answers."""
    chosen = [user for user in environment.user_classes if issubclass(user, (ScoreUser, KafkaUser))]
    for user in chosen:
        fault = user.fault_of_target(environment)
        if fault:
            _log.error(fault)
            sys.exit(os.EX_UNAVAILABLE)
    for user in chosen:
        next(_population(user.source))
    gevent.get_hub().loop.update_now()  # timers count from the event loop's last turn
    _log.info("the traffic is made")


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # not in its stubs
def tell_failures(environment: Environment, **_: object) -> None:
    """Say what went wrong, which Locust does not where it writes JSON; fail an empty run."""
    if isinstance(environment.runner, WorkerRunner):
        return
    print_error_report(environment.stats)
    if environment.stats.total.num_requests == 0:
        _log.error("no request was made: nothing was measured")
        environment.process_exit_code = os.EX_UNAVAILABLE


class ScoreUser(User):
    """A downstream system with one connection and one call in flight."""

    source = staticmethod(traffic)

    @staticmethod
    def fault_of_target(environment: Environment) -> str:
        """Return why nothing can be sent, empty where a gRPC server answers, with whatever."""
        address = environment.host or _ADDRESS
        with grpc.insecure_channel(address) as channel:
            try:
                health = health_pb2_grpc.HealthStub(channel)
                health.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
            except grpc.RpcError as exc:
                if exc.code() in _NO_ANSWER:
                    return f"no scoring service answers at {address}: start `make demo`"
        return ""

    def on_start(self) -> None:
        """Connect."""
        # A pool of its own, as channels with equal options share connections otherwise.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(self.host or _ADDRESS, options)
        self._stub = ScoringStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._traffic = _population(traffic)

    def on_stop(self) -> None:
        """Disconnect."""
        self._channel.close()

    @task
    def score(self) -> None:
        """Have one transaction decided, and report the call to Locust under its action."""
        transaction = next(self._traffic)

        def ask() -> Decision:
            request = ScoreRequest(transaction=transaction)
            return cast("Decision", self._stub.Score(request, timeout=_TIMEOUT_S))

        report(self, "grpc", "Score", transaction, ask)


class KafkaLine:
    """The broker, for all users of a process: one producer, one reader of decisions."""

    def __init__(self) -> None:
        kafka = KafkaSettings.read()
        self._waiting: dict[str, AsyncResult] = {}
        self._reader = LogReader(kafka, [DECISIONS], from_end=True)
        gevent.spawn(self._read_forever)
        self._topic = kafka.topic(RAW)
        self._producer = KafkaProducer(**kafka_python_options(kafka), acks=1, linger_ms=1)

    def send(self, transaction: Transaction) -> Decision:
        """Append a transaction to the raw topic, and wait for its decision."""
        decided = self._waiting.setdefault(transaction.transaction_id, AsyncResult())
        self._producer.send(
            self._topic,
            key=transaction.customer_id.encode(),
            value=transaction.SerializeToString(),
            headers=[(CONTENT_TYPE, PROTOBUF)],
        )
        return cast("Decision", decided.get(timeout=_LINE_TIMEOUT_S))

    def _read_forever(self) -> None:
        while True:
            for record in self._reader.poll(_POLL_S):
                decision = Decision.FromString(record.value)
                waiting = self._waiting.pop(decision.transaction_id, None)
                if waiting is not None:
                    waiting.set(decision)


@cache
def _kafka_line() -> KafkaLine:
    return KafkaLine()


class KafkaUser(User):
    """A bank with one transaction on its way through the line."""

    source = staticmethod(raw_traffic)

    @staticmethod
    def fault_of_target(_environment: Environment) -> str:
        """Return why nothing can be sent, empty where the broker has the line's topics."""
        try:
            _kafka_line()
        except (KafkaError, FraudStreamError) as exc:
            at = f"{KafkaSettings.read().bootstrap} (FRAUD_KAFKA_BOOTSTRAP)"
            what_to_do = "start `make demo`, and read its addresses by `. var/demo/line.env`"
            return f"no broker of a line at {at}: {exc}: {what_to_do}"
        return ""

    def on_start(self) -> None:
        """Take the process's connection."""
        self._line = _kafka_line()
        self._traffic = _population(raw_traffic)

    @task
    def send(self) -> None:
        """Append one transaction, wait for its decision, and report both as one request."""
        transaction = next(self._traffic)
        report(self, "kafka", "Line", transaction, partial(self._line.send, transaction))


def _words_of(failure: BaseException) -> str:
    """Return what went wrong on one line; gRPC's own form of it has seven."""
    if isinstance(failure, grpc.RpcError):
        return f"{failure.code().name}: {failure.details()}"
    if isinstance(failure, gevent.Timeout):
        return f"no decision within {failure.seconds:g} s"
    return str(failure)


def report(
    user: User, kind: str, name: str, transaction: Transaction, ask: Callable[[], Decision]
) -> None:
    """Ask for a decision, check it, and report it to Locust under its action."""
    started_s = time.perf_counter()
    action, size, failure = "failed", 0, None
    try:
        decision = ask()
        size = decision.ByteSize()
        check_decision(transaction, decision)
        action = word_of(Action, decision.action)
    except (grpc.RpcError, gevent.Timeout, WrongDecision) as exc:
        failure = _words_of(exc)
    user.environment.events.request.fire(
        request_type=kind,
        name=f"{name} {action}",
        response_time=(time.perf_counter() - started_s) * 1_000,
        response_length=size,
        exception=failure,
        context={},
    )
