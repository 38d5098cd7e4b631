"""The commands `rules check`, `rules test`, `rules publish` and `rules status`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.broker.log_reader import LogRecord
from fraudstream.errors import InvalidSettings, RuleSetRefused
from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_NAMES
from fraudstream.names import word_of
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.published import sign_rule_set
from fraudstream.rules.reading import ModelInputs
from fraudstream.rules.ruling import ruled_action, stand_in_action
from fraudstream.rules.variables import nearest
from fraudstream.rules.version_log import VersionLog
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings, RatesSettings
from fraudstream.signing import People, Signer
from fraudstream.topics import RULES, partition_of
from fraudstream.transaction.actions import ACTIONS
from fraudstream.transaction.card_token import NO_TOKENS
from fraudstream.transaction.json_form import decode_json
from fraudstream.transaction.money import open_rate_table
from fraudstream.transaction.validate import canonicalise, validate_transaction
from fraudstream.v1.decision_pb2 import Action
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.decision.rules_follower import load_rule_set, read_rule_file, read_rules

_RULES: Final = """\
Exit codes: 0 done, 64 wrong usage, 65 the rule set or the transaction is not as expected, 69 the
broker is away, 77 a signature that does not count, 78 a file or setting is not as expected.
"""
_word: Final = partial(word_of, Action)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands of rule sets."""
    parser.epilog = _RULES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True)
    check = commands.add_parser("check", help="say whether a rule set is fit to serve")
    check.add_argument("file", type=Path, help="the rule set, TOML")
    check.set_defaults(run=_check)
    test = commands.add_parser("test", help="say what a rule set does to one transaction")
    test.add_argument("file", type=Path, help="the rule set, TOML")
    test.add_argument(
        "--transaction",
        type=Path,
        required=True,
        help="JSON, as a bank sends it, or one of samples/",
    )
    test.add_argument(
        "--score", type=_score, help="what the model says; without it rules that need it are left"
    )
    test.add_argument(
        "--feature",
        action="append",
        type=_feature,
        default=[],
        metavar="NAME=NUMBER",
        help="a feature's value; repeat for more; those not given are 0",
    )
    test.set_defaults(run=_test)
    publish = commands.add_parser("publish", help="sign a rule set and have scoring serve it")
    publish.add_argument("file", type=Path, help="the rule set, TOML; its version must be new")
    publish.add_argument("--key", type=Path, required=True, help="private key of who publishes")
    publish.add_argument("--people", type=Path, required=True, help="file of people, public keys")
    publish.add_argument("--why", required=True, help="for whoever reads it later")
    publish.set_defaults(run=_publish)
    status = commands.add_parser("status", help="say which rule sets are published, and by whom")
    status.add_argument("--people", type=Path, required=True, help="file of people, public keys")
    status.set_defaults(run=_status)


def _score(text: str) -> float:
    score = float(text)
    if not 0 <= score <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, found {text}")
    return score


