"""Commands `privileges ...`: what makes the principals of `fraudstream.privileges` real.

Names are those of the deployment (`FRAUD_KAFKA_TOPIC_PREFIX`, `FRAUD_REDIS_KEY_PREFIX`). Passwords
stand in files of their own and in no script: the store's users get the SHA-256 of theirs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import Purpose, read_secret, write_secret
from fraudstream.privileges import PRINCIPALS, Principal
from fraudstream.runtime.usage_parser import UsageParser
from fraudstream.settings import KafkaSettings, RedisSettings
from fraudstream.topics import ALL, Topic
from services.ingest.feeds import Feeds
from services.ingest.settings import IngestSettings

KAFKA, STORE = "kafka", "store"
ADMINISTRATOR: Final = "administrator"
BANK: Final = "bank"
_HEAD: Final = """\
#!/bin/sh
# Rights of each principal. Made by `python -m services.ingest privileges kafka`; run it again after
# an upgrade. It adds rights and takes none away.
#   BOOTSTRAP=kafka-0:9093 ADMIN_CONFIG=admin.properties sh ops/kafka/acls.sh
# KAFKA_ACLS names kafka-acls.sh where it is not on the PATH.
set -eu
allow() {
  ${KAFKA_ACLS:-kafka-acls.sh} --bootstrap-server "${BOOTSTRAP:?}" \\
    ${ADMIN_CONFIG:+--command-config "$ADMIN_CONFIG"} --add --allow-principal "$@"
}"""


def add_commands(parser: UsageParser) -> None:
    """Add `kafka`, `store` and `passwords` to the command line."""
    commands = parser.add_subparsers(required=True, parser_class=UsageParser)
    kafka = commands.add_parser(KAFKA, help="print the script of Kafka's ACLs")
    kafka.add_argument(
        "--bank", action="append", help="a bank that sends: a user bank-BANK (as often as needed)"
    )
    kafka.set_defaults(run=_print_kafka)
    store = commands.add_parser(STORE, help="print the ACL file of Valkey or Redis")
    store.add_argument(
        "--passwords", type=Path, help="folder of `passwords`; without it no user can log in"
    )
    store.set_defaults(run=_print_store)
    passwords = commands.add_parser("passwords", help="make the passwords that a folder lacks")
    passwords.add_argument("folder", type=Path)
    passwords.add_argument("--bank", action="append", help="a bank that sends, as above")
    passwords.set_defaults(run=_make_passwords)


def user_name(kafka: KafkaSettings, name: str) -> str:
    """Return the user of a principal in this deployment, in Kafka and in the store.

    >>> user_name(KafkaSettings(topic_prefix="bank-"), "scoring")
    'bank-fraudstream-scoring'
    """
    return kafka.group(name)


def kafka_script(
    kafka: KafkaSettings, banks: Sequence[str] | None = None, feeds: Feeds | None = None
) -> str:
    """Return the commands that give every principal its rights in Kafka.

    Args:
        kafka: Names the deployment's topics and groups.
        banks: Names of banks that send; each is a user of its own.
        feeds: Feeds that each have a user of their own, with no other feed's topics; None where
            all banks share the raw ones.
    """
    topics = feeds.named(ALL) if feeds else ALL
    lines = [_HEAD]
    for principal in PRINCIPALS:
        for one in _of_feeds(principal, feeds) if feeds else _of_banks(principal, banks or ()):
            lines += [shlex.join(["allow", *part]) for part in _rights(kafka, one, topics)]
    return "\n".join(lines) + "\n"


def _of_banks(one: Principal, banks: Sequence[str]) -> list[Principal]:
    """Return a principal, or one for each bank where it is the banks'."""
    is_bank = banks and one.name == BANK
    return [replace(one, name=f"{BANK}-{bank}") for bank in banks] if is_bank else [one]


