"""The gRPC doors under floods of callers with no token, and of one caller with one.

What an attacker holds open costs others nothing: they are answered, and the process stays small.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fraudstream.client import ScoringClient
from fraudstream.errors import Overloaded
from fraudstream.grpc_access import Access, ClientTls
from fraudstream.v1.scoring_pb2 import ScoreRequest
from harness.servers import Broker, ValkeyServer
from harness.service_process import ServiceProcess
from services.scoring.rpc.grants import AccessRole, Grant, Grants, new_token, token_digest
from tests.attacks.outer.raw_http2 import RawConnection, headers_of, unfinished, whole
from tests.conftest import create_topics, environment_of_test
from tests.fakes.tiny_model import tiny_artefact
from tests.servers.tls_files import TestCa
from tests.worlds.scoring_world import free_ports, open_shards, open_store, some_transaction
from tests.worlds.trust import model_settings

pytestmark = pytest.mark.attack

SCORE: Final = "/fraudstream.v1.Scoring/Score"
SCORE_BATCH: Final = "/fraudstream.v1.Scoring/ScoreBatch"
SCORE_STREAM: Final = "/fraudstream.v1.Scoring/ScoreStream"
BATCH_BYTES: Final = 4 << 20
MOST_MIB: Final = 600
STREAMS_OF_ONE: Final = 16
CALLS: Final = 50
CONNECTIONS: Final = 4
CALLERS: Final = {"attacker": "caller", "bank": "caller", "leaver": "caller", "watch": "operator"}


def grant(name: str, token: str) -> Grant:
    """Return an entry of the callers file."""
    entry: dict[str, object] = {
        "name": name,
        "role": AccessRole(CALLERS[name]),
        "until": (datetime.now(UTC) + timedelta(days=2)).date(),
        "token_sha256": token_digest(token).hex(),
    }
    if CALLERS[name] == "caller" and "banks" in Grant.model_fields:
        entry["banks"] = ["bank"]
    return Grant.model_validate(entry)


@dataclass
class Doors:
    """A scoring process behind TLS and a callers file, as it is shipped."""

    process: ServiceProcess
    port: int
    ca: Path
    tokens: dict[str, str]
    callers: Path
    sent: int = 0

    def write_callers(self, names: Sequence[str]) -> None:
        """Let these in, and nobody else."""
        fresh = self.callers.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(Grants([grant(name, self.tokens[name]) for name in names]).text())
        fresh.replace(self.callers)

    def memory_mib(self) -> int:
        """Return the most memory that the process had since the last look, MiB."""
        proc = Path(f"/proc/{self.process.pid}")
        lines = (proc / "status").read_text().splitlines()
        most = next(line for line in lines if line.startswith("VmHWM"))
        (proc / "clear_refs").write_text("5")
        return int(most.split()[1]) >> 10

    async def connect(self, count: int = CONNECTIONS) -> list[RawConnection]:
        """Return an attacker's connections."""
        return [await RawConnection.opened(self.port, self.ca) for _ in range(count)]

    async def answered(self) -> int:
        """Return how many of a bank's calls are answered, with the client that banks have."""
        access = Access(ClientTls(self.ca), self.tokens["bank"])
        async with ScoringClient(f"127.0.0.1:{self.port}", timeout_s=20, access=access) as client:
            found = 0
            for _ in range(CALLS):
                self.sent += 1
                decision = await client.score(some_transaction(self.sent, card=self.sent))
                found += decision.transaction_id == f"t-{self.sent}"
        return found

    async def says_that_it_serves(self) -> bool:
        """Ask the health service."""
        credentials = ClientTls(self.ca).credentials()
        token = (("authorization", f"Bearer {self.tokens['watch']}"),)
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=20, metadata=token)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture(scope="module")
def doors(
    broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Doors]:
    """The process of all attacks of this file: what one leaves open is the next one's as well."""
    folder = tmp_path_factory.mktemp("doors")
    environment, ports = environment_of_test(broker, valkey), free_ports()
    create_topics(environment, folder)
    tiny_artefact(folder / "model")
    ca = TestCa(folder)
    server = ca.leaf("server")
    process = ServiceProcess(
        "services.scoring",
        [],
        {
            **environment,
            **model_settings(folder / "model"),
            "FRAUD_SCORING_PORT": str(ports[0]),
            "FRAUD_SCORING_INTERNAL_PORT": str(ports[1]),
            "FRAUD_SCORING_TLS_CERT_FILE": str(server.cert),
            "FRAUD_SCORING_TLS_KEY_FILE": str(server.key),
            "FRAUD_SCORING_CALLERS_FILE": str(folder / "callers.json"),
        },
        folder / "service",
    )
    tokens = {name: new_token() for name in CALLERS}
    found = Doors(process, ports[0], ca.file, tokens, folder / "callers.json")
    found.write_callers(list(CALLERS))

    async def open_all() -> None:
        async with open_store(environment) as store:
            await open_shards(store)

    asyncio.run(open_all())
    process.start(90.0)
    yield found
    process.stop()


@pytest.fixture
async def attackers(doors: Doors) -> AsyncIterator[list[RawConnection]]:
    """The attacker's connections, closed after the test; memory is counted from here on."""
    opened = await doors.connect()
    doors.memory_mib()
    yield opened
    for connection in opened:
        connection.close()


def spread(
    attackers: Sequence[RawConnection], count: int, headers: bytes, body: bytes = b""
) -> None:
    """Begin so many calls over the connections, and end none."""
    for number in range(count):
        attackers[number % len(attackers)].begin(headers, body)


