"""Slots that callers share: all of them are bounded, and each gets a part."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fraudstream.errors import Overloaded
from services.scoring.rpc.open_calls import OpenCall, Slots


class FakeContext:
    """gRPC's side of a call from an address."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        """Return where it comes from, as gRPC names it."""
        return self._peer


def caller_at(peer: str) -> str:
    """Return whom a call without a callers file is counted for."""

    async def caller() -> str:
        context: Any = FakeContext(peer)
        return OpenCall(context, "/a/B", None).caller

    return asyncio.run(caller())


def test_addresses_of_one_network_are_one_caller() -> None:
    """Where callers have no names: of IPv6 anybody has 2^64 addresses."""
    peers = [f"ipv6:%5B2001:db8::{number}%5D:40{number}" for number in range(1, 4)]

    assert {caller_at(peer) for peer in peers} == {"2001:db8::/64"}
    assert caller_at("ipv4:198.51.100.7:4001") == caller_at("ipv4:198.51.100.7:4002")
    assert caller_at("ipv4:198.51.100.7:4001") != caller_at("ipv4:198.51.100.8:4001")


def test_one_caller_gets_its_part_and_others_the_rest() -> None:
    """Who has filled its own part is refused, and another is not."""
    slots = Slots("calls", 4, 2)
    slots.take("a", 2)

    with pytest.raises(Overloaded, match="of this caller"):
        slots.take("a")
    slots.take("b", 2)


def test_all_callers_together_are_bounded() -> None:
    """Nobody gets what is not there."""
    slots = Slots("calls", 3, 2)
    slots.take("a", 2)
    slots.take("b")

    with pytest.raises(Overloaded, match="3 calls are in flight"):
        slots.take("c")


def test_what_is_given_back_can_be_taken_again() -> None:
    """By the same caller and by another."""
    slots = Slots("calls", 2, 2)
    slots.take("a", 2)

    slots.give_back("a", 2)

    slots.take("b", 2)


def test_refused_take_takes_nothing() -> None:
    """A caller that asks for too much loses nothing of what is left."""
    slots = Slots("calls", 4, 4)
    with pytest.raises(Overloaded):
        slots.take("a", 5)

    slots.take("a", 4)
