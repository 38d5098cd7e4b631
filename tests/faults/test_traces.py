"""The fifteen ways in which "effects happen once" goes wrong, each held off by its rule.

Every test plays one interleaving twice: with the rule all promises of the design's section 5 are
kept; without it the checker names the one that breaks.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import pytest
from pydantic import ValidationError

from fraudstream.broker.clients import OutRecord
from fraudstream.store.entity_rows import fresh_rows
from fraudstream.store.generations import Switch
from fraudstream.store.shard_store import OUTAGE_LONGEST_S, PENDING_UNDECIDED_MS, RECORD_LIFE_S
from fraudstream.topics import DECISIONS, ENTITIES
from fraudstream.transaction.event_time import LATENESS_LONGEST_MS
from fraudstream.v1.features_pb2 import EntityKind, EntityRow, EntityRowKind
from harness.servers import ValkeyServer
from services.ingest.settings import IngestSettings
from services.scoring.settings import ScoringSettings
from tests.faults import without
from tests.faults.stage import Stage, play
from tests.faults.stepping import Fate
from tests.faults.without import Without

_ACCEPTED: Final = "transactions.accepted.v1"
_TERMINAL: Final = EntityKind.ENTITY_KIND_TERMINAL
_MERCHANT: Final = EntityKind.ENTITY_KIND_MERCHANT


async def _partial_success(stage: Stage) -> None:
    stage.fates.tell(stage.card.process, "write_shard", Fate.NOT_RUN)
    stage.accept(stage.body(0), stage.body(1), stage.body(2))
    await stage.schedule.run_past(stage.card.process, "write_shard")
    stage.accept(stage.body(3))


def test_batch_after_a_write_that_did_not_run_begins_where_the_marker_stands(
    valkey: ValkeyServer,
) -> None:
    """Trace 1: a batch's `from` equals `next`, and a position in doubt is forgotten."""
    assert play(valkey.url, _partial_success) == []
    assert "t-0/0: card counts it 0 times" in play(
        valkey.url, _partial_success, without.PARTIAL_SUCCESS
    )


async def _zombie(stage: Stage) -> None:
    stage.accept(stage.body(0), stage.body(1), stage.body(2))
    await stage.schedule.run(stage.card.process, "write_shard")
    stage.give_shard_to(stage.second_card)
    await stage.schedule.run_past(stage.second_card.process, "write_shard")
    stage.accept(stage.body(3))
    await stage.schedule.run_past(stage.second_card.process, "write_shard")
    await stage.schedule.run_past(stage.card.process, "write_shard")


def test_zombie_does_not_write_over_what_came_after_it(valkey: ValkeyServer) -> None:
    """Trace 2: the expected marker is the batch's begin."""
    assert play(valkey.url, _zombie) == []
    assert "t-3/6: card counts it 0 times" in play(valkey.url, _zombie, without.WRITE_FENCE)


async def _duplicates_only(stage: Stage) -> None:
    stage.accept(stage.body(0))
    await stage.rest()
    stage.accept(stage.body(0), stage.body(0))


def test_batch_of_duplicates_moves_the_marker(valkey: ValkeyServer) -> None:
    """Trace 3: the write moves `next` for every batch."""
    assert play(valkey.url, _duplicates_only) == []
    assert "shard p0 stands at b'1', its log at 3" in play(
        valkey.url, _duplicates_only, without.EMPTY_WRITES
    )


async def _conflict_first(stage: Stage) -> None:
    stage.ask(stage.body(0))
    await stage.schedule.run(stage.scorer.process, f"send {_ACCEPTED}")
    stage.ask_second_scorer()
    stage.accept(stage.body(0, variant=1))
    await stage.schedule.run_past(stage.card.process, "write_shard")


def test_decided_row_counts_though_its_conflict_comes_first(valkey: ValkeyServer) -> None:
    """Trace 4: the record's digest wins over a claim's."""
    assert play(valkey.url, _conflict_first) == []
    broken = play(valkey.url, _conflict_first, without.RECORD_WINS)
    assert {"t-0/0: card counts it 0 times", "t-0/1: card counts it 1 times"} <= set(broken)


async def _repeat_after_applied(stage: Stage) -> None:
    stage.ask(stage.body(0))
    await stage.rest()
    stage.ask(stage.body(0))


