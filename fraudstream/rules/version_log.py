"""The published versions of one rule set: which is in force, and what was refused."""

from __future__ import annotations

from fraudstream.broker.log_reader import LogRecord
from fraudstream.errors import RuleSetRefused
from fraudstream.rules.published import GoodVersion, check_version
from fraudstream.signing import People


class VersionLog:
    """Takes the records of `rules.published.v1` in their order; the last good version counts.

    A record that comes again, after a reader began again or a producer sent it twice, is no news.

    Args:
        rule_set_id: Whose versions count; other sets' are passed over.
        people: Whose signatures count; None where no file names them: then nothing is trusted.
    """

    def __init__(self, rule_set_id: str, people: People | None) -> None:
        self._rule_set_id = rule_set_id
        self._people = people
        self._next: dict[int, int] = {}
        self.newest: GoodVersion | None = None

    def take(self, record: LogRecord) -> GoodVersion | RuleSetRefused | None:
        """Take a record; return the version that is in force from now on, or why it is refused."""
        if record.offset < self._next.get(record.partition, 0):
            return None
        self._next[record.partition] = record.offset + 1
        if record.key != self._rule_set_id.encode() or self._is_repeat(record):
            return None
        try:
            self.newest = self._check(record)
        except RuleSetRefused as exc:
            return exc
        return self.newest

    def _is_repeat(self, record: LogRecord) -> bool:
        return self.newest is not None and self.newest.published.SerializeToString() == record.value

    def _check(self, record: LogRecord) -> GoodVersion:
        if self._people is None:
            msg = "no file of people is set, so nobody's signature counts"
            raise RuleSetRefused("RULES_UNTRUSTED", msg)
        in_force = self.newest.rule_set if self.newest else None
        found = check_version(record.value, self._people, record.timestamp_ms, in_force)
        if found.rule_set.id != self._rule_set_id:
            msg = f"expected a version of {self._rule_set_id}, found {found.rule_set.id}"
            raise RuleSetRefused("RULES_HASH", msg)
        return found
