"""The whole line under random kills, fed by librdkafka and audited by a raw consumer.

    python -m tests.outside.disturbed.chaos --records 20000 --kills 40 --seed 7

Traffic has every codec, committed and aborted transactions, foreign headers, duplicates, conflicts
and bad records. An aborted record carries a changed amount of a payment that is sent rightly later:
were it ever decided, the payment's own decision would have the wrong amount.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
from confluent_kafka import Message

from fraudstream.archive.files import check_contiguous, list_files
from fraudstream.parity.recorded import Span
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, DLQ, RAW
from fraudstream.transaction.formats import JSON
from fraudstream.transaction.json_form import decode_json, encode_json
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.transaction_pb2 import Transaction
from harness.line import SERVICES
from harness.processes import wait_until
from harness.servers import ApacheKafka, Broker, EmbeddedBroker, ValkeyServer, lacking_for_kafka
from harness.settings import MachineSettings
from harness.traffic import Disorder, RawRecord, Sent
from tests.conftest import environment_of_test
from tests.e2e.audit import DeadLetter, Entry, Evidence, Expected, audit
from tests.e2e.line_run import LineRun, prepared_line, records_of
from tests.outside.clients.raw_log import RawLog, headers_of, place_of
from tests.outside.clients.senders import LibrdkafkaSender, Position
from tests.outside.disturbed.random_kills import RandomKiller
from training.parity.certify import Proof, certify
from training.simulator.simulate import SimulationSettings

_DISORDER: Final = Disorder(duplicate=0.04, conflict=0.01, bad=0.005)
_ABORTED_SHARE: Final = 0.05
_LATIN_1_EVERY: Final = 10
_SETTLE_S: Final = 120.0
_EVER: Final = Span(0, 1 << 62)
_ALL: Final = (*SERVICES, ("services.archive", ()))
_FASTER: Final = {
    "FRAUD_INGEST_POLL_RECORDS": "200",
    "FRAUD_TELEMETRY_SAMPLE_RATIO": "0",
    "FRAUD_ARCHIVE_MAX_AGE_S": "5",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        records: Raw records, without the aborted ones.
        kills: Kill -9 of a random service.
        every_s: Mean time between two kills.
        seed: Of traffic, senders and kills.
        timeout_s: Bound on sending and deciding.
    """

    records: int
    kills: int
    every_s: float
    seed: int
    timeout_s: float = 900.0


@dataclass(slots=True)
class Outcome:
    """What a run did and what the audit found.

    Attributes:
        seed: Of the run.
        sent: Raw records by what they were.
        aborted: Records that lie in the log and were given up.
        killed: Kills by service.
        ended: Services that ended by themselves, with their exit codes.
        decisions: Records of the decisions topic, and identities among them.
        parity: Decisions compared, identical, and not comparable.
        findings: Broken promises; empty where all held.
        seconds: Of the run.
    """

    seed: int
    sent: dict[str, int]
    aborted: int
    killed: dict[str, int]
    ended: dict[str, int]
    decisions: tuple[int, int]
    parity: tuple[int, int, int]
    findings: list[str]
    seconds: float


class _Sending:
    """Sends by librdkafka: before some batches, changed copies that are given up."""

    def __init__(self, sender: LibrdkafkaSender, rng: random.Random) -> None:
        self._sender = sender
        self._rng = rng
        self._calls = 0
        self.aborted = 0
        self.unreadable: set[bytes] = set()

    def __call__(self, records: Sequence[RawRecord]) -> list[Position]:
        """Send records; return where each lies."""
        if not records:
            return []
        self._calls += 1
        given_up = [
            _changed(record)
            for record in records
            if record.sent is Sent.FRESH and self._rng.random() < _ABORTED_SHARE
        ]
        if given_up:
            self.aborted += self._sender.send_and_abort(given_up)
        if self._calls % _LATIN_1_EVERY == 1:
            self.unreadable |= self._sender.send_unreadable(_renamed(records[0], self._calls))
        return self._sender.send(records)


