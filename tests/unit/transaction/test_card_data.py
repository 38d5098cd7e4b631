"""Card data is found however it is written; ordinary ids are not taken for it."""

from __future__ import annotations

import random
import sys
import uuid
from collections.abc import Callable
from types import FrameType

import pytest

from fraudstream.card_data.detector import (
    CardData,
    is_card_in_address,
    is_number_in_digest,
    kind_of,
    mask,
)
from fraudstream.card_data.numbers import has_luhn_check, holds_own_number
from fraudstream.card_data.sensitive_names import is_sensitive_name
from tests.material.card_forms import (
    NUMBERS,
    ORDINARY_NAMES,
    SENSITIVE,
    SENSITIVE_NAMES,
    VISA,
    Form,
    number_of,
)
from training.simulator.messages import pan_of

# Leading digits of ranges in use, and the length of a number of each.
RANGES = [
    ("4", 13), ("4", 16), ("4", 19), ("51", 16), ("2221", 16), ("2720", 16), ("34", 15),
    ("37", 15), ("6011", 16), ("65", 16), ("3528", 16), ("3589", 16), ("36", 14), ("300", 14),
    ("62", 16), ("62", 19), ("6759", 16), ("6759", 18), ("2200", 16), ("9792", 16), ("8100", 16),
]  # fmt: skip
TRACK_2 = f"{VISA}d25121011000012345678f"


@pytest.mark.parametrize(("prefix", "length"), RANGES)
def test_number_of_each_network_is_found(prefix: str, length: int) -> None:
    """Known issuer range and check digit make a card number."""
    assert kind_of(f"see {number_of(prefix, length)}.") is CardData.PAN


@pytest.mark.parametrize("form", NUMBERS.values(), ids=NUMBERS)
def test_number_in_disguise_is_found_and_masked(form: Form) -> None:
    """Scripts, marks, escapes and codes hide nothing."""
    text = f"see {form(VISA)} now"

    assert kind_of(text) is CardData.PAN
    assert kind_of(mask(text)) is CardData.NONE


@pytest.mark.parametrize("form", SENSITIVE.values(), ids=SENSITIVE)
def test_sensitive_value_is_found(form: Form) -> None:
    """Tracks by sentinels and by layout, values by the name before them."""
    assert kind_of(f"see {form(VISA)}") is CardData.SAD


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (bytes.fromhex(VISA), CardData.PAN),
        (bytes.fromhex(f"5a08{VISA}5f24"), CardData.PAN),
        (bytes.fromhex(f"5a08{number_of('37', 15)}f"), CardData.PAN),
        (VISA.encode("cp037"), CardData.PAN),
        (VISA.encode("utf-16"), CardData.PAN),
        (VISA.encode("utf-16-be"), CardData.PAN),
        (VISA.encode("utf-32-le"), CardData.PAN),
        (b"\xa0".join([b"4111", b"1111", b"0000", b"0002"]), CardData.PAN),
        (b"\xff\x0a\x10" + VISA.encode() + b"\x12", CardData.PAN),
        (bytes.fromhex(TRACK_2), CardData.SAD),
        (bytes.fromhex(f"5711{TRACK_2}"), CardData.SAD),
        (f"{VISA}D2512101".encode("cp037"), CardData.SAD),
        (f";{VISA}=2512101".encode("cp037"), CardData.SAD),
        (f";{VISA}=2512101".encode("utf-16-le"), CardData.SAD),
        (b'\xff{"cvv": 1}', CardData.SAD),
        (b"\x00\x01\xff\x7f" * 64, CardData.NONE),
        (b"", CardData.NONE),
    ],
)
def test_bytes_are_looked_through(value: bytes, kind: CardData) -> None:
    """Packed digits, EBCDIC and wide characters are codes like any other."""
    assert kind_of(value) is kind


@pytest.mark.parametrize(
    "text",
    [
        '{"CVV": 1}',
        '{"card-verification-value": 1}',
        '{"a": {"pinBlock": ""}}',
        '{"c\\u0076v": 1}',
        f'{{"note": "%B{VISA}^DOE"}}',
        f'{{"note": ";{VISA}=3012"}}',
    ],
)
def test_sensitive_content_is_seen_in_raw_text(text: str) -> None:
    """Names of fields in any spelling, and tracks, even where the JSON cannot be parsed."""
    assert kind_of(text) is CardData.SAD
    assert kind_of(text[:-1]) is CardData.SAD


@pytest.mark.parametrize("name", SENSITIVE_NAMES)
def test_sensitive_name_is_known_by_its_stem(name: str) -> None:
    """Whatever stands around the stem, and however the words are joined."""
    assert is_sensitive_name(name)


