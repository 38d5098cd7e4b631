"""Each sample is what it says: the good ones pass, the bad ones fail for their one reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.sample import fill_sample
from fraudstream.errors import InvalidTransaction, LateTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.transaction.money import indicative_rate_table
from fraudstream.transaction.validate import canonicalise, decode_transaction, validate_transaction
from tests.material.bad_samples import SAMPLES, BadSample, bad_samples

NOW_MS = 1_780_000_000_000
RATES = indicative_rate_table()
TOKENISER = Tokeniser(TokenKeys("k1", {"k1": bytes(32)}))
GOOD = sorted(path.name for path in SAMPLES.glob("*.json"))
FILES = sorted((SAMPLES / "bad").glob("*.json"))
BAD = bad_samples(NOW_MS)
# Found behind the decoder, or not a fault of a record: no sample can have them.
WITHOUT_SAMPLE = {
    RejectReason.BANK_MISMATCH,
    RejectReason.PAN_UNSEALED,
    RejectReason.PAN_SEAL_KEY,
    RejectReason.PAN_SEAL,
    "RECORD_TIME",
    "PARTITION_MISMATCH",
    "WRITER",
    "LABEL_TIME",
    "LABEL_ORPHAN",
    "LABEL_AMBIGUOUS",
    "DISPOSITION",
    "ID_CONFLICT",
    "INTERNAL",
    # No value shows it: the record around the value is broken.
    "CORRUPT",
}


def accept(value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    """Do what ingest does with a record."""
    transaction = decode_transaction(value, headers)
    validate_transaction(transaction, NOW_MS)
    canonicalise(transaction, TOKENISER, RATES)


@pytest.mark.parametrize("name", GOOD)
def test_good_sample_is_accepted(name: str) -> None:
    """Every sample outside `bad/` passes all checks."""
    accept(fill_sample((SAMPLES / name).read_text(), NOW_MS), [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_bad_file_is_refused_for_what_it_is_called(path: Path) -> None:
    """A single record to send, named by the reason that comes back."""
    with pytest.raises(InvalidTransaction) as refused:
        accept(fill_sample(path.read_text(), NOW_MS), [])

    assert refused.value.reason == path.stem.upper().replace("-", "_")


@pytest.mark.parametrize("sample", BAD, ids=lambda sample: sample.name)
def test_bad_sample_is_refused_with_its_reason(sample: BadSample) -> None:
    """Each fault has one code."""
    with pytest.raises(InvalidTransaction) as refused:
        accept(sample.value, sample.headers)

    assert refused.value.reason == sample.reason


def test_every_reason_has_a_sample() -> None:
    """No code exists that nothing shows."""
    assert {sample.reason for sample in BAD} == set(RejectReason) - WITHOUT_SAMPLE


def test_message_of_a_refusal_holds_no_value_of_the_record() -> None:
    """No run of twelve digits, and nothing of the sample's own texts, gets into a message."""
    leaked = []
    for sample in BAD:
        with pytest.raises(InvalidTransaction) as refused:
            accept(sample.value, sample.headers)
        message = str(refused.value)
        if any(word in message for word in ("bank-north", "merchant-0", "customer-0")):
            leaked.append(sample.name)

    assert leaked == []


def test_event_older_than_the_bound_is_late_not_bad() -> None:
    """A good record that is only too old is told apart from a bad one."""
    transaction = decode_transaction(
        fill_sample((SAMPLES / "approve.json").read_text(), NOW_MS - 25 * 3_600_000), []
    )

    with pytest.raises(LateTransaction):
        validate_transaction(transaction, NOW_MS)
