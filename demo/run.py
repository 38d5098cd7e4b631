"""`python -m demo`: the whole line with simulated traffic, shown while it runs, audited at the end.

One loop in one thread: send what is due, read what came out, draw. The services are processes of
their own; this loop only plays the banks, the chargebacks and the onlooker.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Final

from kafka import KafkaProducer

from demo.audit import Account, LineAudit
from demo.chargebacks import Chargebacks
from demo.holder import FIRST_HOLDER
from demo.past import FILE_NAME, load_past, simulated_past
from demo.running import METRICS_FILE, announced
from demo.screen import LiveScreen, PlainScreen, Screen
from demo.tally import Tally, percentiles
from fraudstream.broker.clients import SignedSender, kafka_python_producer_options
from fraudstream.broker.log_reader import LogReader
from fraudstream.errors import ShardClosed
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ALERTS, DECISIONS, DLQ, LABELS, RAW
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.v1.decision_pb2 import Decision
from harness.line import Line, LinePorts
from harness.servers import Broker, names_of_run, start_servers
from harness.settings import kafka_settings_in
from harness.traffic import Disorder, RawRecord, raw_records
from training.simulator.simulate import SimulationSettings, live_traffic

# Not the seed, the cards and the days that the served model was trained on.
DEMO_SEED: Final = 20_260
# With fewer, each card would pay every minute at 50 a second, which the model rightly finds odd.
DEMO_CARDS: Final = FIRST_HOLDER
# More fraud than in life (0.1 % to 1 %), so that a minute shows some of each kind.
DEMO_FRAUD_SHARE: Final = 0.03
LEAD_IN_MS: Final = 500
_DRAW_EVERY_MS: Final = 250
_SEND_AT_MOST: Final = 500
_DRAIN_TIMEOUT_S: Final = 60.0
_EXIT_INCOMPLETE: Final = 1
# Rules and lists that the samples meet.
RULES: Final = Path(__file__).with_name("rules.toml")
_RULES_VARIABLE: Final = "FRAUD_SCORING_RULE_SET_FILE"
_LOGINS: Final = "analyst / analyst-demo or colleague / colleague-demo"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says.

    Attributes:
        duration_s: How long traffic flows; None until Ctrl-C.
        rate_per_s: Good transactions per second.
        summary: File for the counts as JSON; None for none.
        folder: Where runs keep keys, logs and the console's database.
        seed: Of the simulated traffic.
        chargeback_delay_s: From a fraud to its chargeback.
        is_plain: Lines instead of a live table.
    """

    duration_s: float | None
    rate_per_s: float
    summary: Path | None
    folder: Path
    seed: int
    chargeback_delay_s: float
    is_plain: bool


def run_demo(options: RunOptions) -> int:
    """Run the line until the time is over or Ctrl-C; return the exit code."""
    moment = time.strftime("%Y%m%d-%H%M%S")
    folder = options.folder / moment
    with ExitStack() as stack:
        print("starting broker and store", flush=True)
        broker, servers = start_servers(stack, folder)
        servers |= names_of_run(f"demo-{moment}")
        line = Line(folder, servers, {_RULES_VARIABLE: str(RULES)}, ports=LinePorts.usual())
        line.prepare()
        stack.callback(line.stop)
        stack.callback(print, "ending the line", flush=True)
        line.start_early("scoring", "console")
        traffic = _traffic_of(options)
        _load_past(traffic, line, servers, options.folder / FILE_NAME)
        print(f"starting {len(line.services)} services; logs in {line.folder}/logs", flush=True)
        started_s = time.monotonic()
        line.start()
        print(f"all ready after {time.monotonic() - started_s:.1f} s", flush=True)
        settings = kafka_settings_in(line.environment)
        screen = _screen_for(options, _heading(broker, line, options.folder))
        stack.enter_context(announced(options.folder, line.environment, line.ports.metrics))
        tally, account = _play(Player(options, traffic, settings), line, screen)
        summary = summarise(tally, account, broker.title)
    print(_closing_words(account, tally, summary), flush=True)
    if options.summary:
        options.summary.write_text(json.dumps(summary, indent=2) + "\n")
    return 0 if account.is_complete and not tally.lag else _EXIT_INCOMPLETE


