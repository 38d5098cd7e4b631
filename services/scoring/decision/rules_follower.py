"""Which rule set is served: the newest good version on the topic, else the configured file.

At the start the topic is read to its end before any call is taken, for half a minute at most. Later
versions are checked and compiled in a thread of their own and swapped in whole, between two calls'
decisions: a call takes the program once, so no answer comes from two versions. A refused one is
logged and counted, and the old one serves on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraudstream.broker.log_reader import LogReader, LogRecord
from fraudstream.broker.quarantine import report
from fraudstream.errors import BrokerUnavailable, InvalidSettings, RuleSetRefused
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.published import GoodVersion
from fraudstream.rules.rule_set import parse_rule_set
from fraudstream.rules.version_log import VersionLog
from fraudstream.runtime.allowance import Allowance
from fraudstream.settings import KafkaSettings
from fraudstream.signing import People
from fraudstream.telemetry.metrics import RULE_SET_VERSION, RULE_SETS
from fraudstream.topics import RULES

_POLL_S: Final = 0.5
_RETRY_S: Final = 1.0
# 100,000 records of a stranger take some 20 s of it.
_START_S: Final = 30.0
# Whoever may write a record may write many of 1 MiB in a few kB.
_MOST_RECORDS: Final = 16
# Lines a minute: the quarantine names the records.
_LINES: Final = 20

_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class RulesInForce:
    """What decides now; read `program` once a call."""

    program: RuleProgram

    def swap(self, program: RuleProgram) -> None:
        """Serve another rule set from now on."""
        self.program = program
        RULE_SET_VERSION.set(program.rule_set.version)


def read_rule_file(path: Path) -> str:
    """Return the text of a rule set's file.

    Raises:
        InvalidSettings: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        msg = f"{path}: expected a rule set in TOML, UTF-8: {exc.strerror}"
        raise InvalidSettings(msg) from exc
    except UnicodeDecodeError as exc:
        msg = f"{path}: expected a rule set in TOML, UTF-8, found other bytes"
        raise InvalidSettings(msg) from exc


def load_rule_set(path: Path) -> RuleProgram:
    """Read and compile a rule set's file.

    Raises:
        InvalidSettings: It cannot be read.
        RuleSetRefused: It is not fit to serve.
    """
    return RuleProgram(parse_rule_set(read_rule_file(path)))


def read_rules(kafka: KafkaSettings) -> Iterator[LogRecord]:
    """Yield all records of the rules topic, up to its end, and keep none of them.

    Raises:
        BrokerUnavailable: It cannot be read, or is not there.
    """
    with _reader(kafka) as reader:
        yield from reader.to_end()


def _reader(kafka: KafkaSettings) -> LogReader:
    return LogReader(kafka, [RULES], most_records=_MOST_RECORDS)


class RulesFollower:
    """Reads the rules topic: once to its end, then for as long as the service runs.

    Args:
        kafka: Where the topic is.
        rule_set_id: Whose versions count.
        people: Whose signatures count; None for nobody's.
        start_s: How long a start may read, seconds.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        rule_set_id: str,
        people: People | None,
        start_s: float = _START_S,
    ) -> None:
        self._kafka = kafka
        self._start_s = start_s
        self._rule_set_id = rule_set_id
        self._versions = VersionLog(rule_set_id, people)
        self._reader: LogReader | None = None
        self._told = Allowance(_LINES)

    def open(self, file: Path | None) -> RulesInForce:
        """Return the rules to start with.

        Raises:
            RuleSetRefused: The file is not fit to serve.
            InvalidSettings: Neither a good version nor a file is there: nobody chose what stands
                in for the model.
            BrokerUnavailable: The topic cannot be read.
        """
        configured = load_rule_set(file) if file else None
        if configured and configured.rule_set.id != self._rule_set_id:
            msg = f"{file}: expected the rule set {self._rule_set_id}"
            raise InvalidSettings(f"{msg}, found {configured.rule_set.id}")
        # Junk behind the newest good version hides nothing of it, and no start waits for its end:
        # what is left then is read while the service runs.
        with _reader(self._kafka) as reader:
            for record in reader.to_end(self._start_s):
                self.observe(record, self._versions.take(record))
        newest = self._versions.newest
        # What was refused raised its alarm; whoever may write a record must not decide that
        # no scorer starts.
        program = newest.program if newest else configured
        if program is None:
            raise _no_rules(self._rule_set_id)
        in_force = RulesInForce(program)
        in_force.swap(program)
        return in_force

    async def follow_forever(self, in_force: RulesInForce) -> None:
        """Swap in each good version that is published."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="rules")
        try:
            while True:
                try:
                    found = await loop.run_in_executor(thread, self._poll)
                except BrokerUnavailable as exc:
                    _LOG.warning("published rules are not seen: %s", exc)
                    await asyncio.sleep(_RETRY_S)
                    continue
                if found is not None:
                    in_force.swap(found.program)
        finally:
            thread.submit(self._close)
            thread.shutdown(wait=False)

    def _poll(self) -> GoodVersion | None:
        """Wait a moment for records; return the newest good version among them."""
        try:
            if self._reader is None:
                self._reader = _reader(self._kafka)
            records = self._reader.poll(_POLL_S)
        except BrokerUnavailable:
            self._close()
            raise
        taken = [self._versions.take(record) for record in records]
        for record, each in zip(records, taken, strict=True):
            self.observe(record, each)
        good = [each for each in taken if isinstance(each, GoodVersion)]
        return good[-1] if good else None

    def observe(self, record: LogRecord, taken: GoodVersion | RuleSetRefused | None) -> None:
        """Count what a record was and log it, of refused ones not too many.

        Of a refused one the quarantine is told.
        """
        if isinstance(taken, GoodVersion):
            RULE_SETS.labels("served").inc()
            said = taken.published
            _LOG.info("rules: %s version %d by %s", said.rule_set_id, said.version, said.signer)
        elif taken is not None:
            RULE_SETS.labels("refused").inc()
            untold = self._told.take("refused")
            if untold is not None:
                more = f"; so were {untold} before it" if untold else ""
                _LOG.error("a published rule set is refused: %s%s", taken, more)
            report(record, QuarantineReason.RULES, str(taken))

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _no_rules(rule_set_id: str) -> InvalidSettings:
    msg = (
        f"no rule set {rule_set_id} is published and FRAUD_SCORING_RULE_SET_FILE names none, so "
        "nobody chose what decides where the model cannot: publish one with "
        "`fraudstream scoring rules publish`, or name a file such as services/scoring/rules.toml"
    )
    return InvalidSettings(msg)
