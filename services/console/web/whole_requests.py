"""Gunicorn's worker, with threads for whole requests only.

A thread that reads a request waits for its end: eight clients that sent half a request each were
all threads, and the probes of health were not answered. Here a connection waits with the selector
until its request is in the socket's buffer, or its time is over, and costs no thread.
"""

from __future__ import annotations

import fcntl
import resource
import selectors
import socket
import struct
import sys
import termios
import time
from collections import deque
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, Final

from gunicorn import util  # type: ignore[import-untyped]  # ships no types
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # ships no types
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]  # ships no types

from services.console.django_settings import MAX_BODY_BYTES

# From the first byte to the last: a page's form is one packet.
_WHOLE_S: Final = 10.0
# A thread writes a page to a client that does not read for no longer than this.
_SEND_TIME: Final = struct.pack("ll", 10, 0)
# Nor does it wait for more than was in the buffer, whatever we and gunicorn read differently, such
# as a length with zeros in front.
_READ_TIME: Final = struct.pack("ll", 0, 50_000)
# Gunicorn's loop stands still while it waits for a refused client to hang up.
_LINGER_S: Final = 0.01
_TOO_LONG: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)
# Some cookies and what browsers say of themselves are 2 KiB.
_HEAD_BYTES: Final = 32 * 1024
_END: Final = b"\r\n\r\n"
_SEEN_BYTES: Final = _HEAD_BYTES + len(_END)
_MOST_PLACES: Final = 1_000
_LENGTH: Final = b"\r\ncontent-length:"
_CHUNKED: Final = b"\r\ntransfer-encoding"


