"""The table of bad samples: records as they are sent, and how each is corrected.

A row of `tests/material/bad_samples.json` changes `samples/approve.json` by `set` and `remove`, or
gives the whole value by `text`, `hex` or, where no file can hold it, the name of a `value` made
here. Marked texts are filled at run time, so that no card number stands in a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from demo.sample import fill_sample
from fraudstream.transaction.formats import CONTENT_TYPE, JSON, PROTOBUF
from fraudstream.transaction.json_form import decode_json
from fraudstream.transaction.validate import MAX_HEADERS, MAX_VALUE_BYTES
from fraudstream.v1.transaction_pb2 import Transaction
from harness.processes import PROJECT_FOLDER
from training.simulator.messages import pan_of

SAMPLES: Final = PROJECT_FOLDER / "samples"
_TABLE: Final = Path(__file__).with_name("bad_samples.json")
_CARD: Final = 10_000
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class BadSample:
    """One bad record.

    Attributes:
        name: What is wrong with it.
        reason: Expected code.
        value: As it is sent.
        headers: As they are sent.
        correction: Arguments of `dlq replay` that correct it; empty where the whole body is needed.
        card: Number that corrects it; never an argument. Empty where none is needed.
    """

    name: str
    reason: str
    value: bytes | None
    headers: list[tuple[str, bytes]]
    correction: list[str]
    card: str


def good_sample(now_ms: int) -> bytes:
    """Return `samples/approve.json`, filled."""
    return fill_sample((SAMPLES / "approve.json").read_text(), now_ms)


def bad_samples(now_ms: int) -> list[BadSample]:
    """Return every bad sample, filled; each has an id of its own where it has one."""
    rows = json.loads(_TABLE.read_text())
    return [_sample_of(row, now_ms) for row in rows]


def _sample_of(row: dict[str, Any], now_ms: int) -> BadSample:
    headers = [(name, text.encode()) for name, text in row.get("headers", {}).items()]
    if row.get("value") == "many headers":
        headers = [(f"h{number}", b"") for number in range(MAX_HEADERS + 1)]
    value = _value_of(row, now_ms)
    if row.get("encoding") == "protobuf":
        assert value is not None
        headers.append((CONTENT_TYPE, PROTOBUF))
        value = _protobuf_of(value)
    elif CONTENT_TYPE not in dict(headers):
        headers.append((CONTENT_TYPE, JSON))
    correction, card = _correction_of(row["correction"], now_ms)
    return BadSample(row["name"], row["reason"], value, headers, correction, card)


def _value_of(row: dict[str, Any], now_ms: int) -> bytes | None:
    if "text" in row:
        return str(row["text"]).encode()
    if "hex" in row:
        return bytes.fromhex(row["hex"])
    if row.get("value") == "null":
        return None
    if row.get("value", "many headers") != "many headers":
        return _MADE[row["value"]](good_sample(now_ms))
    fields = json.loads((SAMPLES / "approve.json").read_text())
    fields = {
        name: content for name, content in fields.items() if name not in row.get("remove", ())
    }
    return _fill(json.dumps({**fields, **row.get("set", {})}), now_ms)


_SCHEMA_ID: Final = b"\0\0\0\0\x07"
_MADE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "large": lambda good: good[:-2] + b" " * (MAX_VALUE_BYTES + 1 - len(good)) + good[-2:],
    "deep": lambda _good: b"[" * 20_000,
    "long number": lambda _good: b'{"amount_minor": ' + b"1" * 5_000 + b"}",
    "byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "registry JSON": lambda good: _SCHEMA_ID + good,
    "registry protobuf": lambda good: _SCHEMA_ID + b"\0" + decode_json(good).SerializeToString(),
    "connect": lambda good: b'{"schema": {"type": "struct"}, "payload": %s}' % good,
    "debezium": lambda good: b'{"before": null, "after": %s, "op": "c"}' % good,
    "truncated protobuf": lambda good: decode_json(good).SerializeToString()[:-3],
}


def _fill(text: str, now_ms: int) -> bytes:
    """Fill the marks that only bad samples have, then those of all samples."""
    pan = pan_of(_CARD)
    grouped = " ".join(pan[start : start + 4] for start in range(0, len(pan), 4))
    marks = {
        "@card_grouped": grouped,
        "@card_digits": pan,
        "@card_wide": json.dumps("".join(chr(ord(digit) + 0xFEE0) for digit in pan))[1:-1],
        "@card_wrong": pan[:-1] + str((int(pan[-1]) + 1) % 10),
        "@track2": f";{pan}=30121010000000000000?",
        '"@in_an_hour"': str(now_ms + _HOUR_MS),
    }
    for mark, filling in marks.items():
        text = text.replace(mark, filling)
    raw = text.replace('"@raw ', "\0")
    while "\0" in raw:
        before, _, after = raw.partition("\0")
        number, _, rest = after.partition('"')
        raw = before + number + rest
    return fill_sample(raw, now_ms)


def _protobuf_of(value: bytes) -> bytes:
    """Encode in protobuf, with the numbers of enums that JSON has no name for."""
    fields = json.loads(value)
    numbers = {name: fields.pop(name) for name in ("channel",) if type(fields[name]) is int}
    transaction: Transaction = decode_json(json.dumps(fields).encode())
    for name, number in numbers.items():
        setattr(transaction, name, number)
    return transaction.SerializeToString()


def _correction_of(correction: str | dict[str, Any], now_ms: int) -> tuple[list[str], str]:
    if isinstance(correction, str):
        return [], ""
    filled = json.loads(_fill(json.dumps(correction.get("set", {})), now_ms))
    changes = [
        f"--set={name}={json.dumps(content)}" for name, content in filled.items() if name != "pan"
    ]
    changes += [f"--remove={name}" for name in correction.get("remove", ())]
    return changes or ["--set=kind=purchase"], str(filled.get("pan", ""))
