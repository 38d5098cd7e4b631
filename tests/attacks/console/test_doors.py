"""The console under clients that do not end what they begin: its health is still told."""

from __future__ import annotations

import http.client
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from harness.servers import Broker
from tests.browser.console_server import ConsoleServer

pytestmark = pytest.mark.attack

MANY = 60
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def console(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleServer]:
    """A console of its own."""
    environment = broker.environment() | {"FRAUD_KAFKA_TOPIC_PREFIX": "console-doors-"}
    server = ConsoleServer(
        environment["FRAUD_KAFKA_BOOTSTRAP"], environment, tmp_path_factory.mktemp("console")
    )
    server.create_topics()
    server.process.start(90.0)
    yield server
    server.process.stop()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\nusername=",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 70000\r\n\r\nusername=",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nuse",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Note: %b\r\n" % (b"a" * 8_000) * 5,
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\n%bContent-Length: 0000000050\r\n\r\n" % FORM,
    ],
    ids=["silent", "head", "body", "large", "chunked", "not_hung_up", "long_head", "zeros"],
)
def test_g2_requests_that_do_not_end_hold_no_thread(console: ConsoleServer, begun: bytes) -> None:
    """60 of them at once, and a probe with the patience of a kubelet is answered."""
    with ExitStack() as stack:
        for _ in range(MANY):
            attacker = stack.enter_context(socket.create_connection(("127.0.0.1", console.port)))
            attacker.sendall(begun)

        assert is_alive(console)


def test_g2_a_request_behind_another_holds_no_thread(console: ConsoleServer) -> None:
    """Gunicorn has its first half in a buffer of its own, where we do not see it."""
    begun = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n" + FORM
    with ExitStack() as stack:
        attackers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", console.port), 10))
            for _ in range(MANY)
        ]
        for attacker in attackers:
            attacker.sendall(LIVE + begun)
        for attacker in attackers:
            assert attacker.recv(4_096).startswith(b"HTTP/1.1 200")
            with suppress(OSError):  # it may have hung up
                attacker.sendall(b"X-Note: a\r\n\r\n")

        assert is_alive(console)


def test_g2_answers_that_nobody_reads_hold_no_thread(console: ConsoleServer) -> None:
    """The largest that a stranger gets, several times, into as little room as there is."""
    asked = b"GET /static/console/console.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(MANY):
            attacker = stack.enter_context(socket.socket())
            attacker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            attacker.connect(("127.0.0.1", console.port))
            with suppress(OSError):  # it may have hung up
                attacker.sendall(asked * 20)

        assert is_alive(console)


def test_g2_more_connections_than_files_end_no_worker(console: ConsoleServer) -> None:
    """Those beyond its places wait outside; the others go on."""
    console.process.stop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        console.process.start(90.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as stack:
        attackers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", console.port), 30))
            for _ in range(300)
        ]
        with suppress(OSError):  # or a worker's end
            assert attackers[0].recv(1) == b""  # its time is over

    assert is_alive(console)
    assert "exited with code" not in console.process.log_text()


def is_alive(console: ConsoleServer) -> bool:
    """Ask for its health, with the patience of a kubelet."""
    probe = http.client.HTTPConnection("127.0.0.1", console.port, timeout=5)
    probe.request("GET", "/livez")
    return probe.getresponse().status == 200
