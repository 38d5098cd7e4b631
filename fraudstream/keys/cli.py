"""The command line of key files: key-encrypting keys, wrapping, and what a file is."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fraudstream.errors import InvalidSettings
from fraudstream.keys.key_encryption import KeyEncryption, open_kek_file, open_key_encryption
from fraudstream.keys.key_ring import KeyRing, parse_key_ring
from fraudstream.keys.secret_files import WRAPPED, Purpose, read_plain, replace_file, write_new
from fraudstream.keys.settings import KeysSettings
from fraudstream.keys.wrapped_files import parse, rewrap, wrap
from fraudstream.runtime.usage_parser import UsageParser, command_line


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code (sysexits)."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except InvalidSettings as exc:
        print(f"keys: {exc}", file=sys.stderr)
        return exc.exit_code


def _parser() -> UsageParser:
    parser = command_line("fraudstream.keys", __doc__)
    commands = parser.add_subparsers(required=True, parser_class=UsageParser)
    _add_kek(commands.add_parser("kek", help="make or rotate a key-encrypting key"))
    wrapping = commands.add_parser("wrap", help="wrap plain key files where they are")
    wrapping.add_argument("--purpose", required=True, type=Purpose, choices=list(Purpose))
    wrapping.add_argument("files", nargs="+", type=Path, metavar="FILE")
    wrapping.set_defaults(run=_wrap)
    again = commands.add_parser("rewrap", help="put files under the key-encrypting key in use")
    again.add_argument("files", nargs="+", type=Path, metavar="FILE")
    again.add_argument(
        "--former-kek-file", type=Path, help="where the files come from another file of keys"
    )
    again.set_defaults(run=_rewrap)
    show = commands.add_parser("show", help="one JSON line a file: purpose, name, key; no secret")
    show.add_argument("files", nargs="+", type=Path, metavar="FILE")
    show.set_defaults(run=_show)
    return parser


def _add_kek(kek: argparse.ArgumentParser) -> None:
    kek.add_argument("file", nargs="?", type=Path, help="a new file, unless it is to be changed")
    kek.add_argument("--rotate", action="store_true", help="add a key to the file and use it")
    kek.add_argument("--forget", metavar="ID", help="take an old key out of the file")
    kek.add_argument(
        "--in-token",
        action="store_true",
        help="make the key in the PKCS#11 token, under the label in FRAUD_KEYS_PKCS11_KEY",
    )
    kek.set_defaults(run=_kek, parser=kek)


def _kek(asked: argparse.Namespace) -> int:
    if asked.in_token == bool(asked.file) or (asked.rotate and asked.forget):
        asked.parser.error("expected a file or --in-token, and --rotate or --forget at most")
    if asked.in_token:
        return _kek_in_token()
    if not (asked.rotate or asked.forget):
        write_new(asked.file, KeyRing.new().text())
        print(f"{asked.file}: made, with one key")
        return os.EX_OK
    ring = parse_key_ring(asked.file, read_plain(asked.file), "key-encrypting keys")
    changed = ring.rotated() if asked.rotate else ring.without(asked.forget)
    replace_file(asked.file, changed.text())
    print(f"{asked.file}: key {changed.active} of {', '.join(changed.keys)} is in use")
    return os.EX_OK


def _kek_in_token() -> int:
    from fraudstream.keys.pkcs11_token import Pkcs11KeyEncryption

    settings = KeysSettings.read()
    encryption = open_key_encryption(settings)
    if not isinstance(encryption, Pkcs11KeyEncryption):
        raise InvalidSettings("--in-token: expected FRAUD_KEYS_PKCS11_MODULE to name its library")
    encryption.make_key(settings.pkcs11_key)
    print(f"token {settings.pkcs11_token}: key {settings.pkcs11_key} is made")
    return os.EX_OK


def _wrap(asked: argparse.Namespace) -> int:
    encryption = _encryption()
    for path in asked.files:
        text = read_plain(path)
        if text.startswith(WRAPPED):
            raise InvalidSettings(f"{path} is wrapped already; `rewrap` changes its key")
        replace_file(path, wrap(text, asked.purpose, path.name, encryption).text())
        print(f"{path}: wrapped for {asked.purpose}")
    return os.EX_OK


def _rewrap(asked: argparse.Namespace) -> int:
    encryption = _encryption()
    former = open_kek_file(asked.former_kek_file) if asked.former_kek_file else encryption
    for path in asked.files:
        file = parse(path, read_plain(path))
        fresh = rewrap(path, file, former, encryption)
        replace_file(path, fresh.text())
        print(f"{path}: from key {file.kek} to {fresh.kek}")
    return os.EX_OK


def _show(asked: argparse.Namespace) -> int:
    for path in asked.files:
        text = read_plain(path)
        shown: dict[str, object] = {"file": str(path), "is_wrapped": text.startswith(WRAPPED)}
        if text.startswith(WRAPPED):
            shown |= parse(path, text).model_dump(include={"purpose", "name", "kek"})
        print(json.dumps(shown))
    return os.EX_OK


def _encryption() -> KeyEncryption:
    encryption = open_key_encryption(KeysSettings.read())
    if encryption is None:
        raise InvalidSettings(
            "expected FRAUD_KEYS_KEK_FILE or FRAUD_KEYS_PKCS11_MODULE to name a key-encrypting key"
        )
    return encryption
