"""Where a request comes from, behind the proxies that are trusted."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest

from fraudstream.runtime.address_blocks import plain_address
from services.console.runtime import runtime_of
from services.console.sign_in_policy import Network

# No proxy chain is longer; what is longer is made up.
_MAX_HOPS = 16


def origin_of(request: HttpRequest) -> str:
    """Return the address that a request comes from."""
    return believed_origin(
        request.META.get("REMOTE_ADDR", ""),
        request.headers.get("X-Forwarded-For", ""),
        runtime_of(request).policy.trusted_proxies,
    )


def believed_origin(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """Return the last address that no trusted proxy has.

    Each proxy appends whom it was called by, so the header is read from its end, for as long as
    the one who wrote is trusted. What a browser put at its beginning is never believed.

    Args:
        peer: Address at the other end of the connection.
        forwarded: Content of `X-Forwarded-For`.
        trusted: Networks of the proxies.

    >>> from ipaddress import ip_network
    >>> inside = [ip_network("10.0.0.0/8")]
    >>> believed_origin("10.0.0.1", "203.0.113.9, 198.51.100.7", inside)
    '198.51.100.7'
    >>> believed_origin("198.51.100.7", "203.0.113.9", inside)
    '198.51.100.7'
    >>> believed_origin("::ffff:10.0.0.1", "2001:db8::7", inside)
    '2001:db8::7'
    """
    origin = _told(peer) or peer
    for hop in reversed(forwarded.split(",")[-_MAX_HOPS:]):
        told = _told(hop.strip())
        if not told or not _is_in(origin, trusted):
            break
        origin = told
    return origin


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    address = plain_address(text)
    return address is not None and any(address in network for network in networks)


def _told(text: str) -> str:
    """Return an address in its one spelling; empty where a text is none."""
    address = plain_address(text)
    return "" if address is None else str(address)
