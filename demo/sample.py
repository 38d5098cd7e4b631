"""Sample transactions: JSON files whose marked fields are filled when they are sent.

A field may hold one of these words instead of a value, so that no card number stands in a file
and a sample can be sent again and again:

    @card      a card of the samples' holders, by a range of numbers that is published for tests
    @customer  the id of its holder
    @device    a device that was never used
    @fresh     an id that was never used
    @now       the time, epoch milliseconds
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Final

from demo.holder import FIRST_HOLDER, HOLDERS
from fraudstream.errors import InvalidSettings, MissingFile
from fraudstream.runtime.clock import epoch_ms
from fraudstream.transaction.json_form import decode_json
from fraudstream.v1.transaction_pb2 import Transaction
from harness.processes import PROJECT_FOLDER
from training.simulator.messages import customer_of, pan_of

# The last digit of a card's number says its bank; these belong to the samples' one.
_DIGITS_OF_BANK: Final = 7
# A lap of all holders takes over a minute, and no two samples are sent by hand within a turn.
_TURN_MS: Final = 200


def fill_sample(text: str, now_ms: int, card: int = FIRST_HOLDER) -> bytes:
    """Return a sample as the bytes to send, its marked fields filled, with a card by its number.

    What is not a JSON object is returned as it is: bad samples are sent too.

    >>> fill_sample('{"event_time_ms": "@now"}', 5)
    b'{"event_time_ms": 5}'
    """
    fillings: dict[str, str | int] = {
        "@card": pan_of(card),
        "@customer": customer_of(card),
        "@device": f"device-{secrets.token_hex(6)}",
        "@fresh": f"sample-{secrets.token_hex(6)}",
        "@now": now_ms,
    }
    filled = text
    for word, content in fillings.items():
        filled = filled.replace(json.dumps(word), json.dumps(content))
    return filled.encode()


def holder_in_turn(now_ms: int) -> int:
    """Return the holder whose turn it is: a card that pays twice within a minute looks stolen.

    >>> holder_in_turn(0), holder_in_turn(200), holder_in_turn(1_400)
    (10000, 10001, 10010)
    """
    ten, digit = divmod(now_ms // _TURN_MS, _DIGITS_OF_BANK)
    return FIRST_HOLDER + 10 * (ten % (HOLDERS // 10)) + digit


def sample_transaction(path: str) -> Transaction:
    """Return a sample as it is sent now.

    Raises:
        InvalidSettings: It cannot be read.
        InvalidTransaction: It is no transaction.
    """
    return decode_json(read_sample(Path(path), epoch_ms()))


def read_sample(path: Path, now_ms: int) -> bytes:
    """Read and fill a sample file; `samples/` is also looked for where the demo is installed.

    Raises:
        MissingFile: It cannot be read.
        InvalidSettings: It is no text.
    """
    try:
        found = path if path.exists() else PROJECT_FOLDER / path
        return fill_sample(found.read_text(), now_ms, holder_in_turn(now_ms))
    except FileNotFoundError as exc:
        raise MissingFile(f"there is no file {path}") from exc
    except OSError as exc:
        raise MissingFile(f"cannot read the sample {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidSettings(f"the sample {path} is not UTF-8 text") from exc
