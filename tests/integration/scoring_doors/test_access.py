"""TLS, mutual TLS, tokens and roles at both doors, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fraudstream.errors import InvalidSettings, ModelNotLoaded
from fraudstream.grpc_access import Access, ClientTls
from fraudstream.transaction.card_token import write_token_keys
from fraudstream.v1.scoring_pb2 import ScoreRequest
from services.features.rows.scoring_client import ScoringStub
from services.scoring.rpc.certificate import DoorCertificate, ServerTls
from services.scoring.rpc.grants import AccessRole, Grant, Grants, new_token, token_digest
from tests.servers.tls_files import Leaf, TestCa
from tests.worlds.scoring_world import (
    BANK,
    ScoringWorld,
    batch_of,
    feature_rows,
    scoring_world,
    some_transaction,
)
from training.simulator.messages import pan_of

UNTIL = (datetime.now(UTC) + timedelta(days=2)).date()
SCORE = "/fraudstream.v1.Scoring/Score"
STREAM = "/fraudstream.v1.Scoring/ScoreStream"
INTERNAL_BATCH = "/fraudstream.v1.InternalScoring/ScoreBatch"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
TOKENS = {role: new_token() for role in AccessRole}


def grants() -> list[Grant]:
    """Return a grant by token for each role, and one by certificate for features."""
    found = [
        Grant(
            name=role,
            role=role,
            until=UNTIL,
            token_sha256=token_digest(token).hex(),
            banks=(BANK,) if role is AccessRole.CALLER else None,
        )
        for role, token in TOKENS.items()
    ]
    by_name = Grant(name="f", role=AccessRole.FEATURES, until=UNTIL, certificate="features.bank")
    return [*found, by_name]


def write_callers(path: Path, found: list[Grant]) -> None:
    """Write a callers file in one step, as its command does."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(Grants(found).text())
    fresh.replace(path)


