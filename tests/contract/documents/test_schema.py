"""The published JSON Schema is current, and says of the samples what ingest says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from demo.sample import fill_sample
from fraudstream.reject_reasons import RejectReason
from fraudstream.tools.transaction_schema import SCHEMA_PATH, schema_text
from fraudstream.transaction.iso_codes import COUNTRIES_AS_OF, CURRENCIES_AS_OF
from fraudstream.v1.transaction_pb2 import Transaction
from tests.material.bad_samples import SAMPLES, bad_samples

NOW_MS = 1_780_000_000_000
GOOD = sorted(path.name for path in SAMPLES.glob("*.json"))
# What a schema cannot say: sums of digits, clocks, what stands in free text, the bytes themselves.
BEYOND_A_SCHEMA = {
    "CONTROL_CHARACTER", "SAD_PRESENT", "PAN_PRESENT", "PAN_INVALID", "CARD_TOKEN", "IP",
    "CURRENCY_EXPONENT", "RATE_MISSING", "AMOUNT_RANGE", "TIME_FUTURE", "ENCODING",
    "FIELD_TOO_LONG",
    "SCHEMA_MISMATCH", "SCHEMA_UNSUPPORTED", "CONTENT_TYPE", "HEADERS", "TOO_LARGE", "DECODE",
    "EMPTY", "TOMBSTONE", "DUP_KEY", "LOCATION",
}  # fmt: skip


@pytest.fixture(scope="module")
def validator() -> Validator:
    """The committed schema."""
    schema: dict[str, Any] = json.loads(SCHEMA_PATH.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_committed_schema_is_what_the_message_gives() -> None:
    """`python -m fraudstream.tools.transaction_schema` changes nothing."""
    assert SCHEMA_PATH.read_text() == schema_text()


@pytest.mark.parametrize("name", GOOD)
def test_good_sample_fits_the_schema(validator: Validator, name: str) -> None:
    """What ingest takes, the schema takes."""
    sample = json.loads(fill_sample((SAMPLES / name).read_text(), NOW_MS))

    assert list(validator.iter_errors(sample)) == []


def test_bad_samples_do_not_fit_the_schema(validator: Validator) -> None:
    """What a schema can see, the schema refuses as ingest does."""
    passed = [
        sample.name
        for sample in bad_samples(NOW_MS)
        if sample.reason not in BEYOND_A_SCHEMA
        and sample.value is not None
        and sample.value[:1] == b"{"
        and validator.is_valid(json.loads(sample.value))
    ]

    assert passed == []


def test_documentation_names_every_reason_and_field() -> None:
    """`docs/data.md` has a row for each code, with its text, and names each field."""
    text = (SCHEMA_PATH.parent.parent / "data.md").read_text()
    lacking = [str(one) for one in RejectReason if f"| `{one}` | {one.text} |" not in text]
    lacking += [day for day in (CURRENCIES_AS_OF, COUNTRIES_AS_OF) if f"list of {day}" not in text]
    lacking += [one.name for one in Transaction.DESCRIPTOR.fields if f"`{one.name}`" not in text]

    assert lacking == []
