"""Calls by grpc-js while the store or the broker hangs: who was answered in time, and with what.

    python -m tests.outside.disturbed.stalls --stall store --stall-s 15 --rate 50 --deadline-ms 300

Some payments are asked about again, during the stall and after it. An answer may differ from
another one about the same payment, or from the first record in the log, only where one of them says
`provisional`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import DECISIONS
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.transaction_pb2 import Transaction
from harness.line import SERVICES
from harness.processes import wait_until
from harness.servers import ApacheKafka, ValkeyServer, lacking_for_kafka
from harness.settings import MachineSettings
from tests.conftest import environment_of_test
from tests.e2e.line_run import LineRun, prepared_line
from tests.outside.clients.grpc_js import Answer, Call, GrpcJs, answers_of, install
from tests.outside.clients.raw_log import RawLog
from training.simulator.simulate import SimulationSettings, live_traffic

Stall = Literal["store", "broker"]

_NO_CONSOLE: Final = tuple(one for one in SERVICES if one[0] != "services.console")
_AGAIN_SHARE: Final = 0.4
_SETTLE_S: Final = 90.0
_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class StallPlan:
    """One run.

    Attributes:
        victim: What hangs.
        before_s: Calls before it hangs.
        stall_s: How long it hangs.
        after_s: Calls after it.
        rate_per_s: Calls a second.
        deadline_ms: Of each call.
        seed: Of traffic and repeats.
    """

    victim: Stall
    before_s: float
    stall_s: float
    after_s: float
    rate_per_s: float
    deadline_ms: float
    seed: int

    @property
    def seconds(self) -> float:
        """How long calls are made."""
        return self.before_s + self.stall_s + self.after_s


@dataclass(slots=True)
class StallOutcome:
    """What callers saw.

    Attributes:
        calls: Made in all, and while it hung.
        in_time: Answered by a decision inside their deadline, of all and while it hung.
        codes: By gRPC status.
        provisional: Answers that said so.
        contradicted: Payments whose answers or log differ and none said that it was provisional.
        examples: Some of what went wrong.
    """

    calls: tuple[int, int]
    in_time: tuple[int, int]
    codes: dict[str, int]
    provisional: int
    contradicted: int
    examples: list[str] = field(default_factory=list)

    @property
    def share_in_time(self) -> float:
        """Share of all calls that were answered inside their deadline."""
        return self.in_time[0] / self.calls[0]


def run_stall(
    plan: StallPlan, kafka: ApacheKafka, valkey: ValkeyServer, folder: Path, caller: GrpcJs
) -> StallOutcome:
    """Make calls, hang a server for a while, and judge the answers."""
    servers = environment_of_test(kafka, valkey)
    line_run = prepared_line(folder, servers, services=_NO_CONSOLE)
    victim = valkey if plan.victim == "store" else kafka
    try:
        line_run.line.start()
        address = f"127.0.0.1:{line_run.line.ports.scoring}"
        _warm_up(caller, address, plan.seed)
        calls = list(_calls(plan))
        began = time.monotonic()
        with caller.start(address, calls) as running:
            _wait_to(began + plan.before_s)
            victim.pause()
            try:
                _wait_to(began + plan.before_s + plan.stall_s)
            finally:
                victim.resume()
            printed, _ = running.communicate(timeout=plan.after_s + _SETTLE_S)
        return _judge(plan, answers_of(printed), _first_decisions(line_run, kafka, calls))
    finally:
        line_run.line.stop()


def _wait_to(moment_s: float) -> None:
    """Wait for a moment of the run: what happens then is the load itself, not its end."""
    wait_until(lambda: time.monotonic() >= moment_s, moment_s)


def _warm_up(caller: GrpcJs, address: str, seed: int) -> None:
    """Make some calls that are not judged: the first ones of a process compile and connect."""
    payments = _payments(seed + 1)
    calls = [Call(f"warm-{n}", 20.0 * n, 5_000, next(payments)) for n in range(100)]
    caller.run(address, calls, timeout_s=60.0)


def _calls(plan: StallPlan) -> Iterator[Call]:
    """Yield the calls of a run: new payments, and again ones that were asked about before."""
    rng = random.Random(plan.seed)  # noqa: S311  # a test's own draws
    payments = _payments(plan.seed)
    asked: list[Transaction] = []
    for number in range(round(plan.seconds * plan.rate_per_s)):
        if asked and rng.random() < _AGAIN_SHARE:
            payment = rng.choice(asked[-400:])
        else:
            payment = next(payments)
            asked.append(payment)
        at_ms = 1_000 * number / plan.rate_per_s
        yield Call(payment.transaction_id, at_ms, plan.deadline_ms, payment)


def _payments(seed: int) -> Iterator[Transaction]:
    now_ms = epoch_ms()
    settings = SimulationSettings(
        seed=seed, cards=500, start_ms=now_ms - 600_000, rate_per_s=50.0, fraud_share=0.05
    )
    return (simulated.transaction for simulated in live_traffic(settings))


def _first_decisions(
    line_run: LineRun, kafka: ApacheKafka, calls: Sequence[Call]
) -> dict[str, Decision]:
    """Return the first record of each payment, once all are in the log."""
    log, topic = RawLog(kafka.bootstrap), line_run.kafka.topic(DECISIONS)
    wanted = {call.tag for call in calls}
    first: dict[str, Decision] = {}

    def has_all() -> bool:
        first.clear()
        for message in log.read(topic):
            decision = Decision.FromString(message.value() or b"")
            first.setdefault(decision.transaction_id, decision)
        return wanted <= first.keys()

    wait_until(has_all, _SETTLE_S, poll_s=2.0)
    return first


def _judge(plan: StallPlan, answers: Sequence[Answer], first: dict[str, Decision]) -> StallOutcome:
    hung_from, hung_to = plan.before_s * 1_000, (plan.before_s + plan.stall_s) * 1_000
    during = [a for a in answers if hung_from - plan.deadline_ms < a.sent_ms < hung_to]

    def in_time(some: Sequence[Answer]) -> int:
        return sum(a.code == "OK" and a.answered_ms - a.sent_ms <= plan.deadline_ms for a in some)

    by_payment: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for answer in answers:
        if answer.decision is not None:
            by_payment[answer.tag].append(answer.decision)
    wrong = [
        f"{tag}: {[_told(d) for d in told]} and in the log {_logged(first.get(tag))}"
        for tag, told in by_payment.items()
        if _is_contradicted(told, first.get(tag))
    ]
    failed = [f"{a.tag}: {a.code} {a.message}" for a in answers if a.code != "OK"]
    return StallOutcome(
        calls=(len(answers), len(during)),
        in_time=(in_time(answers), in_time(during)),
        codes=dict(Counter(answer.code for answer in answers)),
        provisional=sum(d["provisional"] for told in by_payment.values() for d in told),
        contradicted=len(wrong),
        examples=[*wrong[:_EXAMPLES], *failed[:_EXAMPLES]],
    )


def _is_contradicted(told: Sequence[dict[str, Any]], logged: Decision | None) -> bool:
    """Return whether answers that did not say `provisional` differ, or differ from the log."""
    final = {(d["action"], d["score"]) for d in told if not d["provisional"]}
    if logged is not None and final:
        final.add((Action.Name(logged.action), logged.score))
    return len(final) > 1 or (bool(final) and logged is None)


def _told(decision: dict[str, Any]) -> str:
    marks = [name for name in ("provisional", "replayed", "stand_in") if decision[name]]
    return " ".join([decision["action"], f"{decision['score']:.4f}", *marks])


def _logged(decision: Decision | None) -> str:
    return "nothing" if decision is None else f"{Action.Name(decision.action)} {decision.score:.4f}"


def main(arguments: Sequence[str]) -> int:
    """Run one stall on Apache Kafka and print the outcome."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.outside.disturbed.stalls", description=__doc__
    )
    parser.add_argument("--stall", choices=("store", "broker"), default="store")
    parser.add_argument("--stall-s", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--deadline-ms", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    asked = parser.parse_args(arguments)
    machine = MachineSettings()
    if lacking_for_kafka(machine) or machine.kafka_home is None or machine.java is None:
        parser.error(lacking_for_kafka(machine))
    print(f"seed {asked.seed}", flush=True)
    plan = StallPlan(
        asked.stall, 10.0, asked.stall_s, 15.0, asked.rate, asked.deadline_ms, asked.seed
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stall-")))
        kafka = ApacheKafka(machine.kafka_home, folder / "kafka", machine.java)
        kafka.start()
        stack.callback(kafka.stop)
        valkey = ValkeyServer(folder / "valkey")
        valkey.start()
        stack.callback(valkey.stop)
        outcome = run_stall(plan, kafka, valkey, folder / "line", install(folder / "node"))
    print(json.dumps({**asdict(outcome), "share_in_time": outcome.share_in_time}, indent=2))
    return 1 if outcome.contradicted or outcome.share_in_time < 0.999 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
