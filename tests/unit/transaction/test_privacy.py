"""Cards are tokenised; key files are kept to their owner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import read_secret
from fraudstream.transaction.card_token import (
    CARD_TOKEN,
    Tokeniser,
    TokenKeys,
    write_token_keys,
)
from training.simulator.messages import pan_of

VISA = pan_of(0)


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