def authorization(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a token."""
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def ca(tmp_path: Path) -> TestCa:
    """A CA of this test."""
    return TestCa(tmp_path)


@pytest.fixture
def server(ca: TestCa) -> Leaf:
    """The listeners' certificate."""
    return ca.leaf("server")


@pytest.fixture
async def world(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ScoringWorld]:
    """Scoring on loopback with a callers file, without TLS and without a model."""
    callers = tmp_path / "callers.json"
    write_callers(callers, grants())
    async with scoring_world(topics, None, callers_file=callers) as running:
        yield running


def tls_settings(server: Leaf) -> dict[str, object]:
    """Return the settings of TLS."""
    return {"tls_cert_file": server.cert, "tls_key_file": server.key}


async def status_of(
    channel: grpc.aio.Channel, method: str, raw: bytes, token: str = ""
) -> tuple[grpc.StatusCode, str]:
    """Return status and message of a unary call."""
    metadata = authorization(token) if token else ()
    try:
        await channel.unary_unary(method, bytes, bytes)(raw, timeout=10, metadata=metadata)
    except grpc.aio.AioRpcError as exc:
        return exc.code(), str(exc.details())
    return grpc.StatusCode.OK, ""


def score_bytes(number: int = 1) -> bytes:
    """Return a call of `Score`."""
    return ScoreRequest(transaction=some_transaction(number)).SerializeToString()


@pytest.mark.parametrize("role", AccessRole)
async def test_token_opens_the_door_of_its_role_only(world: ScoringWorld, role: AccessRole) -> None:
    """`caller` calls Scoring, `features` calls InternalScoring, `operator` neither."""
    token = TOKENS[role]
    rows = batch_of(feature_rows([some_transaction(2)])).SerializeToString()

    front, _ = await status_of(world.channel(0), SCORE, score_bytes(), token)
    internal, message = await status_of(world.channel(1), INTERNAL_BATCH, rows, token)

    opened = {
        AccessRole.CALLER: front is grpc.StatusCode.OK,
        AccessRole.FEATURES: internal is grpc.StatusCode.OK,
    }
    assert opened == {AccessRole.CALLER: role == "caller", AccessRole.FEATURES: role == "features"}
    assert {front, internal} <= {grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED}
    assert role == "features" or f"role {role}" in message


@pytest.mark.parametrize("token", ["", "fs1_guess"])
async def test_call_without_a_known_token_is_unauthenticated(
    world: ScoringWorld, token: str
) -> None:
    """The bytes are not looked at: what is no message gets the same answer."""
    for raw in (score_bytes(), b"\x0a\xff\xff\xff\xff"):
        code, message = await status_of(world.channel(0), SCORE, raw, token)

        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert "token" in message
        assert "guess" not in message


def half_open(channel: grpc.aio.Channel, method: str, token: str) -> Any:
    """Begin a call that never sends its message."""
    metadata = authorization(token) if token else ()
    return channel.stream_unary(method, bytes, bytes)(None, timeout=20, metadata=metadata)


@pytest.mark.parametrize("method", [SCORE, HEALTH_CHECK])
async def test_call_is_refused_before_its_message_comes(world: ScoringWorld, method: str) -> None:
    """Who may not call is told so at once, whatever it has still to send."""
    call = half_open(world.channel(0), method, "")

    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_message_has_to_come_in_time(topics: Mapping[str, str], tmp_path: Path) -> None:
    """A caller that is known and sends nothing is told so too, and its call is over."""
    callers = tmp_path / "callers.json"
    write_callers(callers, grants())
    async with scoring_world(topics, None, callers_file=callers, message_timeout_ms=50) as world:
        call = half_open(world.channel(0), SCORE, TOKENS[AccessRole.CALLER])

        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "message" in str(await call.details())


async def test_withdrawn_token_ends_its_open_stream(world: ScoringWorld, tmp_path: Path) -> None:
    """An open stream gives nobody more time than a new call."""
    caller = authorization(TOKENS[AccessRole.CALLER])
    call = world.channel(0).stream_stream(STREAM, bytes, bytes)(None, timeout=60, metadata=caller)
    await call.write(score_bytes())
    assert await call.read()

    write_callers(tmp_path / "callers.json", [g for g in grants() if g.role != "caller"])

    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_stream_on_which_nothing_moves_is_ended(topics: Mapping[str, str]) -> None:
    """Its caller is told to begin a new one; what it was answered before stays."""
    async with scoring_world(topics, None, stream_idle_s=0.5) as world:
        call = world.channel(0).stream_stream(STREAM, bytes, bytes)(None, timeout=60)
        await call.write(score_bytes())
        assert await call.read()

        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "nothing moved" in str(await call.details())


async def test_caller_has_so_many_streams_and_no_more(topics: Mapping[str, str]) -> None:
    """One more is refused until one has ended."""
    async with scoring_world(topics, None, streams_per_caller=1) as world:
        stream = world.channel(0).stream_stream(STREAM, bytes, bytes)
        first = stream(None, timeout=60)
        await first.write(score_bytes())
        assert await first.read()

        assert await stream(None, timeout=60).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.done_writing()
        assert await first.code() is grpc.StatusCode.OK
        while await is_refused(stream(None, timeout=60)):  # the server hears of the end after us
            pass


async def is_refused(stream: Any) -> bool:
    """Return whether a stream ends at once, and not by an answer."""
    try:
        await stream.write(score_bytes())
        return not await stream.read()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return True


async def test_refusal_names_its_error_in_the_trailing_metadata(world: ScoringWorld) -> None:
    """A client makes the same error of it."""
    call = world.channel(0).unary_unary(SCORE, bytes, bytes)(
        score_bytes(), timeout=10, metadata=authorization(TOKENS[AccessRole.FEATURES])
    )

    assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
    assert dict(await call.trailing_metadata())["fraud-reason"] == "PermissionDenied"


async def test_stream_needs_the_role_too(world: ScoringWorld) -> None:
    """A stream is refused before its first message."""
    token = authorization(TOKENS[AccessRole.OPERATOR])
    call = world.channel(0).stream_stream(STREAM, bytes, bytes)(None, timeout=10, metadata=token)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()

    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("role", AccessRole)
async def test_health_and_reflection_are_the_operators(
    world: ScoringWorld, role: AccessRole
) -> None:
    """What tells about the service is not for those who use it."""
    channel, token = world.channel(0), authorization(TOKENS[role])
    ask = health_pb2.HealthCheckRequest(service="fraudstream.v1.Scoring")
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    watching = health_pb2_grpc.HealthStub(channel).Watch(ask, timeout=10, metadata=token)
    info = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([listing]), timeout=10, metadata=token
    )
    checking = health_pb2_grpc.HealthStub(channel).Check(ask, timeout=10, metadata=token)

    codes = {await checking.code()}
    for call in (watching, info):
        try:
            codes.add(grpc.StatusCode.OK if await call.read() else grpc.StatusCode.UNKNOWN)
        except grpc.aio.AioRpcError as exc:
            codes.add(exc.code())
    watching.cancel()

    allowed = grpc.StatusCode.OK if role == "operator" else grpc.StatusCode.PERMISSION_DENIED
    assert codes == {allowed}


