"""What single fields of a transaction can hold: for its check, the bounds behind it, its schema."""

from __future__ import annotations

import re
from typing import Final

from fraudstream.names import MAX_NAME
from fraudstream.v1.transaction_pb2 import Channel, EntryMode, TransactionKind

BANK: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
TRANSACTION_ID: Final = re.compile(rf"[!-~]([ -~]{{0,{MAX_NAME - 2}}}[!-~])?")
MCC: Final = re.compile(r"[0-9]{4}")
PAN: Final = re.compile(r"[1-9][0-9]{11,18}")
PAN_KEY_ID: Final = re.compile(r"[0-9a-f]{16}")

KINDS: Final = frozenset(TransactionKind.values()) - {0}
CHANNELS: Final = frozenset(Channel.values()) - {0}
ENTRY_MODES: Final = frozenset(EntryMode.values())
VERIFICATION: Final = TransactionKind.TRANSACTION_KIND_VERIFICATION
"""The one kind that may be of no amount."""

# 2000-01-01 and 2100-01-01: seconds lie below, microseconds above.
TIMES_MS: Final = range(946_684_800_000, 4_102_444_800_000)
# UTC-12 to UTC+14, the clocks in use.
UTC_OFFSETS_MINUTES: Final = range(-720, 841)

LATITUDE: Final = 90
"""Degrees from the equator to a pole."""

LONGITUDE: Final = 180
"""Degrees of half a turn."""
