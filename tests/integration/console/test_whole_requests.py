"""What the console's web server looks at while a request comes, over a real connection."""

from __future__ import annotations

import selectors
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any, Final

import pytest

from services.console.web.whole_requests import Begun, Seen, WholeRequestWorker, places_within

HEAD: Final = (
    b"POST /login HTTP/1.1\r\nContent-Length: 1000" + b"\r\ncontent-length:  " * 1_500 + b"\r\n\r\n"
)


class CountingSocket(socket.socket):
    """A socket that counts what is read of it, looked at or taken."""

    read_bytes = 0

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Read, and count."""
        found = super().recv(bufsize, flags)
        self.read_bytes += len(found)
        return found


class Door:
    """A worker's loop without its threads, and a client at the other end."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            taken, _ = listener.accept()
        self.sock = CountingSocket(fileno=taken.detach())
        self.worker: Any = WholeRequestWorker.__new__(WholeRequestWorker)
        self.worker.poller = selectors.DefaultSelector()
        self.worker.pending_conns = deque()
        self.worker.nr_conns = 1
        self.worker.enqueue_req(SimpleNamespace(sock=self.sock))

    def send(self, sent: bytes) -> int:
        """Send, and let the loop look for as long as something is new; return its looks."""
        self.client.sendall(sent)
        return self.look()

    def look(self) -> int:
        """Let the loop look for as long as something is new; return its looks."""
        looks = 0
        while self.worker.nr_conns and (ready := self.worker.poller.select(0.05)):
            for key, _ in ready:
                key.data(key.fileobj)
                looks += 1
        return looks

    def close(self) -> None:
        """Close both ends."""
        self.worker.poller.close()
        self.client.close()
        self.sock.close()


@pytest.fixture
def door() -> Iterator[Door]:
    with closing(Door()) as made:
        yield made


def test_a_head_is_read_once_however_many_bytes_follow(door: Door) -> None:
    """A body that comes byte by byte wakes nobody before it is whole."""
    door.send(HEAD)
    read_bytes = door.sock.read_bytes

    looks = sum(door.send(b"a") for _ in range(20))

    assert looks == 0
    assert door.sock.read_bytes == read_bytes
    assert door.worker.nr_conns == 1


def test_a_whole_head_beyond_its_bound_is_refused(door: Door) -> None:
    """33 KiB in fields that gunicorn would take, and no thread reads them."""
    door.send(
        b"GET / HTTP/1.1" + b"\r\nX-Note: %b" % (b"a" * 8_000) * 4 + b"b" * 2_000 + b"\r\n\r\n"
    )

    assert door.client.recv(4_096).startswith(b"HTTP/1.1 431 ")
    assert door.client.recv(4_096) == b""
    assert door.worker.nr_conns == 0


def test_a_client_that_ends_in_its_body_is_closed(door: Door) -> None:
    """Its end is no byte more."""
    door.send(HEAD + b"a")
    door.client.shutdown(socket.SHUT_WR)
    door.look()

    assert door.worker.nr_conns == 0


@pytest.mark.parametrize("cut", range(1, 4))
def test_the_end_of_a_head_may_come_in_two(cut: int) -> None:
    """What was searched is searched no more, but for the beginning of an end."""
    begun = Begun()
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    assert begun.look_at(head[:-cut]) is Seen.PART
    assert begun.look_at(head) is Seen.WHOLE


def test_connections_leave_files_to_others() -> None:
    """Half of the files that may be open are for Kafka, the database and pages."""
    assert places_within(1_024) == 512
