"""A published version of a rule set: signed by one person, checked by everyone who reads it.

Key: rule-set id, on a topic that keeps every record. Order: versions only grow, so a version that
is not above the one in force is refused, whoever signed it; to go back, publish the older content
under a new version. The signature must count on the day on which the broker took the record, which
no signer can choose.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from fraudstream.errors import RuleSetRefused, SignatureRefused
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.rule_set import MAX_BYTES, RuleSet, parse_rule_set
from fraudstream.signing import People, Signature, Signer, SignerRole
from fraudstream.v1.rules_pb2 import PublishedRuleSet

MAX_WHY: Final = 500
PURPOSE: Final = "rule set"
# The file, and what stands beside it.
_MAX_VALUE_BYTES: Final = MAX_BYTES + 8_192


@dataclass(frozen=True, slots=True)
class GoodVersion:
    """A published version that holds together.

    Attributes:
        published: As it lies on the topic.
        program: Ready to serve.
    """

    published: PublishedRuleSet
    program: RuleProgram

    @property
    def rule_set(self) -> RuleSet:
        """Return what it says."""
        return self.program.rule_set


def sign_rule_set(content: str, why: str, published_at_ms: int, signer: Signer) -> PublishedRuleSet:
    """Check a rule set, and return it as its signer publishes it.

    Raises:
        RuleSetRefused: It is not fit to serve, or nothing says why.
    """
    if not 0 < len(why.strip()) <= MAX_WHY:
        msg = f"why: expected 1 to {MAX_WHY} characters for whoever reads it later"
        raise RuleSetRefused("RULES_FILE", msg)
    program = RuleProgram(parse_rule_set(content))
    published = PublishedRuleSet(
        rule_set_id=program.rule_set.id,
        version=program.rule_set.version,
        content=content,
        rule_set_hash=program.hash,
        signer=signer.name,
        why=why,
        published_at_ms=published_at_ms,
    )
    signature = signer.sign(PURPOSE, signed_bytes(published))
    published.signature = base64.b64decode(signature.value)
    return published


def check_version(
    value: bytes, people: People, taken_at_ms: int, in_force: RuleSet | None
) -> GoodVersion:
    """Return a published version, ready to serve.

    Args:
        value: Of the record.
        people: Whose signatures count.
        taken_at_ms: When the broker took the record, epoch milliseconds.
        in_force: What it would follow; None for nothing that was published.

    Raises:
        RuleSetRefused: `RULES_UNTRUSTED`, `RULES_VERSION`, `RULES_HASH`, or what is wrong with the
            set itself.
    """
    if len(value) > _MAX_VALUE_BYTES:
        msg = f"expected a record of at most {_MAX_VALUE_BYTES} bytes, found {len(value)}"
        raise RuleSetRefused("RULES_FILE", msg)
    try:
        published = PublishedRuleSet.FromString(value)
    except DecodeError as exc:
        msg = "expected a message fraudstream.v1.PublishedRuleSet"
        raise RuleSetRefused("RULES_FILE", msg) from exc
    _check_signature(published, people, taken_at_ms)
    if in_force is not None and published.version <= in_force.version:
        msg = f"expected a version above {in_force.version}, found {published.version}"
        raise RuleSetRefused("RULES_VERSION", msg)
    program = RuleProgram(parse_rule_set(published.content))
    said = (program.rule_set.id, program.rule_set.version, program.hash)
    if said != (published.rule_set_id, published.version, published.rule_set_hash):
        msg = f"expected id, version and hash of its content, {said}"
        raise RuleSetRefused("RULES_HASH", msg)
    return GoodVersion(published, program)


def _check_signature(published: PublishedRuleSet, people: People, taken_at_ms: int) -> None:
    try:
        signature = Signature(
            signer=published.signer, value=base64.b64encode(published.signature).decode()
        )
        message = signed_bytes(published)
        people.check(signature, PURPOSE, message, SignerRole.PUBLISHER, taken_at_ms)
    except ValueError as exc:
        msg = "expected a signer's name and a signature of 64 bytes"
        raise RuleSetRefused("RULES_UNTRUSTED", msg) from exc
    except SignatureRefused as exc:
        raise RuleSetRefused("RULES_UNTRUSTED", str(exc)) from exc


def signed_bytes(published: PublishedRuleSet) -> bytes:
    """Return what a signature stands under: every field but itself, in one spelling."""
    listing = (
        published.rule_set_id,
        published.version,
        published.content,
        published.rule_set_hash,
        published.signer,
        published.why,
        published.published_at_ms,
    )
    return json.dumps(listing, separators=(",", ":")).encode()
