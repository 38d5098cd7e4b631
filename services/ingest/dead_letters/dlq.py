"""Commands `dlq list`, `dlq show` and `dlq replay`: read, correct and resend dead letters.

What the command line says is checked before anything is read, and a corrected record is judged as
ingest would judge it before it is sent.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fraudstream.card_data.detector import mask
from fraudstream.dead_letters.letter import SourceRecord, load_private_keys, unseal
from fraudstream.errors import (
    FraudStreamError,
    InvalidSettings,
    InvalidTransaction,
    MissingFile,
)
from fraudstream.keys.box_keys import BoxKeys
from fraudstream.reject_reasons import RejectReason
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings, RatesSettings
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.json_form import JsonValue
from fraudstream.transaction.money import open_rate_table
from services.ingest.dead_letters.corrected_pan import CorrectedPans
from services.ingest.dead_letters.correction import FIELDS, Correction, check_record, text_of
from services.ingest.dead_letters.reader import (
    Letter,
    Position,
    find_letter,
    read_letters,
)
from services.ingest.dead_letters.resender import Corrected, Resender
from services.ingest.feeds import Feeds
from services.ingest.settings import IngestSettings

_STDIN: Final = Path("-")


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add `list`, `show` and `replay` to the command line."""
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="one JSON line for each dead letter, by time")
    listing.add_argument("--reason", type=_reason, help="only those with this reason")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", help="headers, message and masked preview of one")
    show.add_argument("letter", type=_position, help="PARTITION:OFFSET in the dead-letter topic")
    show.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="private key or folder of them: show the original, unmasked",
    )
    show.set_defaults(run=_show)
    _add_replay(commands.add_parser("replay", help="unseal, correct, send to the raw topic"))


def _add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument(
        "letters", nargs="*", type=_position, metavar="PARTITION:OFFSET", help="dead letters"
    )
    replay.add_argument("--reason", type=_reason, help="with --all: only those with this reason")
    replay.add_argument("--all", action="store_true", help="every letter that was not replayed yet")
    replay.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", type=_change)
    replay.add_argument(
        "--set-from", type=Path, metavar="FILE", help="JSON object of fields to set; - for stdin"
    )
    replay.add_argument("--remove", action="append", default=[], metavar="FIELD")
    replay.add_argument(
        "--body", type=Path, help="file with the whole corrected JSON record; - for stdin"
    )
    replay.add_argument(
        "--at-original-time",
        action="store_true",
        help="timestamp of the original instead of now: for topics of a replay",
    )
    replay.set_defaults(run=_replay, parser=replay)


def _position(text: str) -> Position:
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        msg = f"expected PARTITION:OFFSET such as 0:17, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(partition), int(offset)


def _reason(text: str) -> str:
    if text in [reason.value for reason in RejectReason]:
        return text
    msg = f"unknown reason {text!r}; known are {', '.join(RejectReason)}"
    raise argparse.ArgumentTypeError(msg)


def _change(text: str) -> tuple[str, JsonValue]:
    """Read FIELD=JSON; what is no JSON is a text."""
    field, equals, content = text.partition("=")
    if not equals or field not in FIELDS:
        msg = f"expected FIELD=JSON with one of {', '.join(FIELDS)}; found {mask(field)!r}"
        raise argparse.ArgumentTypeError(msg)
    if field == "pan":
        msg = (
            "a command line is seen by others and kept in the shell's history:"
            ' give {"pan": …} in a file or on stdin, by --set-from FILE or --set-from -'
        )
        raise argparse.ArgumentTypeError(msg)
    try:
        return field, json.loads(content)
    except json.JSONDecodeError:
        return field, content


def _list(asked: argparse.Namespace) -> int:
    for letter, is_replayed in read_letters(KafkaSettings.read(), asked.reason):
        print(json.dumps({"letter": letter.name, **letter.texts(), "replayed": is_replayed}))
    return os.EX_OK


def _show(asked: argparse.Namespace) -> int:
    # Before anything is read: a key that is wrong is told at once.
    key = load_private_keys(asked.key) if asked.key else None
    letter = find_letter(KafkaSettings.read(), asked.letter)
    content = letter.content()
    is_sealed = content.pop("sealed", None) is not None
    shown = {"letter": letter.name, **letter.texts(), **content, "original_is_sealed": is_sealed}
    if key is not None:
        shown["original"] = _shown(unseal(letter.value, letter.headers, key))
    print(on_terminal(json.dumps(shown, indent=2, ensure_ascii=False)))
    return os.EX_OK


def on_terminal(text: str) -> str:
    """Return JSON with escapes for what a terminal would obey or hide: a bank chose some of it."""
    return "".join(
        mark if mark.isprintable() or mark == "\n" else json.dumps(mark)[1:-1] for mark in text
    )


