"""A dead letter's original is corrected field by field, and judged before it is sent."""

from __future__ import annotations

import json

import pytest

from fraudstream.dead_letters.letter import SourceRecord
from fraudstream.errors import InvalidSettings, InvalidTransaction, LateTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.runtime.clock import epoch_ms
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.money import indicative_rate_table
from services.ingest.dead_letters.corrected_pan import CorrectedPans
from services.ingest.dead_letters.correction import Correction, check_record
from services.ingest.dead_letters.reader import Letter
from services.ingest.pan_opener import PanOpener
from tests.material.bad_samples import good_sample

_HOUR_MS = 3_600_000
PANS = CorrectedPans(None, PanOpener(None), has_keys=False)


def _original(value: bytes) -> SourceRecord:
    return SourceRecord("raw", 0, 1, 0, b"key", value, [])


def _check(value: bytes, append_time_ms: int) -> None:
    check_record(value, append_time_ms, TimeBounds(), indicative_rate_table(), PANS)


def test_fields_are_set_and_removed() -> None:
    """What is not named stays as it was."""
    corrected = Correction({"currency": "EUR"}, ["mcc"]).apply(
        _original(b'{"bank_id":"b","mcc":"1","currency":"EUX"}')
    )

    assert json.loads(corrected) == {"bank_id": "b", "currency": "EUR"}


def test_field_that_is_set_replaces_its_other_spelling() -> None:
    """Protobuf's JSON has two names for a field: one that is set may not stand twice."""
    corrected = Correction({"merchant_id": "m2"}).apply(_original(b'{"merchantId":"m1"}'))

    assert json.loads(corrected) == {"merchant_id": "m2"}


def test_field_that_the_original_lacks_cannot_be_removed() -> None:
    """A slip in `--remove` would send the record as it was."""
    with pytest.raises(InvalidSettings, match="--remove curency: the original has no such field"):
        Correction(removed=["curency"]).apply(_original(b'{"currency":"EUR"}'))


def test_mended_record_is_judged_as_ingest_would() -> None:
    """A currency that is none is told before it is sent, by ingest's reason."""
    fields = json.loads(good_sample(epoch_ms())) | {"currency": "EUZ"}

    with pytest.raises(InvalidTransaction) as refused:
        _check(json.dumps(fields).encode(), epoch_ms())

    assert refused.value.reason == RejectReason.CURRENCY


def test_mended_record_without_a_rate_is_told() -> None:
    """Ingest converts before it accepts, so a rate that is missing is a dead letter too."""
    table = indicative_rate_table()
    fields = json.loads(good_sample(epoch_ms())) | {"currency": "XAU"}
    assert "XAU" not in table.factors[0]

    with pytest.raises(InvalidTransaction):
        _check(json.dumps(fields).encode(), epoch_ms())


def test_mended_record_that_is_too_old_to_be_decided_is_told() -> None:
    """It would go to the late topic without a decision, and nobody would look for it there."""
    moment = epoch_ms()
    value = good_sample(moment - 25 * _HOUR_MS)

    with pytest.raises(LateTransaction, match="lateness bound of 24 hours"):
        _check(value, moment)

    _check(value, moment - 24 * _HOUR_MS)


def test_header_that_is_no_time_is_shown_as_it_is() -> None:
    """Others can write to the topic too."""
    letter = Letter((0, 1), 0, {"first_seen": b"\xff"}, b"", b"")

    assert letter.texts() == {"first_seen": "\ufffd"}


def test_record_that_is_no_letter_is_said_so() -> None:
    """A value that is no JSON of ours is no traceback."""
    with pytest.raises(InvalidSettings, match="record 0:1 is no dead letter"):
        Letter((0, 1), 0, {}, b"[]", b"").content()


def test_original_that_is_nested_too_deep_is_told() -> None:
    """One record of a bank must not end a replay of the letters of all."""
    with pytest.raises(InvalidSettings, match="give the whole --body"):
        Correction({"currency": "EUR"}).apply(_original(b"[" * 30_000 + b"]" * 30_000))
