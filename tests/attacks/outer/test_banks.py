"""A caller is a bank: what one bank's token opens tells nothing of another's, and takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from confluent_kafka import Producer

from fraudstream.broker.log_reader import read_topic
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.grpc_access import ClientTls
from fraudstream.topics import ACCEPTED, DECISIONS, DLQ
from fraudstream.transaction.card_token import write_token_keys
from fraudstream.transaction.json_form import encode_json
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.scoring_pb2 import (
    RowResult,
    ScoreBatchRequest,
    ScoreBatchResponse,
    ScoreRequest,
)
from fraudstream.v1.transaction_pb2 import Transaction
from harness.servers import Broker, ValkeyServer
from harness.service_process import ServiceProcess
from services.scoring.rpc.grants import AccessRole, Grant, Grants, new_token, token_digest
from services.scoring.settings import ScoringSettings
from tests.conftest import create_topics, environment_of_test
from tests.servers.tls_files import TestCa
from tests.worlds.scoring_world import (
    BANK,
    Log,
    ScoringWorld,
    kafka_settings,
    scoring_world,
    some_transaction,
)
from training.simulator.messages import pan_of

pytestmark = [pytest.mark.attack, pytest.mark.asyncio(loop_scope="module")]

UNTIL = (datetime.now(UTC) + timedelta(days=2)).date()
OTHER = "bank-south"
SANDBOX = "sandbox-north"
NORTH, SOUTH, LOUD = "north-switch", "south-switch", "loud-switch"
PROCESSOR, CURIOUS = "processor", "curious-switch"
BANKS = {
    NORTH: (BANK, SANDBOX),
    SOUTH: (OTHER,),
    LOUD: (BANK,),
    PROCESSOR: ("*",),
    CURIOUS: (BANK,),
}
BURST = 3
RAW_OF = {bank: f"transactions.raw.{bank}.v1" for bank in (BANK, OTHER)}
TOKENS = {name: new_token() for name in BANKS}
SERVICE = "/fraudstream.v1.Scoring"
DENIED = grpc.StatusCode.PERMISSION_DENIED


def grant_of(name: str, **opened_by: str) -> Grant:
    """Return a caller's grant, for its banks where grants have some."""
    told: dict[str, object] = {"name": name, "role": AccessRole.CALLER, "until": UNTIL}
    banks = {"banks": BANKS[name]} if "banks" in Grant.model_fields else {}
    return Grant.model_validate({**told, **banks, **opened_by})


def write_callers(path: Path, grants: list[Grant]) -> Path:
    """Write a callers file."""
    path.touch(mode=0o600)
    path.write_text(Grants(grants).text())
    return path


def token_grants() -> list[Grant]:
    """Return a grant by token for each caller."""
    return [grant_of(name, token_sha256=token_digest(TOKENS[name]).hex()) for name in BANKS]


@pytest.fixture(scope="module")
def line(broker: Broker, valkey: ValkeyServer, folder: Path) -> dict[str, str]:
    """Variables of this module's servers; its topics are made."""
    environment = environment_of_test(broker, valkey)
    create_topics(environment, folder)
    return environment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of this module."""
    return tmp_path_factory.mktemp("banks")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(line: Mapping[str, str], folder: Path) -> AsyncIterator[ScoringWorld]:
    """Scoring on loopback with a callers file, token keys, a sandbox bank and a small quota."""
    keys = folder / "keys.json"
    write_token_keys(keys)
    quota = {"pan_rate_per_s": 0.001, "pan_burst": BURST}
    told = {
        "callers_file": write_callers(folder / "callers.json", token_grants()),
        "token_keys_file": keys,
        "sandbox_bank": SANDBOX,
        **(quota if "pan_burst" in ScoringSettings.model_fields else {}),
    }
    async with scoring_world(line, None, is_open=True, **told) as running:
        yield running


def transaction_of(bank: str, number: int, amount_minor: int = 1_250) -> Transaction:
    """Return a bank's transaction by card token."""
    transaction = some_transaction(number, amount_minor=amount_minor)
    transaction.bank_id = bank
    transaction.card_token = f"{bank}.k1.{number:032x}"
    return transaction


