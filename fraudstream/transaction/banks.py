"""Banks that a caller or a feed stands for: some by name, or all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final

from pydantic import Field

from fraudstream.transaction.limits import BANK

ALL_BANKS: Final = "*"
"""In the place of names: every bank."""

BankId = Annotated[str, Field(pattern=rf"^({BANK.pattern}|\*)$")]
"""A bank id as in a transaction, or `ALL_BANKS`."""

Banks = Annotated[tuple[BankId, ...], Field(min_length=1, max_length=100)]
"""The banks that somebody stands for."""


def stands_for(banks: Collection[str], bank_id: str) -> bool:
    """Return whether a bank is one of those that somebody stands for.

    >>> stands_for(("north", "south"), "north"), stands_for((ALL_BANKS,), "west")
    (True, True)
    >>> stands_for(("north",), "north-2")
    False
    """
    return bank_id in banks or ALL_BANKS in banks


def is_clear(banks: Collection[str]) -> bool:
    """Return whether it is either all banks or some by name: both together say two things.

    >>> is_clear((ALL_BANKS,)), is_clear((ALL_BANKS, "north"))
    (True, False)
    """
    return ALL_BANKS not in banks or len(banks) == 1