def run(plan: Plan, broker: Broker, valkey: ValkeyServer, folder: Path) -> Outcome:
    """Run the line under random kills, and audit what it left."""
    rng = random.Random(plan.seed)  # noqa: S311  # a test's own draws
    began = time.monotonic()
    servers = environment_of_test(broker, valkey)
    more = {**_FASTER, "FRAUD_ARCHIVE_ROOT": str(folder / "archive")}
    line_run = prepared_line(folder, servers, more=more, services=_ALL)
    sender = LibrdkafkaSender(
        broker.bootstrap, line_run.kafka.topic(RAW), rng, has_transactions=not broker.is_embedded
    )
    sending = _Sending(sender, rng)
    records = records_of(plan.records, _traffic(plan.seed), _DISORDER)
    try:
        line_run.line.start()
        killer = RandomKiller(line_run.line.services, plan.kills, plan.every_s, rng)
        line_run.feed(records, plan.timeout_s, killer.tick, sending)
        wait_until(lambda: _tick_until_done(killer), plan.timeout_s)
        return _judge(plan, line_run, broker, (records, sending, killer), began)
    finally:
        line_run.line.stop()


def _tick_until_done(killer: RandomKiller) -> bool:
    killer.tick()
    return killer.is_done


def _judge(
    plan: Plan,
    line_run: LineRun,
    broker: Broker,
    done: tuple[list[RawRecord], _Sending, RandomKiller],
    began: float,
) -> Outcome:
    records, sending, killer = done
    evidence, more = _evidence(line_run, broker, killer)
    raw = RawLog(broker.bootstrap).read(line_run.kafka.topic(RAW))
    ledger = [*line_run.ledger, *_unreadable(raw, sending.unreadable)]
    found = [*map(str, audit(ledger, evidence, None)), *more]
    certificate = certify(line_run.kafka, Proof(_EVER), lambda _: None)
    if not certificate.holds:
        found.append(f"parity does not hold: {certificate.text()}")
    return Outcome(
        seed=plan.seed,
        sent=dict(Counter(str(record.sent) for record in records)),
        aborted=sending.aborted,
        killed=dict(killer.killed),
        ended=dict(killer.ended),
        decisions=(len(evidence.decisions), len({d.decision_id for d in evidence.decisions})),
        parity=(
            certificate.compared,
            certificate.exact,
            sum(certificate.unprovable.values()),
        ),
        findings=found,
        seconds=round(time.monotonic() - began, 1),
    )


def _evidence(
    line_run: LineRun, broker: Broker, killer: RandomKiller
) -> tuple[Evidence, list[str]]:
    """Wait until nothing moves any more; read topics, console and archive."""
    log, kafka = RawLog(broker.bootstrap), line_run.kafka
    groups = {"ingest": RAW, "features-card": ACCEPTED}

    def lags() -> dict[str, int]:
        return {g: log.lag(kafka.group(g), kafka.topic(t)) for g, t in groups.items()}

    def is_settled() -> bool:
        killer.tick()
        return not line_run.unpublished() and not any(lags().values()) and not _later(line_run, log)

    wait_until(is_settled, _SETTLE_S, poll_s=1.0)
    evidence = Evidence(
        decisions=[Decision.FromString(m.value() or b"") for m in log.read(kafka.topic(DECISIONS))],
        alerts=[Alert.FromString(m.value() or b"") for m in log.read(kafka.topic(ALERTS))],
        dead_letters=[_letter(m) for m in log.read(kafka.topic(DLQ))],
        unpublished=line_run.unpublished(),
        uncommitted={} if broker.is_embedded else lags(),
    )
    return evidence, _later(line_run, log)


