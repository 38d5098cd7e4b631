"""Seals of recorded decisions: what passes, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from fraudstream.broker.wire.record_keys import KeyFile
from fraudstream.store.shard_store import OUTAGE_LONGEST_S, RECORD_LIFE_S
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.transaction.identity import digest_of, identity_of
from fraudstream.v1.decision_pb2 import Decision, Freshness, StageTimings
from services.scoring.decision.message import Subject
from services.scoring.decision.recorded import carried_row, written_row
from services.scoring.shards.seal import Seal
from tests.worlds.accepted_rows import EVENT_MS, decision_about, transaction_of

TRANSACTION: Final = transaction_of("t-1")
IDENTITY: Final = identity_of("bank", TRANSACTION.card_token, "t-1")
DIGEST: Final = digest_of(TRANSACTION)
VALUE: Final = decision_about(TRANSACTION).SerializeToString()
KEYS: Final = KeyFile("k1", {"k1": bytes(32)})


def _now_ms() -> int:
    return EVENT_MS


SEAL: Final = Seal(KEYS, _now_ms)
SEALED: Final = SEAL.sealed(IDENTITY, DIGEST, VALUE)
SUBJECT: Final = Subject(
    identity=IDENTITY,
    digest=DIGEST,
    transaction=TRANSACTION,
    vector=b"",
    sequence=b"",
    freshness=Freshness(),
    timings=StageTimings(),
    span=TraceContext.start(0.0),
    parent=None,
    offset=None,
    started_us=0,
)


def test_seal_is_the_last_field_and_changes_no_other() -> None:
    """A record is the decision's own bytes, and then its seal."""
    decision = Decision.FromString(SEALED)

    assert SEALED.startswith(VALUE)
    assert decision.SerializeToString() == SEALED
    assert decision.seal == b"k1" + SEALED[-16:]
    decision.ClearField("seal")
    assert decision.SerializeToString() == VALUE


def test_seal_holds_for_its_identity_digest_and_bytes_alone() -> None:
    """A true record in another's place is none, and no byte of it can be changed."""
    assert SEAL.is_true(IDENTITY, DIGEST, SEALED)
    assert not SEAL.is_true(bytes(16), DIGEST, SEALED)
    assert not SEAL.is_true(IDENTITY, bytes(32), SEALED)
    for place in range(len(SEALED)):
        changed = bytearray(SEALED)
        changed[place] ^= 1
        assert not SEAL.is_true(IDENTITY, DIGEST, bytes(changed)), place
    for end in range(len(SEALED)):
        assert not SEAL.is_true(IDENTITY, DIGEST, SEALED[:end])
    assert not SEAL.is_true(IDENTITY, DIGEST, SEALED + b"\xa0\x01\x01")


def test_rotation_loses_no_record() -> None:
    """A second key seals nothing until it is active; the first one's seals hold until it goes."""
    added = KEYS.with_new_key()
    active = added.with_newest_active()
    before, during, after = (Seal(keys, _now_ms) for keys in (added, active, active.without_old()))
    fresh = during.sealed(IDENTITY, DIGEST, VALUE)

    assert before.sealed(IDENTITY, DIGEST, VALUE) == SEALED
    assert before.is_true(IDENTITY, DIGEST, fresh)
    assert during.is_true(IDENTITY, DIGEST, SEALED)
    assert after.is_true(IDENTITY, DIGEST, fresh)
    assert not after.is_true(IDENTITY, DIGEST, SEALED)


def test_upgrade_takes_unsealed_records_as_long_as_they_live() -> None:
    """What an older release recorded is answered; later, what has no seal is forged."""
    life_ms = (RECORD_LIFE_S + OUTAGE_LONGEST_S) * 1000
    last = Seal(replace(KEYS, required_from_ms=EVENT_MS - life_ms + 1), _now_ms)
    over = Seal(replace(KEYS, required_from_ms=EVENT_MS - life_ms), _now_ms)

    assert last.is_true(IDENTITY, DIGEST, VALUE)
    assert not last.is_true(bytes(16), DIGEST, VALUE)
    assert not last.is_true(IDENTITY, bytes(32), VALUE)
    assert not last.is_true(IDENTITY, DIGEST, VALUE + SEALED[-21:-1] + b"\0")
    assert not over.is_true(IDENTITY, DIGEST, VALUE)
    assert not SEAL.is_true(IDENTITY, DIGEST, VALUE)


@pytest.mark.parametrize("value", [b"", b"\xff", Decision(decision_id="zz").SerializeToString()])
def test_without_keys_a_record_is_a_decision_about_its_identity(value: bytes) -> None:
    """Loopback has no seals; what is no decision about the transaction is forged there too."""
    open_one = Seal(None, _now_ms)

    assert open_one.sealed(IDENTITY, DIGEST, VALUE) == VALUE
    assert open_one.is_true(IDENTITY, DIGEST, VALUE)
    assert not open_one.is_true(IDENTITY, DIGEST, value)


def test_decision_that_a_row_brings_is_taken_as_it_was_sealed() -> None:
    """It comes through two services and is the same bytes again; one of others is not taken."""
    carried = carried_row(SUBJECT, Decision.FromString(SEALED), SEAL)
    unsealed = carried_row(SUBJECT, Decision.FromString(VALUE), SEAL)
    of_before = carried_row(SUBJECT, Decision.FromString(VALUE), Seal(None, _now_ms))
    written = written_row(SUBJECT, Decision.FromString(VALUE), SEAL)

    assert carried is not None
    assert carried.row.value == written.row.value == SEALED
    assert unsealed is None
    assert of_before is not None