def test_repeated_caller_leaves_no_ghost(valkey: ValkeyServer) -> None:
    """Trace 5: a transaction joins the pending list only if it is known nowhere."""
    assert play(valkey.url, _repeat_after_applied) == []
    broken = play(valkey.url, _repeat_after_applied, without.APPEND_IF_ABSENT)
    assert any("t-0 in its pending list" in line for line in broken)


async def _dead_scorer(stage: Stage) -> None:
    caller = stage.ask(stage.body(0))
    await stage.schedule.run_past(stage.scorer.process, "after admit")
    stage.schedule.crash(stage.scorer.process)
    stage.schedule.crash(caller)
    await asyncio.sleep(PENDING_UNDECIDED_MS / 1000 + 1)
    stage.ask(stage.body(1))
    await stage.rest()
    (decision,) = stage.world.decisions()
    if decision.freshness.pending_identities:
        stage.seen.append("a ghost was counted before t-1")


def test_ghost_of_a_dead_scorer_is_dropped(valkey: ValkeyServer) -> None:
    """Trace 5: what passed every deadline without a record is taken out."""
    assert play(valkey.url, _dead_scorer) == []
    assert play(valkey.url, _dead_scorer, without.DROP_GHOSTS) == ["a ghost was counted before t-1"]


async def _rebuild_states(stage: Stage) -> None:
    for transaction in (0, 1):
        stage.accept(stage.body(transaction))
        await stage.rest()
    stage.world.server.fail_over({})
    await stage.run_until_open()
    stage.accept(stage.body(0))


def test_rebuild_restores_claims(valkey: ValkeyServer) -> None:
    """Trace 6: a duplicate after a rebuild finds the claim of the row that counted."""
    assert play(valkey.url, _rebuild_states) == []
    broken = play(valkey.url, _rebuild_states, without.CLAIMS_RESTORED)
    assert "t-0/0: card counts it 2 times" in broken


async def _another_generation(stage: Stage) -> None:
    stage.ask(stage.body(0))
    await stage.schedule.run(stage.scorer.process, f"send {_ACCEPTED}")
    stage.ask_second_scorer()
    before = stage.generation
    stage.close_shard()
    if stage.without.rule == "records belong to no generation":
        for name in stage.world.server.names():
            if b":record:" in name:
                stage.client.delete(name)
    await stage.run_until_open()
    if stage.generation == before:
        stage.seen.append("the rebuild did not name another generation")
    stage.accept(stage.body(0))
    await stage.schedule.run_past(stage.card.process, "write_shard")


def test_record_outlives_its_generation(valkey: ValkeyServer) -> None:
    """Trace 7: only states, claims and marker belong to a generation."""
    assert play(valkey.url, _another_generation) == []
    rule = Without(rule="records belong to no generation")
    broken = play(valkey.url, _another_generation, rule)
    assert any("forked" in line for line in broken)


async def _two_rebuilders(stage: Stage) -> None:
    stage.accept(stage.body(0))
    await stage.rest()
    stage.close_shard()
    read, slow = await stage.marker(), stage.stored("slow")
    await stage.run_until_open()
    stage.accept(stage.body(1))
    await stage.rest()
    if stage.without.rule == "generations have names of their own":
        live = stage.world.names(stage.world.served(stage.shard)).state("", "")
        named = stage.world.names(replace(stage.shard, generation="slow")).state("", "")
        slow = [replace(v, key=v.key.replace(named[:-1], live[:-1])) for v in slow]
    if await stage.fill_and_switch(slow, read, 1, "slow") is not Switch.OTHER:
        stage.seen.append("the slow rebuilder switched")


def test_slow_rebuilder_does_not_write_into_the_live_generation(valkey: ValkeyServer) -> None:
    """Trace 8: a generation's name was never used before, and the first to switch wins."""
    assert play(valkey.url, _two_rebuilders) == []
    broken = play(valkey.url, _two_rebuilders, Without(rule="generations have names of their own"))
    assert "t-1/2: card counts it 0 times" in broken


async def _lost_write(stage: Stage) -> None:
    before = stage.world.server.snapshot()
    stage.accept(stage.body(0))
    await stage.rest()
    stage.world.server.fail_over(before)
    if stage.without.rule == "another primary closes the shard":
        stage.world.server.primary_number -= 1
    await stage.run_until_open()


@pytest.mark.parametrize(
    "lacking",
    [Without(rule="another primary closes the shard"), without.RECORDS_RESTORED],
    ids=["another primary closes the shard", "records come back first"],
)
def test_published_decision_survives_a_lost_write(valkey: ValkeyServer, lacking: Without) -> None:
    """Trace 9: another primary closes the shard; records come back from the log first."""
    assert play(valkey.url, _lost_write) == []
    broken = play(valkey.url, _lost_write, lacking)
    assert any("forked" in line for line in broken)


