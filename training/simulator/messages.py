"""Simulated rows as the messages that banks send, with card numbers made at run time.

Numbers come from ranges that the card schemes publish for tests, completed by their Luhn digit;
none is written down anywhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.transaction import indicative_rates
from fraudstream.transaction.iso_codes import CURRENCY_EXPONENTS
from fraudstream.v1 import transaction_pb2 as pb
from training.simulator import devices
from training.simulator.world import REGIONS, draw

# Leading digits of published test numbers (Visa, Mastercard), and the length of the whole number.
_TEST_RANGES: Final = (("41111111", 16), ("40000000", 16), ("55555555", 16), ("22230000", 16))
BANKS: Final = ("bank-north", "bank-south", "bank-west")
_BANK_OF_DIGIT: Final = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 2])  # seven, two and one in ten
_PLACE: Final = 12
_QUOTES: Final = next(iter(indicative_rates.RATES.values()))  # units for one of the reference


def luhn_digit(digits: str) -> str:
    """Return the check digit that completes a card number (ISO/IEC 7812-1, annex B).

    >>> luhn_digit("7992739871")
    '3'
    """
    total = 0
    for index, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 - index % 2)
        total += doubled // 10 + doubled % 10
    return str(-total % 10)


def pan_of(card: int) -> str:
    """Return the test PAN of a card number; two cards never share one."""
    prefix, length = _TEST_RANGES[card % len(_TEST_RANGES)]
    body_digits = length - len(prefix) - 1
    body = str(card // len(_TEST_RANGES)).zfill(body_digits)
    digits = prefix + body[-body_digits:]
    return digits + luhn_digit(digits)


def bank_numbers(card: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index into `BANKS` of the bank that issued each card."""
    return np.asarray(_BANK_OF_DIGIT[card % 10])


def customer_of(card: int) -> str:
    """Return the id of a card's holder."""
    return f"customer-{card:06d}"


def merchant_of(merchant: int) -> str:
    """Return the id of a merchant."""
    return f"merchant-{merchant:05d}"


def terminal_of(terminal: int) -> str:
    """Return the id of a terminal."""
    return f"terminal-{terminal:06d}"


def local_amount(reference_minor: int, currency: str) -> int:
    """Return an amount of the reference currency in minor units of a local one, at least 1."""
    if reference_minor == 0:
        return 0
    units = reference_minor / 100 * float(_QUOTES.get(currency, 1))
    minor_per_unit: int = 10 ** CURRENCY_EXPONENTS[currency]
    return max(1, round(units * minor_per_unit))


def transaction_of(row: np.void, run: int, number: int) -> pb.Transaction:
    """Return the message of one simulated row: run and number make its id."""
    card, region = int(row["card"]), REGIONS[int(row["region"])]
    message = pb.Transaction(
        bank_id=BANKS[_BANK_OF_DIGIT[card % 10]],
        # A letter before the dash: digits alone would be a card number once in ten ids.
        transaction_id=f"{run & 0xFFFFFFFFFF:x}a-{number:07d}",
        pan=pan_of(card),
        kind=pb.TransactionKind.Name(int(row["kind"])),
        customer_id=customer_of(card),
        merchant_id=merchant_of(int(row["merchant"])),
        terminal_id=terminal_of(int(row["terminal"])),
        mcc=f"{int(row['mcc']):04d}",
        amount_minor=local_amount(int(row["amount_reference_minor"]), region.currency),
        currency=region.currency,
        event_time_ms=int(row["event_time_ms"]),
        utc_offset_minutes=int(row["utc_offset_minutes"]),
        channel=pb.Channel.Name(int(row["channel"])),
        entry_mode=pb.EntryMode.Name(int(row["entry_mode"])),
        country=region.country,
    )
    _add_position(message, row)
    return message


def positions_of(rows: NDArray[np.void]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return latitude and longitude of the rows' shops in degrees, NaN for remote rows."""
    jitter = draw(_PLACE, _PLACE, rows["terminal"].astype(np.int64))
    centre = np.array([(region.latitude, region.longitude) for region in REGIONS])[rows["region"]]
    positions = np.stack([centre[:, 0] + jitter - 0.5, centre[:, 1] + (jitter * 7 % 1) - 0.5])
    positions = np.where(devices.is_remote(rows), np.nan, np.round(positions, 4))
    return positions[0], positions[1]


def _add_position(message: pb.Transaction, row: np.void) -> None:
    """Add the device and its address to a remote purchase, the shop's location to a present one."""
    one = np.array([row])
    if devices.is_remote(one)[0]:
        message.device_id = devices.device_name(int(devices.device_numbers(one)[0]))
        message.ip = devices.address_name(int(devices.address_numbers(one)[0]))
        return
    latitude, longitude = positions_of(one)
    message.location.latitude = float(latitude[0])
    message.location.longitude = float(longitude[0])
