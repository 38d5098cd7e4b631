"""Card numbers are found, masked and tokenised; key files are kept to their owner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.privacy import (
    CARD_TOKEN,
    Tokeniser,
    TokenKeys,
    has_luhn_check,
    holds_number,
    holds_pan,
    holds_sensitive,
    mask_numbers,
    read_secret,
    write_token_keys,
)
from training.messages import luhn_digit, pan_of

VISA = pan_of(0)
# Leading digits of ranges in use, and the length of a number of each.
RANGES = [
    ("4", 13), ("4", 16), ("4", 19), ("51", 16), ("2221", 16), ("2720", 16), ("34", 15),
    ("37", 15), ("6011", 16), ("65", 16), ("3528", 16), ("3589", 16), ("36", 14), ("300", 14),
    ("62", 16), ("62", 19), ("5018", 12), ("6759", 16), ("2200", 16), ("9792", 16), ("8100", 16),
]  # fmt: skip


def number_of(prefix: str, length: int) -> str:
    """Return a number of a range, with its check digit."""
    body = prefix.ljust(length - 1, "0")
    return body + luhn_digit(body)


def arabic(digits: str) -> str:
    """Return digits in Arabic-Indic form."""
    return "".join(chr(0x0660 + int(digit)) for digit in digits)


def wide(digits: str) -> str:
    """Return digits in full width."""
    return "".join(chr(0xFF10 + int(digit)) for digit in digits)


@pytest.mark.parametrize(("prefix", "length"), RANGES)
def test_number_of_each_network_is_found(prefix: str, length: int) -> None:
    """Known issuer range and check digit make a card number."""
    assert holds_pan(f"see {number_of(prefix, length)}.")


@pytest.mark.parametrize(
    "disguise",
    [
        VISA,
        " ".join(VISA),
        f"{VISA[:4]}-{VISA[4:8]}-{VISA[8:12]}-{VISA[12:]}",
        f"{VISA[:6]}..{VISA[6:]}",
        f"{VISA[:6]}\u200b{VISA[6:]}",
        wide(VISA),
        arabic(VISA),
        f"12{VISA}34",
        f"a{VISA}b",
    ],
)
def test_disguised_number_is_found(disguise: str) -> None:
    """Marks between digits, digits of other scripts and digits around it hide nothing."""
    assert holds_pan(disguise)


@pytest.mark.parametrize(
    "harmless",
    ["", "order 1767571200000", VISA[:-1], f"{VISA[:-1]}{(int(VISA[-1]) + 1) % 10}", "9" * 16],
)
def test_other_numbers_are_not_taken_for_cards(harmless: str) -> None:
    """Too short, a wrong check digit, or a range that nobody issues."""
    assert not holds_pan(harmless)


def test_luhn_agrees_with_the_worked_example() -> None:
    """ISO/IEC 7812-1's example, with each last digit."""
    right = [digit for digit in "0123456789" if has_luhn_check("7992739871" + digit)]

    assert right == ["3"]


def test_own_number_is_found_in_an_id() -> None:
    """Only the record's own number counts in an id; marks do not hide it."""
    assert holds_number(f"c_{VISA[:8]}/{VISA[8:]}", VISA)
    assert holds_number(wide(VISA), VISA)
    assert not holds_number(pan_of(1), VISA)


@pytest.mark.parametrize(
    "text", [VISA, " ".join(VISA), wide(VISA), "".join(f"\\u003{digit}" for digit in VISA)]
)
def test_mask_leaves_no_digit_of_a_number(text: str) -> None:
    """However a number is written, JSON escapes too, nothing of it stays."""
    assert mask_numbers(f"pan {text}!") == "pan ****!"


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
    assert holds_sensitive(text)
    assert holds_sensitive(text[:-1])


def test_ordinary_record_is_not_sensitive() -> None:
    """`terminal_id` holds the letters of `pin` in no way that counts."""
    assert not holds_sensitive('{"pan": "x", "terminal_id": "pin-1", "spinning": 1}')


def test_token_holds_bank_and_key_and_depends_on_all_three() -> None:
    """Another bank, card or key gives another token; the same three give the same one."""
    keys = TokenKeys("k2", {"k1": bytes(32), "k2": bytes(range(32))})
    tokeniser = Tokeniser(keys)
    token = tokeniser.token_of("bank-a", VISA)
    others = {
        tokeniser.token_of("bank-b", VISA),
        tokeniser.token_of("bank-a", pan_of(1)),
        Tokeniser(TokenKeys("k1", keys.keys)).token_of("bank-a", VISA),
    }

    assert token.startswith("bank-a.k2.")
    assert CARD_TOKEN.fullmatch(token)
    assert token == tokeniser.token_of("bank-a", VISA)
    assert token not in others
    assert len({other.rpartition(".")[2] for other in (*others, token)}) == 4


def test_token_is_the_keyed_hash_of_the_standard() -> None:
    """RFC 2104 by its definition, over bank, separator and number."""
    import hashlib

    key = bytes(range(32))
    inner = bytes(byte ^ 0x36 for byte in key.ljust(64, b"\0"))
    outer = bytes(byte ^ 0x5C for byte in key.ljust(64, b"\0"))
    message = f"bank-a\x1f{VISA}".encode()
    expected = hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).hexdigest()

    token = Tokeniser(TokenKeys("k1", {"k1": key})).token_of("bank-a", VISA)

    assert token == f"bank-a.k1.{expected[:32]}"


def test_tokens_of_older_keys_can_be_looked_up(tmp_path: Path) -> None:
    """After a rotation a card has one token for each key that is still kept."""
    old = Tokeniser(TokenKeys("k1", {"k1": bytes(32)}))
    rotated = Tokeniser(TokenKeys("k2", {"k1": bytes(32), "k2": bytes(range(32))}))

    assert old.token_of("bank-a", VISA) in rotated.tokens_of("bank-a", VISA)
    assert rotated.token_of("bank-a", VISA) in rotated.tokens_of("bank-a", VISA)


def test_new_key_file_is_its_owners_alone_and_loads(tmp_path: Path) -> None:
    """Mode 0400, another key each time, and never written over."""
    write_token_keys(tmp_path / "one")
    write_token_keys(tmp_path / "two")

    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o400
    assert TokenKeys.load(tmp_path / "one").keys != TokenKeys.load(tmp_path / "two").keys
    with pytest.raises(InvalidSettings, match="exists"):
        write_token_keys(tmp_path / "one")


@pytest.mark.parametrize(
    ("mode", "is_read"),
    [(0o400, True), (0o440, True), (0o444, False), (0o660, False), (0o604, False)],
)
def test_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int, is_read: bool) -> None:
    """A group may read (Kubernetes' way), others may not; only the owner may write."""
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(mode)

    if is_read:
        assert read_secret(path) == "x"
    else:
        with pytest.raises(InvalidSettings, match="0400"):
            read_secret(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        json.dumps({"active": "k1", "keys": {}}),
        json.dumps({"active": "k1", "keys": {"k1": "00"}}),
        json.dumps({"active": "k1", "keys": {"K 1": "00" * 32, "k1": "00" * 32}}),
        json.dumps({"active": "k1", "keys": {"k1": "xy" * 32}}),
    ],
)
def test_file_that_holds_no_keys_is_refused(tmp_path: Path, content: str) -> None:
    """A service with no key does not start."""
    path = tmp_path / "keys"
    path.write_text(content)
    path.chmod(0o400)

    with pytest.raises(InvalidSettings, match="token keys"):
        TokenKeys.load(path)
