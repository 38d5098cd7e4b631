"""Looks whether an address can be listened on, before anything else begins."""

from __future__ import annotations

import errno
import socket

from fraudstream.errors import InvalidSettings


def check_free(host: str, port: int, variable: str) -> None:
    """Return if this process may listen on an address.

    Args:
        host: Address of this machine.
        port: TCP port.
        variable: Setting that names the port.

    Raises:
        InvalidSettings: Another process listens there, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            # As servers do: a connection of before that is still closing is no listener.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as exc:
        is_taken = exc.errno == errno.EADDRINUSE
        why = "another process listens there" if is_taken else exc.strerror or str(exc)
        msg = f"cannot listen on {host}:{port}: {why}; {variable} names the port"
        raise InvalidSettings(msg) from exc
