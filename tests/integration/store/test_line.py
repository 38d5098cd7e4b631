"""The connection to the store: what is asked together is answered in order, come what may."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import hiredis
import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.store.connection import StoreLine
from harness.servers import ValkeyServer

TIMEOUT_S = 5.0


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[StoreLine]:
    """Yield a line that is closed after the test."""
    line = StoreLine(url, TIMEOUT_S)
    yield line
    await line.close()


async def test_each_caller_gets_its_own_answers(valkey: ValkeyServer) -> None:
    """A hundred ask at once, over one connection."""
    async with line_to(valkey.url) as line:
        asked = [line.ask([("ECHO", f"{n}"), ("ECHO", b"twice")]) for n in range(100)]
        answers = await asyncio.gather(*asked)

    assert answers == [[str(n).encode(), b"twice"] for n in range(100)]


async def test_refused_command_fails_its_caller_alone(valkey: ValkeyServer) -> None:
    """The server's error is raised, and the connection goes on."""
    async with line_to(valkey.url) as line:
        fine = asyncio.create_task(line.ask([("ECHO", "c")]))
        with pytest.raises(hiredis.ReplyError, match="unknown command"):
            await line.ask([("ECHO", "a"), ("NOSUCH", "b")])

        assert await fine == [b"c"]


async def test_caller_that_goes_leaves_the_others_their_answers(valkey: ValkeyServer) -> None:
    """Its answers come all the same, and nobody else takes them for its own."""
    async with line_to(valkey.url) as line:
        await line.ask([("PING",)])
        gone = asyncio.create_task(line.ask([("ECHO", "gone")]))
        stays = asyncio.create_task(line.ask([("ECHO", "stays")]))
        await asyncio.sleep(0)
        gone.cancel()

        assert await stays == [b"stays"]


async def test_lost_connection_fails_what_waits_and_is_made_anew(valkey: ValkeyServer) -> None:
    """Whether a lost command ran is unknown, so it is not sent again; the next one is sent."""
    async with line_to(valkey.url) as line, line_to(valkey.url) as other:
        (own,) = await line.ask([("CLIENT", "ID")])
        waits = asyncio.create_task(line.ask([("BLPOP", "nothing comes here", 0)]))
        await asyncio.sleep(0)
        await line_waits(other, own)
        await other.ask([("CLIENT", "KILL", "ID", own)])

        with pytest.raises(ConnectionError):
            await waits
        assert await line.ask([("ECHO", "again")]) == [b"again"]


async def line_waits(other: StoreLine, client: int) -> None:
    """Return when the server says that a client is blocked."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            (listed,) = await other.ask([("CLIENT", "LIST", "ID", client)])
            if b"cmd=blpop" in listed:
                return


async def test_password_and_database_are_told_first(mortal_valkey: ValkeyServer) -> None:
    """A store with a password lets nobody ask before it is given."""
    server = urlsplit(mortal_valkey.url).netloc
    async with line_to(f"redis://{server}/0") as line:
        await line.ask([("CONFIG", "SET", "requirepass", "secret")])

    async with line_to(f"redis://{server}/0") as line:
        with pytest.raises(hiredis.ReplyError, match="NOAUTH"):
            await line.ask([("GET", "a")])
    async with line_to(f"redis://:secret@{server}/3") as line:
        (info,) = await line.ask([("CLIENT", "INFO")])
    assert b" db=3 " in info


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of localhost that it signed itself, and its key."""
    made, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


async def test_tls_checks_the_certificate(
    valkey: ValkeyServer, certificate: tuple[Path, Path]
) -> None:
    """With the authority named the server is trusted, and without it is not."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async with tls_before(valkey, context) as port:
        url = f"rediss://localhost:{port}/0"
        async with line_to(f"{url}?ssl_ca_certs={certificate[0]}") as line:
            assert await line.ask([("ECHO", "private")]) == [b"private"]
        async with line_to(url) as line:
            with pytest.raises(ssl.SSLCertVerificationError):
                await line.ask([("ECHO", "private")])


@asynccontextmanager
async def tls_before(valkey: ValkeyServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Yield the port of a proxy that speaks TLS before a store that does not."""
    place = urlsplit(valkey.url)

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while found := await source.read(1 << 16):
            sink.write(found)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(place.hostname, place.port)
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("url", ["unix:///tmp/store", "redis://a?client_name=b"])
def test_address_that_is_not_understood_is_refused(url: str) -> None:
    """What would be ignored is named instead."""
    with pytest.raises(InvalidSettings, match="FRAUD_REDIS_URL"):
        StoreLine(url, TIMEOUT_S)