async def _idle_after_a_loss(stage: Stage) -> None:
    before = stage.world.server.snapshot()
    stage.accept(stage.body(0))
    await stage.rest()
    stage.world.server.fail_over(before)


def test_idle_owner_finds_out_about_a_loss(valkey: ValkeyServer) -> None:
    """Trace 10: an idle owner checks the marker at every poll; no further row is needed."""
    assert play(valkey.url, _idle_after_a_loss) == []
    broken = play(valkey.url, _idle_after_a_loss, without.IDLE_CHECK)
    assert "shard p0 stands at b'0', its log at 1" in broken


async def _answer_then_loss(stage: Stage) -> None:
    stage.ask(stage.body(0))
    await stage.schedule.run(stage.scorer.process, f"send {_ACCEPTED}")
    stage.world.server.fail_over({})
    await stage.run_until_open()
    stage.card.process.is_paused = True
    stage.scorer.process.is_paused = False
    for _ in range(60):
        await stage.schedule.move()
    stage.ask_second_scorer()
    stage.ask(stage.body(0))
    await stage.run_until_answered()


def test_answered_decision_survives_a_loss_before_its_publication(valkey: ValkeyServer) -> None:
    """Trace 11: it is published from memory, and its record is put back."""
    assert play(valkey.url, _answer_then_loss) == []
    broken = play(valkey.url, _answer_then_loss, without.PUT_BACK)
    assert any("forked" in line for line in broken)


async def _crash_before_the_write(stage: Stage) -> None:
    stage.accept(stage.body(0))
    await stage.schedule.run(stage.card.process, "write_shard")
    stage.schedule.crash(stage.card.process)
    stage.give_shard_to(stage.second_card)


def test_claims_travel_with_the_state_write(valkey: ValkeyServer) -> None:
    """Trace 12: a crash loses claim and state together, so the next owner counts the row."""
    assert play(valkey.url, _crash_before_the_write) == []
    broken = play(valkey.url, _crash_before_the_write, without.CLAIMS_WITH_STATES)
    assert "t-0/0: card counts it 0 times" in broken


async def _crash_after_the_write(stage: Stage) -> None:
    stage.accept(stage.body(0))
    await stage.schedule.run_past(stage.card.process, "write_shard")
    stage.schedule.crash(stage.card.process)
    stage.give_shard_to(stage.second_card)


def test_entities_rows_are_acknowledged_before_the_state_write(valkey: ValkeyServer) -> None:
    """Trace 13: what is sent after the write is lost in a crash."""
    assert play(valkey.url, _crash_after_the_write) == []
    broken = play(valkey.url, _crash_after_the_write, without.SENT_BEFORE_WRITE)
    assert "t-0/0: terminal counts it 0 times, expected 1" in broken


async def _failed_send(stage: Stage) -> None:
    stage.fates.tell(stage.card.process, f"send {ENTITIES.name}", Fate.NOT_RUN)
    stage.accept(stage.body(0))
    await stage.schedule.run_past(stage.card.process, f"send {ENTITIES.name}")
    stage.accept(stage.body(2))


def test_failed_send_stops_its_batch(valkey: ValkeyServer) -> None:
    """Trace 13: a row that failed before one that arrived would not be above the mark."""
    assert play(valkey.url, _failed_send) == []
    broken = play(valkey.url, _failed_send, without.STOP_AT_FAILURE)
    assert "t-0/0: terminal counts it 0 times, expected 1" in broken


async def _label_first(stage: Stage) -> None:
    accepted_id = stage.world.broker.accepted.topic_id
    is_apart = stage.without.rule != "sources are named by topic"
    label = EntityRow(
        kind=EntityRowKind.ENTITY_ROW_KIND_LABEL,
        entity_kind=EntityKind.ENTITY_KIND_TERMINAL,
        entity_key="bank/term-0",
        source_topic_id=b"labels".ljust(16) if is_apart else accepted_id,
        source_offset=7,
        event_time_ms=stage.body(0).transaction.event_time_ms,
        identity=bytes(16),
    )
    record = OutRecord(b"terminal:bank/term-0", label.SerializeToString(), 0)
    stage.world.broker.append(ENTITIES.name, record)
    await stage.rest()
    stage.accept(stage.body(0))