async def score(
    world: ScoringWorld, name: str, transaction: Transaction
) -> Decision | grpc.aio.AioRpcError:
    """Return what `Score` answers a caller, or what it refuses with."""
    call = world.channel(0).unary_unary(f"{SERVICE}/Score", bytes, Decision.FromString)
    try:
        answer: Decision = await call(
            ScoreRequest(transaction=transaction).SerializeToString(),
            timeout=20,
            metadata=(("authorization", f"Bearer {TOKENS[name]}"),),
        )
    except grpc.aio.AioRpcError as exc:
        return exc
    return answer


def decided(answer: Decision | grpc.aio.AioRpcError) -> Decision:
    """Return an answer that is a decision."""
    assert isinstance(answer, Decision), answer
    return answer


def refused(answer: Decision | grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
    """Return an answer that is an error."""
    assert isinstance(answer, grpc.aio.AioRpcError), answer
    return answer


async def test_g1_transactions_of_another_bank_are_refused(world: ScoringWorld) -> None:
    """Neither its bank id nor its card tokens, whichever of them is one's own."""
    foreign = transaction_of(OTHER, 1)
    own_id = transaction_of(OTHER, 2)
    own_id.bank_id = BANK
    own_token = transaction_of(BANK, 3)
    own_token.bank_id = OTHER

    for transaction in (foreign, own_id, own_token):
        assert refused(await score(world, NORTH, transaction)).code() is DENIED
    assert decided(await score(world, NORTH, transaction_of(BANK, 4))).transaction_id == "t-4"


async def test_g1_refusal_does_not_tell_whether_an_id_is_known(world: ScoringWorld) -> None:
    """Known with this body, known with another, unknown: one answer, word for word."""
    decided(await score(world, SOUTH, transaction_of(OTHER, 10)))

    answers = {
        str(refused(await score(world, NORTH, transaction)).details())
        for transaction in (
            transaction_of(OTHER, 10),
            transaction_of(OTHER, 10, amount_minor=1),
            transaction_of(OTHER, 11),
        )
    }

    assert len(answers) == 1


async def test_g1_no_bank_takes_anothers_id_first(world: ScoringWorld) -> None:
    """What a stranger sent before leaves the bank's own transaction to be decided as it is."""
    await score(world, NORTH, transaction_of(OTHER, 20, amount_minor=1))

    own = decided(await score(world, SOUTH, transaction_of(OTHER, 20)))

    assert own.transaction.amount_minor == 1_250
    assert not own.replayed


async def test_g1_repeat_is_answered_to_its_own_bank_only(world: ScoringWorld) -> None:
    """The bank is part of what a transaction is known by: an equal id of another is another."""
    first = decided(await score(world, SOUTH, transaction_of(OTHER, 30)))
    same_id = transaction_of(BANK, 30)

    again = decided(await score(world, SOUTH, transaction_of(OTHER, 30)))
    other = decided(await score(world, NORTH, same_id))

    assert (again.replayed, again.decision_id) == (True, first.decision_id)
    assert (other.replayed, other.bank_id) == (False, BANK)


async def test_g1_card_numbers_of_another_bank_get_no_token(world: ScoringWorld) -> None:
    """A card number is tokenised for the caller's bank only."""
    transaction = transaction_of(OTHER, 40)
    transaction.pan = pan_of(40)

    assert refused(await score(world, NORTH, transaction)).code() is DENIED
    transaction.bank_id = BANK
    own = decided(await score(world, NORTH, transaction))
    assert own.card_token.startswith(f"{BANK}.")


async def test_g1_row_of_another_bank_fails_alone_in_a_batch(world: ScoringWorld) -> None:
    """The others of its call are decided."""
    rows = [transaction_of(BANK, 50), transaction_of(OTHER, 51), transaction_of(BANK, 52)]
    call = world.channel(0).unary_unary(
        f"{SERVICE}/ScoreBatch", bytes, ScoreBatchResponse.FromString
    )

    answer = await call(
        ScoreBatchRequest(transactions=rows).SerializeToString(),
        timeout=20,
        metadata=(("authorization", f"Bearer {TOKENS[NORTH]}"),),
    )

    codes = [result.error.code for result in answer.results]
    assert codes == [0, DENIED.value[0], 0]
    assert answer.results[1].error.reason == "PermissionDenied"


async def test_g1_row_of_another_bank_fails_alone_in_a_stream(world: ScoringWorld) -> None:
    """The stream goes on."""
    rows = [transaction_of(BANK, 60), transaction_of(OTHER, 61), transaction_of(BANK, 62)]
    call = world.channel(0).stream_stream(f"{SERVICE}/ScoreStream", bytes, RowResult.FromString)(
        iter([ScoreRequest(transaction=row).SerializeToString() for row in rows]),
        timeout=20,
        metadata=(("authorization", f"Bearer {TOKENS[NORTH]}"),),
    )

    codes = [result.error.code async for result in call]

    assert codes == [0, DENIED.value[0], 0]


async def test_g1_sandbox_is_a_bank_too(world: ScoringWorld) -> None:
    """Test transactions are answered to those whose grant names the sandbox."""
    transaction = transaction_of(SANDBOX, 70)
    transaction.merchant_id = "decline"

    assert refused(await score(world, SOUTH, transaction)).code() is DENIED
    assert decided(await score(world, NORTH, transaction)).model_hash == "sandbox"


async def test_g1_processor_brings_transactions_of_every_bank(world: ScoringWorld) -> None:
    """Where the file says so."""
    for bank, number in ((BANK, 80), (OTHER, 81)):
        answer = decided(await score(world, PROCESSOR, transaction_of(bank, number)))
        assert answer.bank_id == bank


async def test_g1_certificate_is_bound_to_its_banks(
    world: ScoringWorld, line: Mapping[str, str], tmp_path: Path
) -> None:
    """Under mutual TLS the certificate's grant says which banks, as a token's does."""
    ca = TestCa(tmp_path)
    server, leaf = ca.leaf("server"), ca.leaf("north", "north.bank")
    callers = write_callers(tmp_path / "callers.json", [grant_of(NORTH, certificate="north.bank")])
    told = {
        "tls_cert_file": server.cert,
        "tls_key_file": server.key,
        "tls_client_ca_file": ca.file,
        "callers_file": callers,
    }
    async with scoring_world(line, None, is_open=False, **told) as mutual:
        credentials = ClientTls(ca.file, leaf.cert, leaf.key).credentials()
        call = mutual.channel(0, credentials).unary_unary(
            f"{SERVICE}/Score", bytes, Decision.FromString
        )
        own = ScoreRequest(transaction=transaction_of(BANK, 90)).SerializeToString()
        foreign = ScoreRequest(transaction=transaction_of(OTHER, 91)).SerializeToString()

        assert (await call(own, timeout=20)).bank_id == BANK
        with pytest.raises(grpc.aio.AioRpcError) as answer:
            await call(foreign, timeout=20)

    assert answer.value.code() is DENIED


async def test_g1_token_oracle_has_a_quota(world: ScoringWorld) -> None:
    """Card numbers over the quota get no token; card tokens are decided as before."""
    answers = []
    for number in range(100, 102 + BURST):
        transaction = transaction_of(BANK, number)
        transaction.pan = pan_of(number)
        answers.append(await score(world, CURIOUS, transaction))
    by_token = await score(world, CURIOUS, transaction_of(BANK, 110))

    assert [isinstance(answer, Decision) for answer in answers] == [True] * BURST + [False] * 2
    assert refused(answers[-1]).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "try again in" in str(refused(answers[-1]).details())
    # What gRPC clients wait before they try again.
    assert "grpc-retry-pushback-ms" in str(refused(answers[-1]).trailing_metadata())
    assert decided(by_token).transaction_id == "t-110"


@pytest.fixture(scope="module")
def feeds(broker: Broker, valkey: ValkeyServer, folder: Path) -> dict[str, str]:
    """Variables of ingest with a feed for each of two banks, and topics of its own, made."""
    (folder / "feeds.toml").write_text(
        "\n".join(
            f'[[feed]]\nname = "{bank}"\ntopic = "{RAW_OF[bank]}"\nbanks = ["{bank}"]'
            for bank in RAW_OF
        )
    )
    write_token_keys(folder / "ingest-keys.json")
    write_seal_keys(folder / "seal.private", folder / "seal.public")
    environment = {
        **environment_of_test(broker, valkey),
        "FRAUD_INGEST_FEEDS_FILE": str(folder / "feeds.toml"),
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(folder / "ingest-keys.json"),
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(folder / "seal.public"),
    }
    create_topics(environment, folder)
    return environment


async def test_g1_feed_carries_its_own_banks_records_only(
    feeds: Mapping[str, str], folder: Path
) -> None:
    """Who may write to one topic takes no other bank's transaction id: it is never accepted."""
    kafka = kafka_settings(feeds)
    foreign, own = transaction_of(OTHER, 200, amount_minor=1), transaction_of(OTHER, 200)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for bank, transaction in ((BANK, foreign), (OTHER, own), (BANK, transaction_of(BANK, 201))):
        value = encode_json(transaction)
        producer.produce(f"{kafka.topic_prefix}{RAW_OF[bank]}", value, key=b"any")
    assert producer.flush(30) == 0

    ingest = ServiceProcess("services.ingest", [], feeds, folder / "ingest")
    ingest.start(60.0)
    try:
        log = Log(kafka)
        accepted = [AcceptedTransaction.FromString(v) for v in await log.read(ACCEPTED, 2)]
        assert await log.read(DLQ, 1)
        (letter,) = await asyncio.to_thread(read_topic, kafka, DLQ)
    finally:
        ingest.stop()

    found = {row.transaction.transaction_id: row for row in accepted}
    assert found["t-200"].transaction.amount_minor == own.amount_minor
    assert {row.feed for row in accepted} == {BANK, OTHER}
    assert dict(letter.headers)["reason"] == b"BANK_MISMATCH"


async def test_g6_decision_says_who_asked(world: ScoringWorld) -> None:
    """In the answer, and for good in the topic."""
    answer = decided(await score(world, NORTH, transaction_of(BANK, 120)))

    recorded: list[Decision] = []
    while answer.decision_id not in [decision.decision_id for decision in recorded]:
        values = await world.log.read(DECISIONS, len(recorded) + 1)
        recorded = [Decision.FromString(value) for value in values]

    assert answer.asked_by == NORTH
    by_id = {decision.decision_id: decision for decision in recorded}
    assert by_id[answer.decision_id].asked_by == NORTH


async def test_g6_refusals_are_logged(
    world: ScoringWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Who, from where, which method and why; a thousand of a kind are not a thousand lines."""
    for number in range(130, 160):
        await score(world, LOUD, transaction_of(OTHER, number))

    lines = [line for line in caplog.messages if "refused" in line and LOUD in line]
    assert len(lines) == 1
    assert all(part in lines[0] for part in ("127.0.0.1", "Scoring/Score", "PermissionDenied"))


async def test_g6_call_without_a_token_is_logged(
    world: ScoringWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever tries the door leaves a line, and nothing of the token that was tried."""
    call = world.channel(0).unary_unary(f"{SERVICE}/Score", bytes, bytes)
    for metadata in ((), (("authorization", "Bearer fs1_guess"),)):
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"", timeout=20, metadata=metadata)

    lines = [line for line in caplog.messages if "refused" in line]
    assert len(lines) == 2
    assert all("127.0.0.1" in line and "Unauthenticated" in line for line in lines)
    assert "guess" not in caplog.text
