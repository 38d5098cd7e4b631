"""Commands `dlq list`, `dlq show` and `dlq replay`: read dead letters, mend one, send it again."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from fraudstream.dead_letter import SourceRecord, load_private_key, unseal
from fraudstream.errors import InvalidSettings, InvalidTransaction
from fraudstream.settings import KafkaSettings
from fraudstream.topics import RAW
from fraudstream.transaction import CONTENT_TYPE, PROTOBUF, decode_transaction
from fraudstream.transaction_json import JsonValue, encode_json
from services.ingest.letters import Letter, Place, find_letter, read_letters, send_mended
from services.ingest.settings import IngestSettings


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add `list`, `show` and `replay` to the command line."""
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="one JSON line for each dead letter")
    listing.add_argument("--reason", help="only those with this reason")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", help="headers, message and masked preview of one")
    show.add_argument("letter", type=_place, help="PARTITION:OFFSET in the dead-letter topic")
    show.set_defaults(run=_show)
    replay = commands.add_parser("replay", help="unseal one, mend it, send it to the raw topic")
    replay.add_argument("letter", type=_place, help="PARTITION:OFFSET in the dead-letter topic")
    replay.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", type=_change)
    replay.add_argument("--remove", action="append", default=[], metavar="FIELD")
    replay.add_argument("--body", type=Path, help="file with the whole mended JSON record")
    replay.add_argument(
        "--at-original-time",
        action="store_true",
        help="append time of the original instead of now: for records on a clock of their own",
    )
    replay.set_defaults(run=_replay)


def _place(text: str) -> Place:
    partition, _, offset = text.partition(":")
    return int(partition), int(offset)


def _change(text: str) -> tuple[str, JsonValue]:
    """Read FIELD=JSON; what is no JSON is a text."""
    field, _, content = text.partition("=")
    try:
        return field, json.loads(content)
    except json.JSONDecodeError:
        return field, content


def _list(asked: argparse.Namespace) -> int:
    for letter in read_letters(KafkaSettings.read()):
        texts = letter.texts()
        if asked.reason in (None, texts["reason"]):
            print(json.dumps({"letter": letter.name, **texts}))
    return os.EX_OK


def _show(asked: argparse.Namespace) -> int:
    letter = find_letter(KafkaSettings.read(), asked.letter)
    content = json.loads(letter.value)
    is_sealed = content.pop("sealed", None) is not None
    shown = {"letter": letter.name, **letter.texts(), **content, "original_is_sealed": is_sealed}
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return os.EX_OK


def _replay(asked: argparse.Namespace) -> int:
    kafka = KafkaSettings.read()
    letter = find_letter(kafka, asked.letter)
    if letter.texts()["topic"] != kafka.topic(RAW):
        raise InvalidSettings("only a letter from the raw topic can be replayed")
    key = None
    if asked.body:
        value = asked.body.read_bytes()
    else:
        original = _original_of(letter)
        key, value = original.key, _mended(original, dict(asked.set), asked.remove)
    append_time_ms = json.loads(letter.value)["append_time_ms"]
    send_mended(kafka, letter, value, (key, append_time_ms if asked.at_original_time else None))
    print(json.dumps({"replayed": letter.name}))
    return os.EX_OK


def _original_of(letter: Letter) -> SourceRecord:
    path = IngestSettings.read().seal_private_key_file
    if path is None:
        raise InvalidSettings("FRAUD_INGEST_SEAL_PRIVATE_KEY_FILE is not set")
    return unseal(letter.value, letter.headers, load_private_key(path))


def _mended(original: SourceRecord, changes: dict[str, JsonValue], removed: list[str]) -> bytes:
    """Return the original with fields set and removed, as JSON."""
    value = original.value or b"{}"
    try:
        if dict(original.headers).get(CONTENT_TYPE) == PROTOBUF:
            value = encode_json(decode_transaction(value, [(CONTENT_TYPE, PROTOBUF)]))
        fields = json.loads(value)
        kept = {name: content for name, content in fields.items() if name not in removed}
    except (InvalidTransaction, ValueError, AttributeError) as exc:
        raise InvalidSettings("the original is no JSON object: give the whole --body") from exc
    return json.dumps({**kept, **changes}).encode()