async def test_withdrawn_token_is_refused_without_a_restart(
    world: ScoringWorld, tmp_path: Path
) -> None:
    """The file is looked at again; a broken one changes nothing."""
    channel, token, callers = world.channel(0), TOKENS[AccessRole.CALLER], tmp_path / "callers.json"
    broken = tmp_path / "broken"
    broken.touch(mode=0o600)
    broken.write_text("{")
    broken.replace(callers)
    second = new_token()
    grant = Grant(
        name="b",
        role=AccessRole.CALLER,
        until=UNTIL,
        token_sha256=token_digest(second).hex(),
        banks=(BANK,),
    )

    raw = score_bytes()

    async def opens(token: str) -> bool:
        return (await status_of(channel, SCORE, raw, token))[0] is grpc.StatusCode.OK

    while not await opens(second):
        assert await opens(token)
        write_callers(callers, [*grants(), grant])
    write_callers(callers, [grant])
    while await opens(token):
        assert await opens(second)


async def test_tls_serves_those_who_trust_its_ca_and_no_plain_line(
    topics: Mapping[str, str], ca: TestCa, server: Leaf
) -> None:
    """Both doors speak TLS only."""
    async with scoring_world(topics, None, is_open=True, **tls_settings(server)) as world:
        trusting = ClientTls(ca.file).credentials()
        for door, method in ((0, SCORE), (1, INTERNAL_BATCH)):
            code, _ = await status_of(world.channel(door, trusting), method, b"\x0a\xff")
            plain, _ = await status_of(world.channel(door), method, b"\x0a\xff")

            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert plain is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_maps_a_certificate_to_its_role(
    topics: Mapping[str, str], tmp_path: Path, ca: TestCa, server: Leaf
) -> None:
    """Without a certificate no handshake; a granted name has its role, another none."""
    callers = tmp_path / "callers.json"
    write_callers(callers, grants())
    features, stranger = ca.leaf("f", "features.bank"), ca.leaf("s", "stranger.bank")
    rows = batch_of(feature_rows([some_transaction(1)])).SerializeToString()
    told = {**tls_settings(server), "tls_client_ca_file": ca.file, "callers_file": callers}
    async with scoring_world(topics, None, is_open=True, **told) as world:

        def door(number: int, leaf: Leaf | None) -> grpc.aio.Channel:
            files = (leaf.cert, leaf.key) if leaf else (None, None)
            return world.channel(number, ClientTls(ca.file, *files).credentials())

        nobody, _ = await status_of(door(1, None), INTERNAL_BATCH, rows)
        known, _ = await status_of(door(1, features), INTERNAL_BATCH, rows)
        elsewhere, _ = await status_of(door(0, features), SCORE, score_bytes())
        unknown, message = await status_of(door(1, stranger), INTERNAL_BATCH, rows)

    assert nobody is grpc.StatusCode.UNAVAILABLE
    assert known is grpc.StatusCode.OK
    assert elsewhere is grpc.StatusCode.PERMISSION_DENIED
    assert unknown is grpc.StatusCode.UNAUTHENTICATED
    assert "stranger.bank" in message


