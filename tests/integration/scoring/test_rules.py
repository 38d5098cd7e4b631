"""Rules in the running service: published, served, refused, swapped while calls are decided."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import Purpose, write_secret
from fraudstream.rules.published import sign_rule_set
from fraudstream.rules.rule_set import parse_rule_set
from fraudstream.runtime.clock import epoch_ms
from fraudstream.telemetry.metrics import RULE_SETS
from fraudstream.topics import ALERTS, DECISIONS, RULES, partition_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Action, Decision
from fraudstream.v1.scoring_pb2 import ScoreBatchRequest, ScoreRequest
from services.scoring.cli.main import main
from tests.fakes.tiny_model import tiny_artefact
from tests.material.rule_files import rule, rule_file
from tests.worlds.scoring_world import (
    PARTITIONS,
    ScoringWorld,
    batch_of,
    feature_rows,
    kafka_settings,
    scoring_world,
    some_transaction,
)
from tests.worlds.trust import APPROVER, PEOPLE, RULES_FILE

DECLINE_ALL = rule("ALL_OF_M1", "transaction.merchant_id == 'm-1' && score >= 0.0", "decline")


def content(version: int, *tables: str) -> str:
    """Return the file of a version."""
    return rule_file(*tables, version=version)


def hash_of(text: str) -> str:
    """Return the hash that decisions carry."""
    return parse_rule_set(text).hash


async def append(topics: Mapping[str, str], value: bytes) -> None:
    """Put a record on the rules topic, as anybody with access could."""
    kafka = kafka_settings(topics)
    producer = BatchProducer(kafka)
    await producer.start()
    record = OutRecord(b"cards", value, partition_of(b"cards", PARTITIONS))
    await producer.send(kafka.topic(RULES), [record])
    await producer.stop()


async def publish(topics: Mapping[str, str], text: str) -> None:
    """Publish a version as its publisher signs it."""
    await append(topics, sign_rule_set(text, "a test", epoch_ms(), APPROVER).SerializeToString())


@asynccontextmanager
async def world_of(
    topics: Mapping[str, str], folder: Path, rule_set_file: Path | None = RULES_FILE
) -> AsyncIterator[ScoringWorld]:
    """Yield scoring with the tiny model, its rules from the file of the tests unless told."""
    tiny_artefact(folder / "model")
    PEOPLE.save(folder / "people.json")
    told = {"rule_set_file": rule_set_file, "default_deadline_ms": 20_000}
    async with scoring_world(topics, folder / "model", is_open=True, **told) as world:
        yield world


def numbers() -> Iterator[int]:
    """Return numbers of transactions that nobody has had."""
    return itertools.count(1)


async def decided_by(world: ScoringWorld, rule_set_hash: str, fresh: Iterator[int]) -> Decision:
    """Return the first decision of a rule set, once it serves."""
    async with asyncio.timeout(30):
        while True:
            request = ScoreRequest(transaction=some_transaction(next(fresh)))
            decision: Decision = await world.front.Score(request, timeout=10)
            if decision.rule_set_hash == rule_set_hash:
                return decision


async def test_published_version_is_served(
    topics: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command publishes; scoring decides by it, and says so; the stream's door does too."""
    for name, value in topics.items():
        monkeypatch.setenv(name, value)
    file, key = tmp_path / "rules.toml", tmp_path / "approver.key"
    file.write_text(content(2, DECLINE_ALL))
    _write_key(key)
    async with world_of(topics, tmp_path) as world:
        arguments = ["rules", "publish", str(file), "--key", str(key), "--why", "an attack"]
        people = ["--people", str(tmp_path / "people.json")]

        assert await asyncio.to_thread(main, [*arguments, *people]) == 0

        decision = await decided_by(world, hash_of(content(2, DECLINE_ALL)), numbers())
        assert decision.action == Action.ACTION_DECLINE
        assert [r.code for r in decision.reasons if r.from_rule] == ["ALL_OF_M1"]
        assert decision.reasons[0].from_rule
        assert not decision.reasons[1].from_rule
        row = batch_of(feature_rows([some_transaction(10_000, card=2)]))
        (result,) = (await world.stream(row)).results
        assert result.decision.action == Action.ACTION_DECLINE
        assert result.decision.rule_set_hash == decision.rule_set_hash
        assert await asyncio.to_thread(main, [*arguments, *people]) == 65, "versions only grow"
        assert await asyncio.to_thread(main, ["rules", "status", *people]) == 0