def _of_feeds(one: Principal, feeds: Feeds) -> list[Principal]:
    """Return a principal with the feeds' topics, or one for each feed where it is the banks'."""
    if one.name == BANK:
        return [replace(one, name=f"{BANK}-{feed.name}", writes=feed.topics) for feed in feeds.all]
    return [replace(one, reads=feeds.named(one.reads), writes=feeds.named(one.writes))]


def _rights(kafka: KafkaSettings, one: Principal, every: Sequence[Topic]) -> Iterator[list[str]]:
    """Return the arguments of each command for one principal."""
    user = f"User:{user_name(kafka, one.name)}"
    group = ["--group", kafka.group(one.group)] if one.group else []
    parts: list[tuple[Sequence[str], Sequence[Topic], list[str]]] = [
        (["Read"], one.reads, group),
        (["Write"], one.writes, []),
        (["Describe"], one.describes, []),
        (one.operations, every if one.operations else (), []),
    ]
    for operations, topics, more in parts:
        if topics:
            asked = [word for operation in operations for word in ("--operation", operation)]
            named = [word for topic in topics for word in ("--topic", kafka.topic(topic))]
            yield [user, *asked, *named, *more]


def store_users(kafka: KafkaSettings, redis: RedisSettings, passwords: Path | None) -> str:
    """Return the ACL file of the store: who may give which command for which keys.

    Args:
        kafka: Its prefix stands before the users' names too.
        redis: Names the prefix of the keys.
        passwords: Folder with a password for each user; without it none can log in.
    """
    lines = [
        "user default off resetpass resetkeys resetchannels -@all",
        f"user {user_name(kafka, ADMINISTRATOR)} on {_hash(passwords, ADMINISTRATOR)} ~* &* +@all",
    ]
    for one in PRINCIPALS:
        if one.store:
            keys = [f"~{redis.key_prefix}:{pattern}" for pattern in one.store.writes]
            keys += [f"%R~{redis.key_prefix}:{pattern}" for pattern in one.store.reads]
            commands = [f"+{command}" for command in one.store.commands]
            rights = " ".join(["resetchannels", *keys, "-@all", *commands])
            lines.append(
                f"user {user_name(kafka, one.name)} on {_hash(passwords, one.name)} {rights}"
            )
    return "\n".join(lines) + "\n"


def _hash(passwords: Path | None, name: str) -> str:
    """Return a password as the store's ACL file has it; none lets nobody in."""
    if passwords is None:
        return "resetpass"
    password = read_secret(passwords / STORE / name).strip()
    return f"#{hashlib.sha256(password.encode()).hexdigest()}"


def _print_kafka(asked: argparse.Namespace) -> int:
    kafka, feeds_file = KafkaSettings.read(), IngestSettings.read().feeds_file
    if feeds_file and asked.bank:
        raise InvalidSettings("--bank: FRAUD_INGEST_FEEDS_FILE names who sends; expected one alone")
    feeds = Feeds.read(feeds_file, kafka) if feeds_file else None
    return _print(kafka_script(kafka, asked.bank, feeds))


def _print_store(asked: argparse.Namespace) -> int:
    return _print(store_users(KafkaSettings.read(), RedisSettings.read(), asked.passwords))


def _make_passwords(asked: argparse.Namespace) -> int:
    """Write a file for each user of Kafka and of the store that has none yet."""
    names = {one.name for one in PRINCIPALS} - {BANK if asked.bank else ""}
    of_store = {ADMINISTRATOR} | {one.name for one in PRINCIPALS if one.store}
    of_kafka = names | {f"{BANK}-{bank}" for bank in asked.bank or ()}
    for server, users in ((KAFKA, of_kafka), (STORE, of_store)):
        folder = asked.folder / server
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in sorted(users):
            if not (folder / name).exists():
                write_secret(folder / name, f"{secrets.token_urlsafe(24)}\n", Purpose.SECRET)
                print(folder / name)
    return os.EX_OK


def _print(text: str) -> int:
    print(text, end="")
    return os.EX_OK
