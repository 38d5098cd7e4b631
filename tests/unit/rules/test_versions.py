"""Published versions: signed by the right person, growing, and whole."""

from __future__ import annotations

import base64
from typing import Final

import pytest

from fraudstream.broker.log_reader import LogRecord
from fraudstream.errors import RuleSetRefused
from fraudstream.rules.published import PURPOSE, GoodVersion, sign_rule_set, signed_bytes
from fraudstream.rules.version_log import VersionLog
from fraudstream.signing import People, SignerRole
from fraudstream.v1.rules_pb2 import PublishedRuleSet
from tests.material.rule_files import rule, rule_file
from tests.worlds.trust import APPROVER, NOW_MS, PEOPLE, TRAINER


def version(number: int, *tables: str) -> PublishedRuleSet:
    """Return a good version."""
    return sign_rule_set(rule_file(*tables, version=number), "because", NOW_MS, APPROVER)


def record(
    published: PublishedRuleSet | bytes, offset: int, key: bytes = b"cards", at_ms: int = NOW_MS
) -> LogRecord:
    """Return the record that carries a version."""
    value = published if isinstance(published, bytes) else published.SerializeToString()
    return LogRecord("rules.published.v1", 0, offset, at_ms, key, value, ())


def refused(taken: GoodVersion | RuleSetRefused | None) -> str:
    """Return the reason of a refusal."""
    assert isinstance(taken, RuleSetRefused)
    return taken.reason


def test_newest_good_version_counts() -> None:
    """Versions follow each other as they lie on the topic."""
    log = VersionLog("cards", PEOPLE)

    for offset, number in enumerate((1, 2, 5)):
        assert isinstance(log.take(record(version(number), offset)), GoodVersion)

    assert log.newest
    assert log.newest.rule_set.version == 5
    assert log.newest.published.signer == APPROVER.name


def test_versions_only_grow() -> None:
    """An older version that somebody sends again, signed as it is, changes nothing."""
    log = VersionLog("cards", PEOPLE)
    first = version(1)
    log.take(record(first, 0))
    log.take(record(version(2), 1))

    assert refused(log.take(record(first, 2))) == "RULES_VERSION"
    assert refused(log.take(record(version(2, rule("ONE", "true")), 3))) == "RULES_VERSION"
    assert log.newest
    assert log.newest.rule_set.version == 2


def test_older_content_comes_back_under_a_new_version() -> None:
    """That is a rollback."""
    log = VersionLog("cards", PEOPLE)
    log.take(record(version(1), 0))
    log.take(record(version(2, rule("ONE", "true")), 1))

    log.take(record(version(3), 2))

    assert log.newest
    assert not log.newest.rule_set.rules


def test_what_was_read_before_is_no_news() -> None:
    """A reader may begin again, and a producer may send twice."""
    log = VersionLog("cards", PEOPLE)
    first = record(version(1), 0)
    log.take(first)

    assert log.take(first) is None
    assert log.take(record(first.value, 1)) is None


def test_other_rule_sets_are_passed_over() -> None:
    """A topic may hold several."""
    log = VersionLog("cards", PEOPLE)

    assert log.take(record(version(1), 0, key=b"transfers")) is None
    assert log.newest is None


_CHANGES: Final = (
    ("content", rule_file(rule("ONE", "true"))),
    ("why", "another reason"),
    ("version", 9),
    ("signature", bytes(64)),
    ("signature", b"short"),
    ("signer", "somebody"),
    ("signer", TRAINER.name),
)


@pytest.mark.parametrize(("field", "value"), _CHANGES)
def test_changed_version_is_not_trusted(field: str, value: object) -> None:
    """The signature is under every field."""
    changed = version(1)
    setattr(changed, field, value)

    assert refused(VersionLog("cards", PEOPLE).take(record(changed, 0))) == "RULES_UNTRUSTED"


def test_who_may_not_publish_is_not_trusted() -> None:
    """A trainer signs models; rules take a role of their own."""
    signed = sign_rule_set(rule_file(), "because", NOW_MS, TRAINER)

    assert refused(VersionLog("cards", PEOPLE).take(record(signed, 0))) == "RULES_UNTRUSTED"


def test_signature_counts_on_the_day_the_broker_took_it() -> None:
    """Who has left publishes nothing, whatever day they write; what they published stays."""
    people = People.of([APPROVER.person([SignerRole.PUBLISHER], "2026-01-05")])
    signed = version(1)

    assert VersionLog("cards", people).take(record(signed, 0)) is not None
    late = record(signed, 0, at_ms=NOW_MS + 86_400_000)
    assert refused(VersionLog("cards", people).take(late)) == "RULES_UNTRUSTED"


def test_nobody_is_trusted_without_a_file_of_people() -> None:
    """There is no setting that serves it anyway."""
    assert refused(VersionLog("cards", None).take(record(version(1), 0))) == "RULES_UNTRUSTED"


def test_message_must_say_what_its_content_says() -> None:
    """A publisher cannot sign one hash over another content."""
    found = version(1)
    # As if a program of another release had signed: same person, another hash.
    lying = PublishedRuleSet()
    lying.CopyFrom(found)
    lying.rule_set_hash = "0" * 64
    signed = _signed_again(lying)

    assert refused(VersionLog("cards", PEOPLE).take(record(signed, 0))) == "RULES_HASH"


def test_record_that_is_no_message_is_refused() -> None:
    """It is no reason to stop."""
    assert refused(VersionLog("cards", PEOPLE).take(record(b"\xff\xff", 0))) == "RULES_FILE"


def test_nothing_is_signed_without_a_why() -> None:
    """Whoever reads it later wants to know."""
    with pytest.raises(RuleSetRefused, match="why"):
        sign_rule_set(rule_file(), " ", NOW_MS, APPROVER)


def _signed_again(published: PublishedRuleSet) -> PublishedRuleSet:
    """Sign a message as it stands."""
    signature = APPROVER.sign(PURPOSE, signed_bytes(published))
    published.signature = base64.b64decode(signature.value)
    return published
