"""Which rule set is served: the newest good version on the topic, else the configured file.

At the start the topic is read to its end before any call is taken. Later versions are checked and
compiled in a thread of their own and swapped in whole, between two calls' decisions: a call takes
the program once, so no answer comes from two versions. A refused one is logged and counted, and
the old one serves on.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka.errors import KafkaError

from fraudstream.errors import BrokerUnavailable, InvalidSettings, RuleSetRefused
from fraudstream.log_reader import LogReader, LogRecord, read_topic
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.published import GoodVersion
from fraudstream.rules.rule_set import parse_rule_set
from fraudstream.rules.version_log import VersionLog
from fraudstream.settings import KafkaSettings
from fraudstream.signing import People
from fraudstream.telemetry import RULE_SET_VERSION, RULE_SETS
from fraudstream.topics import RULES

_POLL_S: Final = 0.5
_RETRY_S: Final = 1.0

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
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{path}: expected a rule set in TOML, UTF-8: {type(exc).__name__}"
        raise InvalidSettings(msg) from exc


def load_rule_set(path: Path) -> RuleProgram:
    """Read and compile a rule set's file.

    Raises:
        InvalidSettings: It cannot be read.
        RuleSetRefused: It is not fit to serve.
    """
    return RuleProgram(parse_rule_set(read_rule_file(path)))


def read_rules(kafka: KafkaSettings) -> list[LogRecord]:
    """Return all records of the rules topic, up to its end.

    Raises:
        BrokerUnavailable: It cannot be read, or is not there.
    """
    try:
        return read_topic(kafka, RULES)
    except KafkaError as exc:
        raise BrokerUnavailable(f"{RULES.name}: {type(exc).__name__}") from exc


class RulesFollower:
    """Reads the rules topic: once to its end, then for as long as the service runs.

    Args:
        kafka: Where the topic is.
        rule_set_id: Whose versions count.
        people: Whose signatures count; None for nobody's.
    """

    def __init__(self, kafka: KafkaSettings, rule_set_id: str, people: People | None) -> None:
        self._kafka = kafka
        self._rule_set_id = rule_set_id
        self._versions = VersionLog(rule_set_id, people)
        self._reader: LogReader | None = None

    def open(self, file: Path | None) -> RulesInForce:
        """Return the rules to start with.

        Raises:
            RuleSetRefused: What was published is not fit to serve, or the file is not.
            InvalidSettings: Neither a published version nor a file is there: nobody chose what
                stands in for the model.
            BrokerUnavailable: The topic cannot be read.
        """
        configured = load_rule_set(file) if file else None
        if configured and configured.rule_set.id != self._rule_set_id:
            msg = f"{file}: expected the rule set {self._rule_set_id}"
            raise InvalidSettings(f"{msg}, found {configured.rule_set.id}")
        for record in read_rules(self._kafka):
            _observe(self._versions.take(record))
        newest = self._versions.newest
        if newest is None and self._versions.refusal is not None:
            # Older rules, from a file, would serve in silence: rather somebody publishes again.
            raise self._versions.refusal
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
                self._reader = LogReader(self._kafka, [RULES])
            taken = [self._versions.take(record) for record in self._reader.poll(_POLL_S)]
        except KafkaError as exc:
            self._close()
            raise BrokerUnavailable(f"{RULES.name}: {type(exc).__name__}") from exc
        for each in taken:
            _observe(each)
        good = [each for each in taken if isinstance(each, GoodVersion)]
        return good[-1] if good else None

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _observe(taken: GoodVersion | RuleSetRefused | None) -> None:
    """Log and count what a record was."""
    if isinstance(taken, GoodVersion):
        RULE_SETS.labels("served").inc()
        said = taken.published
        _LOG.info("rules: %s version %d by %s", said.rule_set_id, said.version, said.signer)
    elif taken is not None:
        RULE_SETS.labels("refused").inc()
        _LOG.error("a published rule set is refused: %s", taken)


def _no_rules(rule_set_id: str) -> InvalidSettings:
    msg = (
        f"no rule set {rule_set_id} is published and FRAUD_SCORING_RULE_SET_FILE names none, so "
        "nobody chose what decides where the model cannot: publish one with `python -m "
        "services.scoring rules publish`, or name a file such as services/scoring/rules.toml"
    )
    return InvalidSettings(msg)
