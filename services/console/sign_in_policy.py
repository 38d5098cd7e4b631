"""What signing in demands, from the settings; handed to each request in the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class SignInPolicy:
    """What signing in demands.

    Attributes:
        needs_second_factor: Whether a code of an authenticator follows the password.
        password_days: After so many days a password is changed at the next sign-in.
        inactive_days: An account that nobody signed in to for longer is refused.
        trusted_proxies: Networks whose `X-Forwarded-For` is believed.
    """

    needs_second_factor: bool = False
    password_days: int = 90
    inactive_days: int = 90
    trusted_proxies: tuple[Network, ...] = ()