async def test_features_call_scoring_with_tls_and_token(
    topics: Mapping[str, str], tmp_path: Path, ca: TestCa, server: Leaf
) -> None:
    """The service's own way to scoring brings both, and says what is wrong where it lacks one."""
    callers = tmp_path / "callers.json"
    write_callers(callers, grants())
    told = {**tls_settings(server), "callers_file": callers}
    request = batch_of(feature_rows([some_transaction(1)]))
    tls = ClientTls(ca.file)
    async with scoring_world(topics, None, is_open=True, **told) as world:
        address = f"127.0.0.1:{world.service.ports[1]}"
        known = ScoringStub(address, 20.0, Access(tls, TOKENS[AccessRole.FEATURES]))
        (decision,) = await known.decide(request)
        stranger = ScoringStub(address, 20.0, Access(tls, TOKENS[AccessRole.CALLER]))
        with pytest.raises(ModelNotLoaded, match="expects features"):
            await stranger.decide(request)
        await known.close()
        await stranger.close()

    assert decision.transaction_id == "t-1"


async def test_certificate_is_rotated_without_a_restart(
    topics: Mapping[str, str], tmp_path: Path, ca: TestCa, server: Leaf
) -> None:
    """New connections get the new one; files that do not fit together change nothing."""
    (tmp_path / "other").mkdir()
    other = TestCa(tmp_path / "other")
    async with scoring_world(topics, None, is_open=True, **tls_settings(server)) as world:

        async def serves(trusted: TestCa) -> bool:
            channel = world.channel(0, ClientTls(trusted.file).credentials())
            return (await status_of(channel, SCORE, b"\xff"))[0] is not grpc.StatusCode.UNAVAILABLE

        old_key = server.key.read_bytes()
        before = await serves(ca), await serves(other)
        server.replace_by(other.leaf("new"))
        new_key = server.key.read_bytes()
        server.key.write_bytes(old_key)
        half = await serves(ca), await serves(other)
        server.key.write_bytes(new_key)
        after = await serves(ca), await serves(other)

    assert (before, half, after) == ((True, False), (True, False), (False, True))


async def test_pan_is_taken_over_tls(
    topics: Mapping[str, str], tmp_path: Path, ca: TestCa, server: Leaf
) -> None:
    """With token keys the number becomes a token at the door."""
    keys = tmp_path / "keys.json"
    write_token_keys(keys)
    transaction = some_transaction(1)
    transaction.card_token = ""
    transaction.pan = pan_of(1)
    told = {**tls_settings(server), "token_keys_file": keys}
    async with scoring_world(topics, None, is_open=True, **told) as world:
        channel = world.channel(0, ClientTls(ca.file).credentials())
        raw = ScoreRequest(transaction=transaction).SerializeToString()

        code, _ = await status_of(channel, SCORE, raw)

    assert code is grpc.StatusCode.OK


@pytest.mark.parametrize("fault", ["missing", "foreign_key", "expired", "no_pem", "too_open"])
def test_faulty_certificate_is_named_at_the_start(ca: TestCa, server: Leaf, fault: str) -> None:
    """The service does not start without the protection that it was told to have."""
    if fault == "missing":
        server.cert.unlink()
    if fault == "foreign_key":
        server.key.write_bytes(ca.leaf("other").key.read_bytes())
    if fault == "expired":
        server.replace_by(ca.leaf("old", lasts=-timedelta(minutes=1)))
    if fault == "no_pem":
        server.cert.write_text("hello")
    if fault == "too_open":
        server.key.chmod(0o644)

    with pytest.raises(InvalidSettings, match=r"server\.(pem|key)"):
        DoorCertificate(ServerTls(server.cert, server.key, None))