async def test_g2_half_open_calls_without_a_token_fill_nothing(
    doors: Doors, attackers: list[RawConnection]
) -> None:
    """1,000 calls that send headers alone are refused at once, and others are answered."""
    spread(attackers, 1_000, headers_of(SCORE))

    assert await doors.answered() == CALLS
    assert await doors.says_that_it_serves()
    for connection in attackers:
        await connection.until_open(0)
    assert doors.memory_mib() < MOST_MIB


@pytest.mark.parametrize("method", [SCORE, SCORE_STREAM])
async def test_g2_half_open_calls_of_one_caller_are_its_own_loss(
    doors: Doors, attackers: list[RawConnection], method: str
) -> None:
    """A caller's 400 calls and idle streams fill its part of the door and no more."""
    spread(attackers, 400, headers_of(method, doors.tokens["attacker"]))

    assert await doors.answered() == CALLS
    assert await doors.says_that_it_serves()
    for connection in attackers:
        await connection.until_open(STREAMS_OF_ONE)


async def test_g2_calls_that_end_without_a_message_hold_no_place(
    doors: Doors, attackers: list[RawConnection]
) -> None:
    """Nothing has to come any more, so such a call is over."""
    headers = headers_of(SCORE, doors.tokens["attacker"])
    for number in range(400):
        attackers[number % CONNECTIONS].begin(headers, ends=True)

    assert await doors.answered() == CALLS
    for connection in attackers:
        await connection.until_open(0)


async def test_g2_answers_that_nobody_reads_hold_no_place_of_others(doors: Doors) -> None:
    """A caller that takes no answer fills its own part."""
    deaf = [await RawConnection.opened(doors.port, doors.ca, window=0) for _ in range(CONNECTIONS)]
    request = ScoreRequest(transaction=some_transaction(10**9)).SerializeToString()
    headers = headers_of(SCORE, doors.tokens["attacker"])

    for number in range(800):
        deaf[number % CONNECTIONS].begin(headers, whole(request), ends=True)

    for connection in deaf:
        await connection.until_stands()
    assert await doors.answered() == CALLS
    for connection in deaf:
        connection.close()


@pytest.mark.parametrize("caller", ["", "attacker"])
@pytest.mark.parametrize("method", [SCORE, SCORE_BATCH])
async def test_g3_bodies_that_do_not_end_are_not_kept(
    doors: Doors, attackers: list[RawConnection], method: str, caller: str
) -> None:
    """300 messages of 4 MiB less a byte: refused without a token, with one a few are waited for."""
    token = doors.tokens[caller] if caller else ""

    spread(attackers, 300, headers_of(method, token), unfinished(BATCH_BYTES))

    for connection in attackers:
        await connection.until_stands()
    assert await doors.answered() == CALLS
    assert await doors.says_that_it_serves()
    assert doors.memory_mib() < MOST_MIB


@pytest.mark.parametrize("count", [1, 20])
async def test_g4_empty_rows_are_counted_before_they_are_parsed(
    doors: Doors, attackers: list[RawConnection], count: int
) -> None:
    """4 MiB of empty rows, 2,097,152 of them, cost their bytes."""
    rows = whole(b"\x0a\x00" * (BATCH_BYTES // 2))
    headers = headers_of(SCORE_BATCH, doors.tokens["attacker"])

    for number in range(count):
        attackers[number % CONNECTIONS].begin(headers, rows, ends=True)

    for connection in attackers:
        await connection.until_open(0)
    assert doors.memory_mib() < MOST_MIB


async def test_g5_withdrawn_token_ends_its_stream(doors: Doors) -> None:
    """What is open when a token is withdrawn is ended, though its caller goes on sending."""
    (connection,) = await doors.connect(1)
    request = whole(ScoreRequest(transaction=some_transaction(10**9 + 1)).SerializeToString())
    call = connection.begin(headers_of(SCORE_STREAM, doors.tokens["leaver"]), request)
    await connection.until(lambda: call.answer)

    doors.write_callers([name for name in CALLERS if name != "leaver"])

    await connection.until(lambda: call.is_over)
    assert call.status == grpc.StatusCode.UNAUTHENTICATED.value[0]
    connection.close()


async def test_g7_nothing_but_json_stands_in_the_log(
    doors: Doors, attackers: list[RawConnection]
) -> None:
    """What is no TLS, no HTTP/2 and no header makes no line that is not ours."""
    with socket.create_connection(("127.0.0.1", doors.port)) as plain:
        plain.sendall(b'GET /\n{"level": "INFO", "message": "forged"}\r\n\r\n')
        while plain.recv(4_096):
            pass
    attackers[0].write(b"\x00\x00\x05\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff\xff")

    await attackers[0].until(lambda: attackers[0].is_lost)
    await doors.answered()
    lines = [line for line in doors.process.log_text().splitlines() if line != "ready"]
    assert all(json.loads(line)["service"] == "scoring" for line in lines)
    assert not any("forged" in line for line in lines)


async def test_rapid_reset_leaves_the_door_open(
    doors: Doors, attackers: list[RawConnection]
) -> None:
    """20,000 calls that are begun and taken back: some of others may be dropped, none after."""
    for connection in attackers:
        connection.begin_and_take_back(headers_of(SCORE, doors.tokens["attacker"]), 5_000)

    answered = 0
    while answered < CALLS:
        with suppress(Overloaded):  # what comes in the midst of it is dropped by gRPC
            answered = await doors.answered()

    assert doors.memory_mib() < MOST_MIB