def _later(line_run: LineRun, log: RawLog) -> list[str]:
    """Return what console and archive lack or hold twice of what the log says."""
    alerts = {
        Alert.FromString(m.value() or b"").alert_id for m in log.read(line_run.kafka.topic(ALERTS))
    }
    with closing(sqlite3.connect(line_run.line.folder / "console.sqlite3")) as database:
        stored = [row[0] for row in database.execute("SELECT alert_id FROM alert")]
    found = [
        f"{len(lacking)} {what}"
        for what, lacking in {
            "alerts not in the console": alerts - set(stored),
            "alerts in the console that were not raised": set(stored) - alerts,
        }.items()
        if lacking
    ]
    for noun, topic in {"accepted": ACCEPTED, "decisions": DECISIONS}.items():
        files = list_files(line_run.line.folder / "archive" / noun)
        check_contiguous(files)
        rows = sum(pq.read_metadata(file.path).num_rows for file in files)
        logged = len(log.read(line_run.kafka.topic(topic)))
        if rows != logged:
            found.append(f"the archive holds {rows} rows of {noun}, the log {logged}")
    return found


def _letter(message: Message) -> DeadLetter:
    text = {
        name: bytes(content or b"").decode(errors="replace")
        for name, content in headers_of(message)
    }
    source = (text["topic"], int(text["partition"]), int(text["offset"]))
    return DeadLetter(text["stage"].partition("-")[0], text["reason"], source)


def _unreadable(raw: Sequence[Message], values: set[bytes]) -> list[Entry]:
    """Return the lines of the ledger for the records whose header name no client can read."""
    return [
        Entry(("", "unreadable"), 0, Expected.DEAD_LETTER, place_of(m))
        for m in raw
        if m.value() in values
    ]


def _changed(record: RawRecord) -> RawRecord:
    """Return the record with another amount."""
    transaction = _decoded(record)
    transaction.amount_minor += 77
    return replace(record, value=_encoded(transaction, record))


def _renamed(record: RawRecord, number: int) -> bytes:
    """Return a payment like the record's, under an id that must never be decided."""
    transaction = Transaction(transaction_id=f"unreadable-{number}")
    if record.sent is not Sent.BAD:
        transaction.MergeFrom(_decoded(record))
        transaction.transaction_id = f"unreadable-{number}"
    return encode_json(transaction)


def _decoded(record: RawRecord) -> Transaction:
    if record.content_type == JSON:
        return decode_json(record.value)
    return Transaction.FromString(record.value)


def _encoded(transaction: Transaction, record: RawRecord) -> bytes:
    if record.content_type == JSON:
        return encode_json(transaction)
    return transaction.SerializeToString()


def _traffic(seed: int) -> SimulationSettings:
    started_ms = epoch_ms() - 3_600_000
    return SimulationSettings(
        seed=seed, cards=1_500, start_ms=started_ms, rate_per_s=10.0, fraud_share=0.03
    )


def main(arguments: Sequence[str]) -> int:
    """Run it on Apache Kafka where that is there, else on the embedded broker."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.outside.disturbed.chaos", description=__doc__
    )
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--every-s", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--embedded", action="store_true", help="on the embedded broker")
    asked = parser.parse_args(arguments)
    print(f"seed {asked.seed}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        broker = _broker(folder, is_embedded=asked.embedded)
        broker.start()
        stack.callback(broker.stop)
        valkey = ValkeyServer(folder / "valkey")
        valkey.start()
        stack.callback(valkey.stop)
        plan = Plan(asked.records, asked.kills, asked.every_s, asked.seed)
        outcome = run(plan, broker, valkey, folder / "line")
    print(json.dumps(asdict(outcome), indent=2))
    return 1 if outcome.findings else 0


def _broker(folder: Path, *, is_embedded: bool) -> Broker:
    machine = MachineSettings()
    lacking = lacking_for_kafka(machine)
    if is_embedded or lacking or machine.kafka_home is None or machine.java is None:
        (folder / "broker").mkdir()
        return EmbeddedBroker(folder / "broker")
    return ApacheKafka(machine.kafka_home, folder / "kafka", machine.java)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