async def test_what_a_rule_raises_reaches_an_analyst(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """The decision on the log and the alert say which rule it was, and what the model thought."""
    file = tmp_path / "rules.toml"
    file.write_text(content(1, DECLINE_ALL))
    async with world_of(topics, tmp_path, rule_set_file=file) as world:
        await world.front.Score(ScoreRequest(transaction=some_transaction(1)), timeout=10)

        (alert,) = [Alert.FromString(value) for value in await world.log.read(ALERTS, 1)]
        (made,) = [Decision.FromString(value) for value in await world.log.read(DECISIONS, 1)]
        assert alert.decision.reasons[0].code == made.reasons[0].code == "ALL_OF_M1"
        assert len(alert.decision.reasons) > 1


async def test_refused_candidate_leaves_the_old_one(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """Not signed, not fit, not newer: logged and counted, and the next good one is served."""
    async with world_of(topics, tmp_path) as world:
        fresh = numbers()
        await publish(topics, content(2, DECLINE_ALL))
        await decided_by(world, hash_of(content(2, DECLINE_ALL)), fresh)
        before = RULE_SETS.labels("refused")._value.get()
        unsigned = sign_rule_set(content(3), "a test", epoch_ms(), APPROVER)
        unsigned.signature = bytes(64)
        unfit = sign_rule_set(content(4), "a test", epoch_ms(), APPROVER)
        unfit.content = content(4, rule("BAD", "features.nothing > 1"))
        for value in (b"\xff", unsigned.SerializeToString(), unfit.SerializeToString()):
            await append(topics, value)
        await publish(topics, content(1))
        async with asyncio.timeout(30):
            while RULE_SETS.labels("refused")._value.get() < before + 4:
                request = ScoreRequest(transaction=some_transaction(next(fresh)))
                decision = await world.front.Score(request, timeout=10)
                assert decision.rule_set_hash == hash_of(content(2, DECLINE_ALL))

        await publish(topics, content(5))

        await decided_by(world, hash_of(content(5)), fresh)


async def test_no_reply_comes_from_two_versions(topics: Mapping[str, str], tmp_path: Path) -> None:
    """Under load every batch is decided by one version, and none fails."""
    texts = [content(n, DECLINE_ALL if n % 2 else "") for n in range(2, 10)]
    async with world_of(topics, tmp_path) as world:
        fresh, seen = numbers(), set[str]()
        ruled = {hash_of(text) for text in texts if DECLINE_ALL in text}

        async def load() -> None:
            front = world.front
            while hash_of(texts[-1]) not in seen:
                rows = [some_transaction(next(fresh), card=n) for n in range(16)]
                answer = await front.ScoreBatch(ScoreBatchRequest(transactions=rows), timeout=20)
                decisions = [result.decision for result in answer.results]
                assert all(decision.decision_id for decision in decisions)
                found = {(d.rule_set_hash, d.reasons[0].from_rule) for d in decisions}
                ((rule_set_hash, is_ruled),) = found
                assert is_ruled == (rule_set_hash in ruled)
                seen.add(rule_set_hash)

        async with asyncio.timeout(60):
            loads = [asyncio.create_task(load()) for _ in range(3)]
            for text in texts:
                await publish(topics, text)
                await decided_by(world, hash_of(text), fresh)
            await asyncio.gather(*loads)

    assert {hash_of(text) for text in texts[:-1]} & seen


async def test_published_version_serves_from_the_start(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """The topic is read to its end before the first call, and needs no file beside it."""
    await publish(topics, content(3))
    await publish(topics, content(4, DECLINE_ALL))
    async with world_of(topics, tmp_path, rule_set_file=None) as world:
        request = ScoreRequest(transaction=some_transaction(1))
        decision = await world.front.Score(request, timeout=10)

        assert decision.rule_set_hash == hash_of(content(4, DECLINE_ALL))


async def test_service_does_not_start_without_the_choice(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """Nothing published and no file: nobody said what stands in for the model."""
    with pytest.raises(InvalidSettings, match="FRAUD_SCORING_RULE_SET_FILE names none"):
        async with world_of(topics, tmp_path, rule_set_file=None):
            pass


async def test_service_starts_on_its_file_where_all_that_is_published_is_refused(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """Whoever may write a record does not decide that no scorer starts; it is an alarm."""
    before = RULE_SETS.labels("refused")._value.get()
    for value in (b"\xff", b"x", b""):
        await append(topics, value)
    async with world_of(topics, tmp_path) as world:
        decision = await world.front.Score(
            ScoreRequest(transaction=some_transaction(1)), timeout=10
        )

    assert decision.action != Action.ACTION_UNSPECIFIED
    assert RULE_SETS.labels("refused")._value.get() == before + 3


async def test_stand_in_follows_the_caps(topics: Mapping[str, str], tmp_path: Path) -> None:
    """Without a model the policy decides by amount and channel, and every repeat agrees."""
    caps = """otherwise = "review"
[[stand_in.caps]]
channels = ["pos"]
up_to_minor = 2000
action = "approve"
above = "decline"
"""
    file = tmp_path / "rules.toml"
    file.write_text(rule_file(stand_in=caps))
    async with scoring_world(topics, None, rule_set_file=str(file)) as world:
        small, large = some_transaction(1, amount_minor=2_000), some_transaction(2)
        large.amount_minor = 2_001

        for transaction, action in ((small, Action.ACTION_APPROVE), (large, Action.ACTION_DECLINE)):
            decision = await world.front.Score(ScoreRequest(transaction=transaction), timeout=10)

            assert decision.stand_in
            assert decision.action == action
            assert decision.rule_set_hash == hash_of(file.read_text())


def _write_key(path: Path) -> None:
    """Write the approver's key file as `training person` does."""
    private = base64.b64encode(APPROVER.key.encode()).decode()
    write_secret(
        path, f'{{"name": "{APPROVER.name}", "private_key": "{private}"}}', Purpose.SIGNING_KEY
    )
