"""`python -m demo replay FILE`: a recorded data set through the whole line on its own clock.

The history before the span is computed by the offline driver and loaded into the store; the span
itself goes through the raw topic with each record's own time, its labels 7 days after their
events. So every decision is made by the services, from what the stream told them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from kafka import KafkaProducer

from demo.past import FILE_NAME, load_past
from demo.recorded import Recorded
from fraudstream.broker.clients import SignedSender, kafka_python_producer_options
from fraudstream.broker.log_reader import LogReader
from fraudstream.errors import BrokerUnavailable, InvalidSettings
from fraudstream.features.history import History
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, LABELS, RAW
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.transaction.formats import CONTENT_TYPE, PROTOBUF
from fraudstream.v1.decision_pb2 import Decision
from harness.line import Line
from harness.processes import ChildProcess, ProcessFailed
from harness.servers import start_servers
from harness.settings import kafka_settings_in
from training.metrics import DAY_MS, Fold, Scored, handbook_filter, summarise

# A card's row reads what terminals had shown by then: the less is under way, the fresher that is.
AHEAD_AT_MOST: Final = 400
_STEP: Final = 100
_STALL_TIMEOUT_S: Final = 120.0
_TRAIN_TIMEOUT_S: Final = 3_600.0
_TRAIN_NEWS_S: Final = 10.0
_BOOKS_DAYS: Final = 7
# Days from the first training day to the first test day, in the book's protocol.
_TRAIN_LEAD_D: Final = 14
_SERVICES: Final = (
    ("services.scoring", ()),
    ("services.features", ("card",)),
    ("services.features", ("entity",)),
    ("services.features", ("label",)),
    ("services.ingest", ()),
)
# Le Borgne et al., "Reproducible Machine Learning for Credit Card Fraud Detection": chapter 3
# tests on 2018-08-08..14 alone; chapter 7's LSTM is a mean over four weeks that begin with it.
_PUBLISHED: Final = (
    ("random forest, ch. 3", 0.658, 0.867, 0.287),
    ("XGBoost, ch. 3", 0.639, 0.862, 0.273),
    ("logistic regression, ch. 3", 0.606, 0.871, 0.291),
    ("LSTM, ch. 7, mean of 4 weeks", 0.665, 0.876, 0.297),
)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What the command line says.

    Attributes:
        file: Parquet file with the Handbook's columns.
        from_ms: Midnight at which the span begins.
        days: Its length.
        summary: File for the figures as JSON; None for none.
        folder: Where runs keep keys and logs.
        model: Artefact to serve; None to train one by the book's protocol.
    """

    file: Path
    from_ms: int
    days: int
    summary: Path | None
    folder: Path
    model: Path | None

    @property
    def until_ms(self) -> int:
        """End of the span, exclusive."""
        return self.from_ms + self.days * DAY_MS

    @property
    def fold(self) -> Fold:
        """The fold of the book's protocol whose test week begins with the span."""
        return Fold(self.from_ms - _TRAIN_LEAD_D * DAY_MS)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided about one row."""

    score: float
    is_stale: bool


def say(message: str) -> None:
    """Print a message at once."""
    print(message, flush=True)


def run_replay(options: ReplayOptions) -> int:
    """Replay a span and print the figures of its decisions; return the exit code."""
    recorded = Recorded.read(options.file)
    rows = recorded.rows_between(options.from_ms, options.until_ms)
    if not rows:
        raise InvalidSettings(_missed(recorded, options))
    model = options.model or trained_model(options)
    mark = time.strftime("replay-%Y%m%d-%H%M%S")
    folder = options.folder / mark
    with ExitStack() as stack:
        say("starting broker and store")
        broker, servers = start_servers(stack, folder)
        servers |= {"FRAUD_KAFKA_TOPIC_PREFIX": f"{mark}-", "FRAUD_REDIS_KEY_PREFIX": mark}
        line = _line(folder, servers, model)
        line.prepare()
        tokeniser = Tokeniser(TokenKeys.load(line.token_keys))
        past = recorded.past(options.from_ms, tokeniser)
        say(load_past(past, servers, folder / FILE_NAME))
        stack.callback(line.stop)
        stack.callback(print, "ending the line", flush=True)
        line.start()
        say(f"{len(line.services)} services ready on {broker.title}; logs in {line.folder}/logs")
        kafka = kafka_settings_in(line.environment)
        sender = Sender(recorded, kafka, tokeniser, past.labelled.history)
        answers = sender.send(rows, _progress(len(rows)))
    summary = _measure(recorded, options, answers, rows) | {"broker": broker.title}
    say(words_of(options, summary))
    if options.summary:
        options.summary.write_text(json.dumps(summary, indent=2) + "\n")
    return 0 if summary["decided"] == summary["sent"] else 1


def _missed(recorded: Recorded, options: ReplayOptions) -> str:
    """Return what to say of a span without rows."""
    times = recorded.history.event_time_ms
    if not len(times):
        return f"{options.file}: expected transactions, found none"
    days = " to ".join(_day(int(moment)) for moment in (times.min(), times.max()))
    return (
        f"{options.file}: --from {_day(options.from_ms)} --days {options.days}: expected a span"
        f" with transactions, found none; the file has those of {days}"
    )


def _day(moment_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment_ms / 1_000))


def _line(folder: Path, servers: Mapping[str, str], model: Path) -> Line:
    more = {
        "FRAUD_SCORING_MODEL": str(model.absolute()),
        "FRAUD_KAFKA_IS_REPLAY": "true",
        "FRAUD_TELEMETRY_SAMPLE_RATIO": "0",
    }
    return Line(folder, servers, more, _SERVICES)


def trained_model(options: ReplayOptions) -> Path:
    """Return the model of the book's protocol for a span; trained at the first use, then kept.

    Raises:
        ProcessFailed: Training failed; it needs the training extra.
    """
    day = _day(options.fold.train_from_ms)
    out = options.folder / "models" / f"handbook-{day}"
    if (out / "manifest.json").exists():
        say(f"model {out} is there already")
        return out
    say(f"training the model on the week from {day}: {out}")
    command = [sys.executable, "-m", "training", "train", "--source", str(options.file.absolute())]
    command += ["--train-from", day, "--out", str(out.absolute())]
    training = ChildProcess("training", command, out.parent / f"{out.name}.log")
    training.start()
    if not _watched(training) or training.exit_code != 0:
        training.kill()
        raise ProcessFailed(
            "training failed; it needs PyTorch: pip install -e '.[train]'\n"
            + training.log_text()[-1_500:]
        )
    return out


def _watched(training: ChildProcess) -> bool:
    """Return whether training ended within its bound, showing meanwhile what it says last."""
    started_s = time.monotonic()
    while not training.wait_end(_TRAIN_NEWS_S):
        elapsed_s = time.monotonic() - started_s
        if elapsed_s > _TRAIN_TIMEOUT_S:
            return False
        said = training.log_text().splitlines()
        say(f"training for {elapsed_s:.0f} s: {said[-1] if said else 'reading the file'}")
    return True


def _progress(number: int) -> Callable[[int], None]:
    """Return what prints progress, at most every five seconds."""
    started_s = time.monotonic()
    next_s = [started_s + 5]

    def tell(decided: int) -> None:
        now_s = time.monotonic()
        if now_s >= next_s[0]:
            next_s[0] = now_s + 5
            say(f"{decided:,} of {number:,} decided, {decided / (now_s - started_s):.0f}/s")

    return tell


class Sender:
    """Sends rows on their own clock, with the labels that arrive meanwhile, never far ahead.

    Args:
        recorded: The data set.
        kafka: Where Kafka is.
        tokeniser: Makes card tokens as ingest does; labels carry them.
        past: What is known already, labels included.
    """

    def __init__(
        self, recorded: Recorded, kafka: KafkaSettings, tokeniser: Tokeniser, past: History
    ) -> None:
        self._recorded = recorded
        self._kafka = kafka
        self._tokeniser = tokeniser
        known_ms = int(past.arrival_ms[-1]) if len(past.card) else -1
        self._labels = iter(recorded.labels_after(known_ms))
        self._next_label = next(self._labels, None)
        self._producer = KafkaProducer(**kafka_python_producer_options(kafka))
        self._sender = SignedSender(self._producer, kafka, "ingest")

    def send(self, rows: list[int], tell: Callable[[int], None]) -> dict[str, Answer]:
        """Send every row and return what was decided, by transaction id.

        Raises:
            BrokerUnavailable: No decision came for two minutes.
        """
        answers: dict[str, Answer] = {}
        waiting = iter(rows)
        sent = 0
        heard_s = time.monotonic()
        with LogReader(self._kafka, [DECISIONS]) as reader:
            while len(answers) < len(rows):
                if sent - len(answers) < AHEAD_AT_MOST:
                    sent += self._send_some(list(islice(waiting, _STEP)))
                for record in reader.poll(0.02):
                    decision = Decision.FromString(record.value)
                    answer = Answer(decision.score, decision.freshness.shared_stale)
                    answers.setdefault(decision.transaction_id, answer)
                    heard_s = time.monotonic()
                tell(len(answers))
                if time.monotonic() > heard_s + _STALL_TIMEOUT_S:
                    raise BrokerUnavailable(
                        f"no decision for {_STALL_TIMEOUT_S:g} s; see the services' logs"
                    )
        self._producer.close(timeout=5)
        return answers

    def _send_some(self, rows: list[int]) -> int:
        for row in rows:
            transaction = self._recorded.transaction(row)
            self._send_labels(transaction.event_time_ms)
            self._producer.send(
                self._kafka.topic(RAW),
                value=transaction.SerializeToString(),
                key=transaction.customer_id.encode(),
                headers=[(CONTENT_TYPE, PROTOBUF)],
                timestamp_ms=transaction.event_time_ms,
            )
        self._producer.flush(timeout=30)
        return len(rows)

    def _send_labels(self, until_ms: int) -> None:
        """Send the labels that arrived before a moment."""
        arrival = self._recorded.history.label_arrival_ms
        while self._next_label is not None and arrival[self._next_label] < until_ms:
            label = self._recorded.label(self._next_label, self._tokeniser)
            self._sender.send(
                self._kafka.topic(LABELS),
                label.card_token.encode(),
                label.SerializeToString(),
                label.settled_at_ms,
            )
            self._next_label = next(self._labels, None)


def _measure(
    recorded: Recorded, options: ReplayOptions, answers: Mapping[str, Answer], rows: list[int]
) -> dict[str, float | str]:
    """Return the figures of the stream's decisions on the rows that the book tests on."""
    history, ids = recorded.history, recorded.ids
    kept = handbook_filter(
        history.event_time_ms, history.history.card, history.is_fraud, options.fold
    )
    tested = [row for row in rows if kept[row] and str(ids[row]) in answers]
    indices = np.array(tested, np.int64)
    scored = Scored(
        np.array([answers[str(ids[row])].score for row in tested]),
        history.is_fraud[indices],
        history.event_time_ms[indices],
        history.history.card[indices],
    )
    figures = summarise(scored)
    stale = sum(answer.is_stale for answer in answers.values())
    return {
        "sent": len(rows),
        "decided": len(answers),
        "ap": round(figures["ap"], 4),
        "auc": round(figures["auc"], 4),
        "cp100": round(figures["cp100"], 4),
        "tested": len(tested),
        "frauds": int(scored.is_fraud.sum()),
        "stale_share": round(stale / max(1, len(answers)), 4),
    }


def words_of(options: ReplayOptions, summary: Mapping[str, float | str]) -> str:
    """Return the figures beside the published ones, which are of whole weeks."""
    day = _day(options.from_ms)
    lines = [
        f"sent {summary['sent']}, decided {summary['decided']};"
        f" {summary['tested']} tested as the book does, {summary['frauds']} of them fraud",
        f"{'':32}{'AP':>8}{'AUC':>8}{'CP@100':>8}",
        f"{'this stream, from ' + day:32}"
        f"{summary['ap']:8.3f}{summary['auc']:8.3f}{summary['cp100']:8.3f}",
    ]
    lines += [f"{name:32}{ap:8.3f}{auc:8.3f}{cp:8.3f}" for name, ap, auc, cp in _PUBLISHED]
    if options.days != _BOOKS_DAYS:
        lines.append(
            f"the published figures are of weeks; this span is {options.days} days with"
            f" {summary['frauds']} frauds, so chance moves its figures more"
        )
    return "\n".join(lines)
