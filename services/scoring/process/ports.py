"""Holds a port for processes that will share it."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Final

from fraudstream.errors import InvalidSettings

_HELD_ALONE: Final = socket.SO_REUSEADDR
_HELD_TOGETHER: Final = socket.SO_REUSEPORT


def reserve_port(host: str, port: int, stack: ExitStack) -> int:
    """Hold a port until the stack ends, and return it; port 0 takes any free one.

    The socket never listens, so it gets no connection, but nobody takes the port while workers
    come and go. With SO_REUSEPORT a second group of ours would share the port unasked: it is first
    bound without.

    Raises:
        InvalidSettings: Another process is there, or the host is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, kind, _, _, address = found[0]
        if port:
            with _bound(family, kind, address, _HELD_ALONE):
                pass
        held = stack.enter_context(_bound(family, kind, address, _HELD_TOGETHER))
    except OSError as exc:
        msg = f"cannot listen on {host}:{port} ({exc.strerror}); is another process there?"
        raise InvalidSettings(msg) from exc
    return int(held.getsockname()[1])


def _bound(family: int, kind: int, address: tuple[object, ...], option: int) -> socket.socket:
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