def places_within(open_files: int) -> int:
    """Return how many connections are taken at once: files, Kafka and the database have the rest.

    A worker that may open no more files ends.

    >>> places_within(1_024), places_within(1_048_576), places_within(resource.RLIM_INFINITY)
    (512, 1000, 1000)
    """
    if open_files == resource.RLIM_INFINITY:
        return _MOST_PLACES
    return max(1, min(_MOST_PLACES, open_files // 2))


class Seen(Enum):
    """What a socket holds of a request.

    Attributes:
        PART: More has to come.
        WHOLE: All of it.
        REFUSED: Enough to refuse it: what follows is not read.
        LONG: More of a head than we read.
    """

    PART = 1
    WHOLE = 2
    REFUSED = 3
    LONG = 4


class Begun:
    """A request that has begun to come. Its head is read once: after that, bytes are counted.

    Attributes:
        found_bytes: How many were there at the last look.
        needed_bytes: How many head and body are together; 0 before the head is there.
        whole_by_s: When a connection that waits for more is closed, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.found_bytes = 0
        self.needed_bytes = 0
        self.whole_by_s: float | None = None

    def look_at(self, seen: bytes) -> Seen:
        r"""Return what the first bytes hold of a request.

        >>> head = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n"
        >>> Begun().look_at(head[:-1]), Begun().look_at(head), Begun().look_at(head + b"abc")
        (<Seen.PART: 1>, <Seen.PART: 1>, <Seen.WHOLE: 2>)
        >>> Begun().look_at(head.replace(b"3", b"99999")), Begun().look_at(b"a" * 33_000)
        (<Seen.REFUSED: 3>, <Seen.LONG: 4>)
        """
        # What was searched is not searched again, but for an end that came in two.
        searched = max(0, self.found_bytes - len(_END) + 1)
        self.found_bytes = len(seen)
        end = seen.find(_END, searched, _SEEN_BYTES)
        if end < 0:
            return Seen.PART if len(seen) < _SEEN_BYTES else Seen.LONG
        head = seen[:end].lower()
        length = _told_length(head)
        if length > MAX_BODY_BYTES or _CHUNKED in head:
            return Seen.REFUSED
        self.needed_bytes = end + len(_END) + length
        return self.count(len(seen))

    def count(self, found_bytes: int) -> Seen:
        """Return whether as many bytes as are there are all of a request whose head was read."""
        self.found_bytes = found_bytes
        return Seen.WHOLE if found_bytes >= self.needed_bytes else Seen.PART


def _told_length(head: bytes) -> int:
    """Return the length that a head in small letters tells of its body; 0 where it tells none."""
    told = head.partition(_LENGTH)[2].partition(b"\r\n")[0].strip(b" \t")
    return int(told) if told.isdigit() and len(told) < 10 else 0


class WholeRequestWorker(ThreadWorker):  # type: ignore[misc]  # its base ships no types
    """A worker whose threads never wait for a client to go on sending."""

    pending_conns: deque[Any]
    nr_conns: int

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread when its request is there (called by gunicorn)."""
        begun: Begun = vars(conn).setdefault("begun", Begun())
        before_bytes = begun.found_bytes
        state = _look(conn.sock, begun)
        if state is Seen.PART:
            self._wait(conn, begun, has_more=begun.found_bytes > before_bytes)
            return
        if state is Seen.LONG:
            self._refuse_long(conn)
            return
        del conn.begun
        conn.close = partial(_close, conn)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIME)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _READ_TIME)
        super().enqueue_req(conn)

    def murder_pending(self) -> None:
        """Close what did not become whole in time (called by gunicorn)."""
        waiting: list[Any] = sorted(self.pending_conns, key=lambda conn: conn.timeout)
        self.pending_conns = deque(waiting)
        super().murder_pending()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Refuse what is no request (called by gunicorn), and repeat nothing of it."""
        del req  # its address is the sender's words
        if not isinstance(exc, ParseException):
            super().handle_error(None, client, addr, exc)
            return
        self.log.warning("refused what is no request: %s", type(exc).__name__)
        util.write_error(client, 400, "Bad Request", "")

    def _wait(self, conn: Any, begun: Begun, *, has_more: bool) -> None:
        """Wait for what is lacking; nothing more at a second look is a client's end."""
        if begun.whole_by_s is None:
            begun.whole_by_s = time.monotonic() + _WHOLE_S
        elif not has_more:
            self.nr_conns -= 1
            util.close(conn.sock)
            return
        conn.timeout = begun.whole_by_s
        conn.sock.setblocking(False)
        awaited_bytes = max(begun.found_bytes + 1, begun.needed_bytes)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, awaited_bytes)
        self.pending_conns.append(conn)
        ready = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, ready)

    def _refuse_long(self, conn: Any) -> None:
        """Refuse a head beyond its bound here: no thread reads it, and nobody waits."""
        self.nr_conns -= 1
        conn.sock.setblocking(False)
        with suppress(OSError):
            conn.sock.send(_TOO_LONG)
            # Bytes that nobody took would have the answer lost.
            conn.sock.recv(_HEAD_BYTES + MAX_BODY_BYTES)
        util.close(conn.sock)


def _look(sock: socket.socket, begun: Begun) -> Seen:
    """Look at what a client has sent; one that sends no more goes to a thread at once."""
    if begun.needed_bytes:
        return begun.count(_waiting_bytes(sock))
    try:
        seen = sock.recv(_SEEN_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return Seen.PART
    except OSError:
        return Seen.WHOLE
    if not seen:
        return Seen.WHOLE
    state = begun.look_at(seen)
    # More of the body may be there than was looked at.
    return begun.count(_waiting_bytes(sock)) if begun.needed_bytes else state


def _waiting_bytes(sock: socket.socket) -> int:
    """Return how many bytes a socket holds, without taking them or copying any."""
    answer: bytes = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def _close(conn: Any, graceful: bool = False) -> None:
    """Close a connection; wait for its client only where the answer would be lost otherwise."""
    if graceful and _has_more(conn.sock):
        util.close_graceful(conn.sock, _LINGER_S)
    else:
        util.close(conn.sock)


def _has_more(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