@pytest.mark.parametrize("name", ORDINARY_NAMES)
def test_ordinary_name_is_not_sensitive(name: str) -> None:
    """Letters inside another word, and what came of a check, are no value."""
    assert not is_sensitive_name(name, "M")


def test_value_under_the_name_of_an_outcome_is_sensitive() -> None:
    """Three or four digits are a verification value, whatever their name says."""
    assert is_sensitive_name("cvv_result", "123")
    assert not is_sensitive_name("pin_entry_mode", "051")


@pytest.mark.parametrize(
    "harmless",
    [
        "", "order 1767571200000", VISA[:-1], f"{VISA[:-1]}{(int(VISA[-1]) + 1) % 10}", "9" * 16,
        "601512345678", "0100-123456-601512345678-0105", "4915112345678",
        "2026-11-30T20:57:24.123456", "20261130205724000001", "2611302057240001", f"12{VISA}34",
        "1767571200000000000",
        '{"pan": "x", "terminal_id": "pin-1", "spinning": 1}', "customer-000001", "4" * 65536,
        f"{VISA[:8]}-2026-11-30", "[1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0]",
    ],
)  # fmt: skip
def test_other_texts_are_not_taken_for_cards(harmless: str) -> None:
    """Too short or long, a wrong check digit, a range that nobody issues, times, other ids."""
    assert kind_of(harmless) is CardData.NONE


def _ulid(source: random.Random) -> str:
    return "01" + "".join(source.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=24))


@pytest.mark.parametrize(
    "make",
    [
        lambda source: str(uuid.UUID(int=source.getrandbits(128), version=4)),
        lambda source: f"{source.getrandbits(128):032x}",
        _ulid,
        lambda source: f"6{source.randrange(10**11):011}",
        lambda source: str(source.randrange(1_600_000_000_000, 1_900_000_000_000)),
        lambda source: f"0100-{source.randrange(10**6):06}-6{source.randrange(10**11):011}-1130",
        lambda source: f"b.k1.{source.getrandbits(128):032x}",
    ],
    ids=["UUID", "digest", "ULID", "RRN of 2026", "ms", "switch", "token"],
)
def test_usual_ids_are_not_taken_for_cards(make: Callable[[random.Random], str]) -> None:
    """None of ten thousand of each form that the documentation recommends."""
    source = random.Random(15)  # noqa: S311  # ids of a test

    assert [text for text in (make(source) for _ in range(10_000)) if kind_of(text)] == []


def test_luhn_agrees_with_the_worked_example() -> None:
    """ISO/IEC 7812-1's example, with each last digit."""
    right = [digit for digit in "0123456789" if has_luhn_check("7992739871" + digit)]

    assert right == ["3"]


def test_own_number_is_found_in_an_id() -> None:
    """The record's own number counts with digits around it too."""
    assert holds_own_number(f"c_9{VISA[:8]}/{VISA[8:]}", VISA)
    assert not holds_own_number(pan_of(1), VISA)


@pytest.mark.parametrize(
    ("address", "is_card"),
    [
        ("4111:1111:0:2::", True),
        ("2221:0:0:9::", True),
        ("2001:db8::4111:1111:0:2", True),
        ("2221:0:0:9::1", False),
        ("2600:1700:4:5::17", False),
        ("::1", False),
        ("203.0.113.7", False),
    ],
)
def test_address_may_be_a_card_number(address: str, is_card: bool) -> None:
    """Groups of an IPv6 address are four digits with zeros in front that nobody writes."""
    assert is_card_in_address(address) is is_card


def test_digest_may_be_a_card_number_that_is_filled_up() -> None:
    """Digits of a real digest are no number."""
    assert is_number_in_digest(VISA + "0" * 16)
    assert is_number_in_digest("a" * 16 + VISA)
    assert not is_number_in_digest(VISA + "0123456789abcdef")


def _steps(text: str) -> int:
    """Return how many lines of the detector run for a text."""
    steps = 0

    def count(frame: FrameType, event: str, _argument: object) -> object:
        nonlocal steps
        if "card_data" not in frame.f_code.co_filename:
            return None
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)  # type: ignore[arg-type]  # typeshed asks for a tracer that returns itself
    try:
        kind_of(text)
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize(
    "unit",
    ["4", "4 ", "34 ", "1-", "45", "=", "1=1234", "D1", "1D1101101", "%41", "\\u0034", "&#52;",
     "\\", "a1", '"a":', "pin ", "cvv=1 ", "MDAw", "deadbeef ", "é4", "2026-11-30 "],
)  # fmt: skip
def test_work_grows_with_the_length_alone(unit: str) -> None:
    """Four times the text takes far from sixteen times the steps, whatever it is made of."""
    short, long = unit * (2_048 // len(unit)), unit * (8_192 // len(unit))

    assert _steps(long) <= 6 * _steps(short) + 200
