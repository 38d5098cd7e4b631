"""Samples as files: which cannot be read, and what is drawn for each sending."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.holder import FIRST_HOLDER, HOLDERS
from demo.sample import holder_in_turn, read_sample
from fraudstream.errors import InvalidSettings
from tests.material.bad_samples import SAMPLES


def test_a_sample_that_cannot_be_read_is_told_in_words(tmp_path: Path) -> None:
    """A missing file, a folder and a file of bytes: no name of a Python error."""
    (tmp_path / "bytes.json").write_bytes(b"\xff")
    words = {
        "none.json": "there is no file",
        ".": "Is a directory",
        "bytes.json": "not UTF-8 text",
    }

    for name, expected in words.items():
        with pytest.raises(InvalidSettings, match=expected) as refused:
            read_sample(tmp_path / name, 0)
        assert "Error" not in str(refused.value)


def test_a_burst_of_a_sample_takes_a_card_each() -> None:
    """A minute of sending, one every 400 ms: no card pays twice."""
    path = SAMPLES / "challenge.json"
    sent = [json.loads(read_sample(path, n * 400))["pan"] for n in range(150)]

    assert len(set(sent)) == len(sent)


def test_every_holder_in_turn_is_of_the_samples_bank_and_has_a_past() -> None:
    """The last digit of a card says its bank; the number, whether a month was loaded for it."""
    holders = {holder_in_turn(n * 200) for n in range(1_000)}

    assert len(holders) == HOLDERS * 7 // 10
    assert all(number % 10 < 7 for number in holders)
    assert FIRST_HOLDER <= min(holders) <= max(holders) < FIRST_HOLDER + HOLDERS