def test_label_of_the_same_number_hides_no_row(valkey: ValkeyServer) -> None:
    """Trace 13: a source is a topic's partition; two topics share their numbers."""
    assert play(valkey.url, _label_first) == []
    broken = play(valkey.url, _label_first, Without(rule="sources are named by topic"))
    assert "t-0/0: terminal counts it 0 times, expected 1" in broken


@pytest.mark.parametrize(("second", "fresh"), [(_MERCHANT, 2), (_TERMINAL, 1)])
def test_two_entities_of_one_row_are_both_above_the_mark(second: EntityKind, fresh: int) -> None:
    """Trace 13: marks compare offset and entity kind; without the kind the second is not above."""
    kinds = enumerate((_TERMINAL, second))
    rows = [(at, EntityRow(source_offset=4, entity_kind=kind)) for at, kind in kinds]

    assert len(fresh_rows(rows, {})[0]) == fresh


async def _late_copy(stage: Stage) -> None:
    body = stage.body(0)
    stage.accept(body)
    await stage.rest()
    names = stage.world.names(stage.shard)
    if stage.without.rule == "records outlive late copies":
        stage.client.delete(names.record(body.identity), names.claim(body.identity))
    stage.accept(body)


def test_late_copy_meets_the_record_of_its_first(valkey: ValkeyServer) -> None:
    """Trace 14: a record outlives the lateness bound and the longest outage together."""
    assert LATENESS_LONGEST_MS / 1000 + OUTAGE_LONGEST_S < RECORD_LIFE_S
    assert play(valkey.url, _late_copy) == []
    broken = play(valkey.url, _late_copy, Without(rule="records outlive late copies"))
    assert "t-0/0: card counts it 2 times" in broken


@pytest.mark.parametrize("settings", [IngestSettings, ScoringSettings])
def test_longer_lateness_than_records_live_is_refused_at_start(
    settings: type[IngestSettings | ScoringSettings],
) -> None:
    """Trace 14: the bound is checked when a service starts."""
    with pytest.raises(ValidationError, match="less than or equal"):
        settings.model_validate({"lateness_ms": LATENESS_LONGEST_MS + 1})


async def _loss_between_sends(stage: Stage) -> None:
    stage.fates.tell(stage.scorer.process, f"send {_ACCEPTED}", Fate.NOT_RUN)
    stage.ask(stage.body(0))
    await stage.schedule.run_past(stage.scorer.process, f"send {DECISIONS.name}")
    stage.schedule.crash(stage.scorer.process)
    stage.world.server.fail_over({})
    await stage.run_until_open()


def test_rebuild_sends_the_accepted_row_that_a_loss_cut_off(valkey: ValkeyServer) -> None:
    """A decision of the gRPC door counts, though its accepted row was lost with the outbox."""
    assert play(valkey.url, _loss_between_sends) == []
    broken = play(valkey.url, _loss_between_sends, without.ROWS_SENT_AGAIN)
    assert "t-0 is decided and not in the accepted log" in broken


async def _loss_before_the_alert(stage: Stage) -> None:
    stage.accept(stage.body(0), stage.body(1))
    await stage.schedule.run_past(stage.scorer.process, f"send {DECISIONS.name}")
    stage.schedule.crash(stage.scorer.process)
    stage.world.server.fail_over({})
    await stage.run_until_open()


def test_rebuild_raises_the_alert_that_a_loss_cut_off(valkey: ValkeyServer) -> None:
    """An alert is an effect of its decision: it outlives the outbox and the scorer that had it."""
    assert play(valkey.url, _loss_before_the_alert) == []
    broken = play(valkey.url, _loss_before_the_alert, without.ALERTS_RAISED_AGAIN)
    assert any("asks for an alert and has none" in line for line in broken)


async def _store_gone(stage: Stage) -> None:
    for step in ("admit", "record_decisions", "HGETALL", "read_marker"):
        stage.fates.tell(stage.scorer.process, step, *[Fate.NOT_RUN] * 5)
    stage.ask(stage.body(0))
    await stage.run_until_answered()
    stage.schedule.crash(stage.scorer.process)


def test_provisional_answer_is_in_the_log_before_it_is_given(valkey: ValkeyServer) -> None:
    """Trace 15: with the store gone the accepted row carries the decision, acknowledged first."""
    assert play(valkey.url, _store_gone) == []
    broken = play(valkey.url, _store_gone, without.ACKNOWLEDGED_FIRST)
    assert "t-0: the answer is not the decision" in broken