def _traffic_of(options: RunOptions) -> SimulationSettings:
    return SimulationSettings(
        seed=options.seed,
        cards=DEMO_CARDS,
        start_ms=epoch_ms(),
        fraud_share=DEMO_FRAUD_SHARE,
        rate_per_s=options.rate_per_s,
    )


def _load_past(
    traffic: SimulationSettings, line: Line, servers: Mapping[str, str], keep: Path
) -> None:
    """Give the cards a past, unless the store that the settings name has one already."""
    tokeniser = Tokeniser(TokenKeys.load(line.token_keys))
    try:
        print(load_past(simulated_past(traffic, tokeniser), servers, keep), flush=True)
    except ShardClosed:
        print(
            "the prefixes that you chose hold states of another run: this run's cards are new to"
            " them, for its token keys are; without FRAUD_KAFKA_TOPIC_PREFIX and"
            " FRAUD_REDIS_KEY_PREFIX it has prefixes and a past of its own",
            flush=True,
        )


def _screen_for(options: RunOptions, heading: str) -> Screen:
    if options.is_plain or not sys.stdout.isatty():
        print(heading, flush=True)
        return PlainScreen()
    return LiveScreen(heading)


def _heading(broker: Broker, line: Line, folder: Path) -> str:
    lines = [
        f"broker   {broker.title} on {broker.bootstrap}",
        f"scoring  gRPC on 127.0.0.1:{line.ports.scoring}",
        f"console  {line.console_url}  log in as {_LOGINS}",
        f"metrics  each process has a port, see {folder / METRICS_FILE}",
    ]
    prefix = line.environment.get("FRAUD_KAFKA_TOPIC_PREFIX")
    if prefix is not None:
        lines.insert(1, f"topics   {prefix}*, which stay when this ends")
    return "\n".join(lines)


@contextmanager
def _asked_to_end() -> Iterator[Event]:
    """Set an event at the first Ctrl-C: an exception would lose records between read and count."""
    asked = Event()

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, previous)


def _play(player: Player, line: Line, screen: Screen) -> tuple[Tally, Account]:
    """Send traffic for the time that was asked for, let the line finish, and audit it."""
    with player, screen, _asked_to_end() as asked:
        while not player.is_over() and not asked.is_set():
            player.step(screen)
            for name in line.revive():
                screen.say(f"{name} ended and was started again; see its log")
        if asked.is_set():
            screen.say("ending: waiting for the last decisions; Ctrl-C again to end at once")
        player.drain(screen, _DRAIN_TIMEOUT_S)
        screen.say("reading the topics to their ends")
        return player.tally, player.audit.account()