def _feature(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if name not in FEATURE_NAMES:
        hint = nearest(name, list(FEATURE_NAMES))
        raise argparse.ArgumentTypeError(f"no feature {name!r}; {hint}")
    return name, float(number)


def _check(asked: argparse.Namespace) -> int:
    program = load_rule_set(asked.file)
    rule_set = program.rule_set
    entries = sum(len(found.entries) for found in rule_set.lists.values())
    print(
        f"{rule_set.id} version {rule_set.version}: {len(rule_set.rules)} rules, "
        f"{len(rule_set.lists)} lists with {entries} entries\nhash {program.hash}"
    )
    return os.EX_OK


def _test(asked: argparse.Namespace) -> int:
    program = load_rule_set(asked.file)
    transaction = _read_transaction(asked.transaction)
    inputs = None
    if asked.score is not None:
        values = dict(asked.feature)
        vector = np.array([values.get(name, 0.0) for name in FEATURE_NAMES], np.float32)
        inputs = ModelInputs(asked.score, vector, FEATURE_HASHES)
    print("\n".join(_findings(program, transaction, inputs)))
    return os.EX_OK


def _read_transaction(path: Path) -> Transaction:
    """Read a transaction as a bank sends it, and make it canonical as both doors do."""
    try:
        value = path.read_bytes()
    except OSError as exc:
        raise InvalidSettings(f"cannot read {path}: {exc.strerror}") from exc
    transaction = decode_json(_filled(value) if b'"@' in value else value)
    validate_transaction(transaction, transaction.event_time_ms)
    canonicalise(transaction, NO_TOKENS, open_rate_table(RatesSettings.read().table_file))
    return transaction


def _filled(sample: bytes) -> bytes:
    """Return a file of `samples/` with contents in the places that are filled when it is sent.

    What stands there says nothing to a rule: a card, a holder, a device and an id that nobody has.
    """
    try:
        fields = json.loads(sample)
    except (ValueError, RecursionError):
        return sample
    if not isinstance(fields, dict):
        return sample
    if fields.get("pan") == "@card":
        fields["card_token"] = f"{fields.get('bank_id')}.k1.{32 * '0'}"
        del fields["pan"]
    marks = {"@customer": "customer", "@device": "device", "@fresh": "sample", "@now": epoch_ms()}
    filled = {n: marks.get(f, f) if isinstance(f, str) else f for n, f in fields.items()}
    return json.dumps(filled).encode()


def _findings(
    program: RuleProgram, transaction: Transaction, inputs: ModelInputs | None
) -> list[str]:
    """Return what a rule set says of a transaction, line by line."""
    signals = program.signals(transaction, inputs)
    lines = [f"{_word(s.action):<10} {s.code}  {s.reason.text}" for s in signals]
    lines = lines or ["nothing fires"]
    left = program.codes_that_need_model if inputs is None else ()
    if left:
        lines.append(f"not tried without --score: {', '.join(left)}")
    for action in ACTIONS:
        lines.append(f"model says {_word(action)}: {_word(ruled_action(action, signals))}")
    bare = program.signals(transaction, None)
    policy = program.rule_set.stand_in
    return [*lines, f"no model: {_word(stand_in_action(transaction, policy, bare))}"]


def _publish(asked: argparse.Namespace) -> int:
    kafka, people = KafkaSettings.read(), People.load(asked.people)
    content, signer = read_rule_file(asked.file), Signer.load(asked.key)
    now_ms = epoch_ms()
    published = sign_rule_set(content, asked.why, now_ms, signer)
    key, value = published.rule_set_id.encode(), published.SerializeToString()
    versions, offset = VersionLog(published.rule_set_id, people), 1
    for record in read_rules(kafka):
        versions.take(record)
        offset = max(offset, record.offset + 1)
    # As every reader will: what is not fit for them is not sent.
    taken = versions.take(LogRecord(RULES.name, -1, offset, now_ms, key, value, ()))
    if isinstance(taken, RuleSetRefused):
        raise taken
    asyncio.run(_send(kafka, key, value))
    print(f"{published.rule_set_id} version {published.version} is published")
    print(f"hash {published.rule_set_hash}")
    return os.EX_OK


async def _send(kafka: KafkaSettings, key: bytes, value: bytes) -> None:
    producer = BatchProducer(kafka)
    await producer.start()
    try:
        topic = kafka.topic(RULES)
        partition = partition_of(key, await producer.partitions(topic))
        await producer.send(topic, [OutRecord(key, value, partition)])
    finally:
        await producer.stop()


def _status(asked: argparse.Namespace) -> int:
    people = People.load(asked.people)
    logs: dict[bytes, VersionLog] = {}
    for record in read_rules(KafkaSettings.read()):
        name = record.key.decode(errors="replace")
        versions = logs.setdefault(record.key, VersionLog(name, people))
        taken = versions.take(record)
        if isinstance(taken, RuleSetRefused):
            print(f"{name}: a record is refused: {taken}")
    for versions in logs.values():
        if versions.newest:
            said = versions.newest.published
            day = datetime.fromtimestamp(said.published_at_ms / 1000, UTC).isoformat(" ", "seconds")
            print(
                f"{said.rule_set_id} version {said.version} by {said.signer}, {day}: {said.why}\n"
                f"hash {said.rule_set_hash}"
            )
    if not logs:
        print("no rule set is published")
    return os.EX_OK
