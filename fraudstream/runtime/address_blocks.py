"""Whom a network address stands for where callers are counted.

An IPv6 customer has a /64 at least: 2^64 addresses, each of which would be a new caller. An address
that is told of (in a log, in an audit trail) stays whole.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

_BLOCK_BITS: Final = 64
_HOST_BITS: Final = 128 - _BLOCK_BITS


def plain_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address without its zone, and an IPv4 one that an IPv6 socket shows as itself.

    >>> plain_address("::ffff:198.51.100.7"), plain_address("fe80::1%eth0")
    (IPv4Address('198.51.100.7'), IPv6Address('fe80::1'))
    >>> plain_address("unix:") is None
    True
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def block_of(text: str) -> str:
    """Return what an address is counted as: itself, or its /64 of IPv6.

    >>> block_of("198.51.100.7"), block_of("::ffff:198.51.100.7")
    ('198.51.100.7', '198.51.100.7')
    >>> block_of("2001:db8::1"), block_of("2001:db8:0:0:ffff::9")
    ('2001:db8::/64', '2001:db8::/64')
    """
    address = plain_address(text)
    if address is None:
        return text
    if isinstance(address, IPv4Address):
        return str(address)
    return f"{IPv6Address(int(address) >> _HOST_BITS << _HOST_BITS)}/{_BLOCK_BITS}"


@lru_cache(maxsize=1_024)
def block_of_peer(peer: str) -> str:
    """Return what a peer of gRPC is counted as; its port says nothing.

    Args:
        peer: As gRPC names it, without its port.

    >>> block_of_peer("ipv4:198.51.100.7"), block_of_peer("ipv6:%5B2001:db8::1%5D")
    ('198.51.100.7', '2001:db8::/64')
    """
    return block_of(unquote(peer.partition(":")[2]).strip("[]"))
