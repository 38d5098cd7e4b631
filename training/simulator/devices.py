"""Devices and addresses of remote purchases: cardholders change them, and fraudsters hide theirs.

Pure functions of a simulated row, so that a history and live traffic agree. No device or address
tells genuine from fraud: people buy new phones and use what is at hand, carriers share addresses
among many, and a thief may take a fresh device for every purchase, or the victim's own.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.v1 import transaction_pb2 as pb
from training.simulator.world import Floats, Ints, draw

_SEED: Final = 11
_HABIT, _PHONE, _COMPUTER, _OTHER, _STYLE, _WAY, _HOME, _CARRIER, _ELSEWHERE = range(9)
_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000

# A cardholder's purchases by phone, by the computer of the household, the rest by what is at hand.
_PHONE_SHARE, _COMPUTER_SHARE = 0.6, 0.3
_PHONE_DAYS, _COMPUTER_DAYS = 350, 900  # how long one is kept
_OF_HOUSEHOLD: Final = 2  # cards that share a computer and an address at home
# Fraudsters with one device for all, and with a fresh one each time; the rest use the victim's.
_ONE_SHARE, _FRESH_SHARE = 0.4, 0.4
# A cardholder's address is the home's, or one of the carrier's, or another; a fraudster's hides
# behind carriers and strangers.
_HOME_SHARE, _CARRIER_SHARE, _FRAUD_CARRIER_SHARE = 0.55, 0.35, 0.5
_LEASE_DAYS: Final = 30
_CARRIER_ADDRESSES: Final = 4_096
_DEVICE_BITS: Final = 44
_ADDRESS_BITS: Final = 22


def is_remote(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows have a device and its address, and no place; bool [N]."""
    return ~np.isin(rows["channel"], (pb.CHANNEL_POS, pb.CHANNEL_ATM))


def device_numbers(rows: NDArray[np.void]) -> Ints:
    """Return the number of each row's device, -1 for a row without one; int64 [N]."""
    time_ms = rows["event_time_ms"].astype(np.int64)
    thief = rows["device"].astype(np.int64)
    style = _uniform(_STYLE, thief, 0)
    own = _own_devices(rows["card"].astype(np.int64), rows["merchant"].astype(np.int64), time_ms)
    fresh = _uniform(_OTHER, thief, np.where(style < _ONE_SHARE, 0, time_ms))
    is_own = (thief == 0) | (style >= _ONE_SHARE + _FRESH_SHARE)
    numbers = (np.where(is_own, own, fresh) * (1 << _DEVICE_BITS)).astype(np.int64)
    return np.where(is_remote(rows), numbers, -1)


def _own_devices(card: Ints, merchant: Ints, time_ms: Ints) -> Floats:
    """Return what stands for the cardholder's device; each shop is mostly visited from one."""
    day = time_ms // _DAY_MS
    household = card // _OF_HOUSEHOLD
    habit = _uniform(_HABIT, card, merchant)
    phone = _uniform(_PHONE, card, _turn(card, day, _PHONE_DAYS))
    computer = _uniform(_COMPUTER, household, _turn(household, day, _COMPUTER_DAYS))
    at_home = np.where(habit < _PHONE_SHARE, phone, computer)
    is_at_home = habit < _PHONE_SHARE + _COMPUTER_SHARE
    return np.where(is_at_home, at_home, _uniform(_OTHER, card, -day))


def address_numbers(rows: NDArray[np.void]) -> Ints:
    """Return the number of each row's address, -1 for a row without one; int64 [N]."""
    card, time_ms = rows["card"].astype(np.int64), rows["event_time_ms"].astype(np.int64)
    household = card // _OF_HOUSEHOLD
    way = _uniform(_WAY, card, time_ms // _HOUR_MS)
    home = _uniform(_HOME, household, _turn(household, time_ms // _DAY_MS, _LEASE_DAYS))
    lane = (_uniform(_CARRIER, card, time_ms // _HOUR_MS) * _CARRIER_ADDRESSES).astype(np.int64)
    carrier = _uniform(_CARRIER, lane, -1)
    elsewhere = _uniform(_ELSEWHERE, card, time_ms)
    is_fraud = rows["device"] != 0
    by_carrier = np.where(is_fraud, way < _FRAUD_CARRIER_SHARE, way < _HOME_SHARE + _CARRIER_SHARE)
    found = np.where(by_carrier, carrier, elsewhere)
    found = np.where(~is_fraud & (way < _HOME_SHARE), home, found)
    return np.where(is_remote(rows), (found * (1 << _ADDRESS_BITS)).astype(np.int64), -1)


def _uniform(stream: int, index: Ints, slot: Ints | int) -> Floats:
    return draw(_SEED, stream, index, np.asarray(slot, np.int64))


def _turn(owner: Ints, day: Ints, days: int) -> Ints:
    """Return which of its devices or addresses an owner has on a day; each lasts `days`."""
    begins = (_uniform(_HABIT, owner, days) * days).astype(np.int64)
    return (day + begins) // days


def device_name(number: int) -> str:
    """Return the id of a device."""
    return f"device-{number:011x}"


def address_name(number: int) -> str:
    """Return an address: 100.64.0.0/10, RFC 6598, nobody's own."""
    return f"100.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