def _shown(original: SourceRecord) -> dict[str, object]:
    """Return an original as it can be printed; bytes that are no text are in base64."""
    try:
        value = text_of(original)
    except InvalidTransaction:
        value = original.value or b""
    return {
        "timestamp_ms": original.timestamp_ms,
        "key": None if original.key is None else _printed(original.key),
        "headers": {name: _printed(text) for name, text in original.headers},
        "value": None if original.value is None else _printed(value),
    }


def _printed(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(content).decode()}"


def _replay(asked: argparse.Namespace) -> int:
    """Judge all, then send those that ingest will accept; 65 where there were others."""
    _check_usage(asked)
    kafka, settings = KafkaSettings.read(), IngestSettings.read()
    if asked.at_original_time and not kafka.is_replay:
        raise InvalidSettings(
            "--at-original-time: live topics take the broker's clock, so the record would be judged"
            " by the time of this command; leave the option out, or for a replay set"
            " FRAUD_KAFKA_IS_REPLAY"
        )
    bounds = TimeBounds(settings.lateness_ms, settings.future_ms)
    rates = open_rate_table(RatesSettings.read().table_file)
    feeds = Feeds.read(settings.feeds_file, kafka)
    corrector, pans = _corrector(asked, settings), CorrectedPans.of(settings)
    corrected, refused = [], 0
    for letter in _wanted(asked, kafka):
        try:
            if not feeds.knows(letter.source):
                raise InvalidSettings("only a letter from a raw topic can be replayed")
            one = corrector(letter)
            one = replace(one, value=pans.seal(one.value))
            now_ms = one.timestamp_ms or epoch_ms()
            judged = check_record(one.value, now_ms, bounds, rates, pans)
            feeds.of(letter.source).check_bank(judged.bank_id)
            corrected.append(one)
        except FraudStreamError as exc:
            refused += 1
            print(f"letter {letter.name} is not sent: {exc}", file=sys.stderr)
    _send(kafka, corrected)
    return os.EX_DATAERR if refused else os.EX_OK


def _send(kafka: KafkaSettings, corrected: Sequence[Corrected]) -> None:
    if not corrected:
        print("nothing was sent", file=sys.stderr)
        return
    with Resender(kafka) as sender:
        for one in corrected:
            partition, offset = sender.send(one)
            print(json.dumps({"replayed": one.letter.name, "as": f"{partition}:{offset}"}))


def _check_usage(asked: argparse.Namespace) -> None:
    if bool(asked.letters) == asked.all:
        asked.parser.error("expected either letters or --all")
    if asked.reason and not asked.all:
        asked.parser.error("--reason: expected --all beside it")
    changes = asked.set or asked.set_from or asked.remove
    if asked.body and (asked.all or len(asked.letters) != 1 or changes):
        asked.parser.error("--body: expected one letter, and no --set, --set-from or --remove")


def _wanted(asked: argparse.Namespace, kafka: KafkaSettings) -> list[Letter]:
    """Return the letters that are named, or those that were not replayed yet."""
    if asked.letters:
        return [find_letter(kafka, position) for position in asked.letters]
    letters = read_letters(kafka, asked.reason)
    return [letter for letter, is_replayed in letters if not is_replayed]


def _corrector(
    asked: argparse.Namespace, settings: IngestSettings
) -> Callable[[Letter], Corrected]:
    """Return what makes the record to send of a letter; key and file are read now.

    Raises:
        InvalidSettings: The private key, or the file of `--body` or `--set-from`, cannot be read.
    """

    def time_of(letter: Letter) -> int | None:
        return letter.content()["append_time_ms"] if asked.at_original_time else None

    if asked.body:
        body = _content_of(asked.body)
        return lambda letter: Corrected(letter, None, body, time_of(letter))
    from_file = _changes_of(asked.set_from) if asked.set_from else {}
    key, correction = _private_key(settings), Correction(from_file | dict(asked.set), asked.remove)

    def corrected(letter: Letter) -> Corrected:
        original = unseal(letter.value, letter.headers, key)
        return Corrected(letter, original.key, correction.apply(original), time_of(letter))

    return corrected


def _content_of(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == _STDIN else path.read_bytes()
    except OSError as exc:
        raise MissingFile(f"cannot read {path}: {exc.strerror}") from exc


def _changes_of(path: Path) -> dict[str, JsonValue]:
    try:
        changes = json.loads(_content_of(path))
    except (ValueError, RecursionError):
        changes = None
    if isinstance(changes, dict) and changes.keys() <= set(FIELDS):
        return changes
    raise InvalidSettings(
        f"--set-from {path}: expected one JSON object with some of {', '.join(FIELDS)}"
    )


def _private_key(settings: IngestSettings) -> BoxKeys:
    if settings.seal_private_key_file is None:
        msg = (
            "FRAUD_INGEST_SEAL_PRIVATE_KEY_FILE is not set: expected the private key of the pair"
            " that seals dead letters"
        )
        raise InvalidSettings(msg)
    return load_private_keys(settings.seal_private_key_file)
