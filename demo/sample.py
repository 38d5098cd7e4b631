"""Sample transactions: JSON files whose marked fields are filled when they are sent.

A field may hold one of these words instead of a value, so that no card number stands in a file
and a sample can be sent again and again:

    @card    a card number made from a range that Visa publishes for tests
    @fresh   an id that was never used
    @now     the time, epoch milliseconds
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings
from fraudstream.transaction_json import decode_json
from fraudstream.v1.transaction_pb2 import Transaction
from training.messages import pan_of

# Card numbers beyond those of the simulated population.
_SAMPLE_CARD: Final = 9_000_000


def fill_sample(text: str, now_ms: int) -> bytes:
    """Return a sample as the bytes to send, its marked fields filled.

    What is not a JSON object is returned as it is: bad samples are sent too.

    >>> fill_sample('{"event_time_ms": "@now"}', 5)
    b'{"event_time_ms": 5}'
    """
    fillings: dict[str, Callable[[], str | int]] = {
        "@card": lambda: pan_of(_SAMPLE_CARD),
        "@fresh": lambda: f"sample-{secrets.token_hex(6)}",
        "@now": lambda: now_ms,
    }
    filled = text
    for word, fill in fillings.items():
        filled = filled.replace(json.dumps(word), json.dumps(fill()))
    return filled.encode()


def sample_transaction(path: str) -> Transaction:
    """Return a sample as it is sent now.

    Raises:
        InvalidSettings: It cannot be read.
        InvalidTransaction: It is no transaction.
    """
    return decode_json(read_sample(Path(path), time.time_ns() // 1_000_000))


def read_sample(path: Path, now_ms: int) -> bytes:
    """Read and fill a sample file.

    Raises:
        InvalidSettings: It cannot be read.
    """
    try:
        return fill_sample(path.read_text(), now_ms)
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSettings(f"cannot read the sample {path}: {type(exc).__name__}") from exc