class Player:
    """The banks, the chargebacks and the onlooker, in one loop.

    Args:
        options: What the command line says.
        traffic: The population and its rate.
        settings: Where Kafka is.
    """

    def __init__(
        self, options: RunOptions, traffic: SimulationSettings, settings: KafkaSettings
    ) -> None:
        self._settings = settings
        self._reader = LogReader(settings, [DECISIONS, ALERTS, DLQ], from_end=True)
        self.audit = LineAudit(settings)
        self._producer = KafkaProducer(**kafka_python_producer_options(settings))
        self._labels = SignedSender(self._producer, settings, "ingest")
        self._chargebacks = Chargebacks(round(options.chargeback_delay_s * 1_000))
        self._started_ms = epoch_ms() + LEAD_IN_MS
        self._ends_ms = self._started_ms + round((options.duration_s or 1e9) * 1_000)
        live = live_traffic(replace(traffic, start_ms=self._started_ms))
        self._records = raw_records(live, Disorder(), options.seed)
        self._upcoming = next(self._records)
        self._draw_at_ms = 0
        self.tally = Tally(self._started_ms)

    def __enter__(self) -> Player:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._producer.close(timeout=5)
        self._reader.close()

    def is_over(self) -> bool:
        """Whether the time for traffic is over."""
        return epoch_ms() >= self._ends_ms

    def step(self, screen: Screen) -> None:
        """Send what is due, read what came out, and draw now and then."""
        moment_ms = epoch_ms()
        for _ in range(_SEND_AT_MOST):
            if self._upcoming.event_time_ms > moment_ms:
                break
            self._send(self._upcoming)
            self._upcoming = next(self._records)
        self._watch(screen)

    def drain(self, screen: Screen, timeout_s: float) -> None:
        """Send nothing more, and wait until all is decided or the bound is over."""
        self._producer.flush(timeout=30)
        gives_up_ms = epoch_ms() + round(timeout_s * 1_000)
        while self.tally.lag and epoch_ms() < gives_up_ms:
            self._watch(screen)
        screen.show(self.tally.snapshot(epoch_ms()))
        self._producer.flush(timeout=30)

    def _send(self, record: RawRecord) -> None:
        self.tally.add_sent(record)
        self._producer.send(
            self._settings.topic(RAW), value=record.value, key=record.key, headers=record.headers
        )

    def _watch(self, screen: Screen) -> None:
        """Read what the line has put out, answer frauds by chargebacks, draw."""
        for record in self._reader.poll(0.02):
            if record.topic == self._settings.topic(DECISIONS):
                self._see_decision(Decision.FromString(record.value))
            elif record.topic == self._settings.topic(ALERTS):
                self.tally.alerts += 1
            else:
                self.tally.dead_lettered += 1
        moment_ms = epoch_ms()
        for label in self._chargebacks.due(moment_ms):
            self._labels.send(
                self._settings.topic(LABELS), label.card_token.encode(), label.SerializeToString()
            )
        if moment_ms >= self._draw_at_ms:
            self._draw_at_ms = moment_ms + _DRAW_EVERY_MS
            screen.show(self.tally.snapshot(moment_ms))

    def _see_decision(self, decision: Decision) -> None:
        if self.tally.add_decision(decision, epoch_ms()):
            self._chargebacks.add(decision)


def summarise(tally: Tally, account: Account, broker: str) -> dict[str, object]:
    """Return the counts of a run as JSON keys; what the topics say goes before the screen."""
    p50_ms, p99_ms = percentiles(tally.latencies_ms)
    counts = asdict(account)
    counts["missing"] = len(account.missing)
    snapshot = tally.snapshot(epoch_ms())
    return {
        "sent": tally.sent,
        **counts,
        "undecided": tally.lag,
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "broker": broker,
        "actions": snapshot.decided,
        "frauds_caught": snapshot.caught,
        "frauds_missed": snapshot.missed,
    }


def _closing_words(account: Account, tally: Tally, summary: Mapping[str, object]) -> str:
    """Return the account of a run in a few lines."""
    more = account.records - tally.sent
    others = f" and {more} more by others" if more > 0 else ""
    lines = [
        f"sent {tally.sent}{others}: accepted {account.accepted},"
        f" duplicates {account.duplicates}, conflicts {account.conflicts},"
        f" dead-lettered {account.dead_lettered}, late {account.late}",
        f"decided {account.decided}, alerts {account.alerts}; raw to decision"
        f" p50 {summary['p50_ms']} ms, p99 {summary['p99_ms']} ms on {summary['broker']}",
    ]
    if account.is_complete and not summary["undecided"]:
        return "\n".join([*lines, "every accepted transaction has its one decision"])
    lines.append(
        f"FAULT: {summary['undecided']} sent without a decision, of these"
        f" {len(account.missing)} accepted; {account.forked} with two decisions"
    )
    return "\n".join([*lines, *account.missing[:5]])
