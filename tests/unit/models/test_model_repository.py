"""The ledger as a reader checks it: chain, signatures, tail, and the files it speaks of."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings, ModelRefused
from fraudstream.models.ledger_entry import LedgerAction, LedgerEntry, LedgerHead
from fraudstream.models.repository import (
    FUTURE_MS,
    ModelRepository,
    keep_head,
    read_head,
    verify_ledger,
)
from fraudstream.runtime.clock import epoch_ms
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.promotion_world import DAY_MS, PromotionWorld, promotion_world
from tests.worlds.trust import PEOPLE, served


@pytest.fixture
def world(tmp_path: Path) -> PromotionWorld:
    """A repository with one champion: three entries."""
    world = promotion_world(tmp_path)
    world.crown("lstm/1")
    return world


def lines_of(world: PromotionWorld) -> list[bytes]:
    """Return the lines of the ledger."""
    return world.ledger.splitlines()


def refusal_of(world: PromotionWorld, lines: list[bytes], seen: LedgerHead | None = None) -> str:
    """Return why a ledger of these lines is refused."""
    content = b"".join(line + b"\n" for line in lines)
    with pytest.raises(ModelRefused) as refused:
        verify_ledger(content, world.people, world.now_ms, seen)
    return str(refused.value)


def respelled(line: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """Return a line with another content, written as the ledger writes."""
    content = json.loads(line)
    change(content)
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def test_empty_repository_serves_nothing(tmp_path: Path) -> None:
    """No ledger is a beginning, not a fault; asking for its champion says what to do."""
    world = promotion_world(tmp_path)

    standing = world.standing()

    assert standing.champion is None
    with pytest.raises(ModelRefused, match=r"MODEL_UNKNOWN.*no model is promoted yet"):
        world.repository.load_champion(standing)


def test_edited_entry_is_found_by_its_signature(world: PromotionWorld) -> None:
    """Words put in somebody's mouth are not signed by them."""

    def edit(content: dict[str, object]) -> None:
        content["order"]["why"] = "another reason"  # type: ignore[index]  # JSON of a test

    lines = lines_of(world)
    lines[1] = respelled(lines[1], edit)

    assert "entry 2: the signature of 'alice' is not under this content" in refusal_of(world, lines)


def test_entry_signed_again_breaks_the_chain(world: PromotionWorld) -> None:
    """Somebody with a good key rewrites an old order; the entries after it tell."""
    lines = lines_of(world)
    first, second = LedgerEntry.parse(lines[0]), LedgerEntry.parse(lines[1])
    order = second.order.model_copy(update={"why": "another reason"})
    signer = world.signers["alice"]
    lines[1] = LedgerEntry.sign(order, first.head(), second.time_ms, signer).line()

    assert "the chain is broken at entry 3" in refusal_of(world, lines)


def test_missing_entry_is_found_by_its_number(world: PromotionWorld) -> None:
    """An order taken out leaves a hole."""
    lines = lines_of(world)

    assert "expected entry 2, found 3" in refusal_of(world, [lines[0], lines[2]])


def test_repeated_entry_is_found_by_its_number(world: PromotionWorld) -> None:
    """An order given once counts once."""
    lines = lines_of(world)

    assert "expected entry 4, found 3" in refusal_of(world, [*lines, lines[2]])


def test_signature_moved_from_another_entry_is_refused(world: PromotionWorld) -> None:
    """Bob's signature under one order is none under the next."""
    world.add("lstm/2")
    world.propose("lstm/2", who="alice")
    lines = lines_of(world)
    approval = LedgerEntry.parse(lines[2])
    moved = respelled(
        lines[4], lambda content: content.update(signature=approval.signature.model_dump())
    )

    message = refusal_of(world, [*lines[:4], moved])

    assert "entry 5: the signature of 'bob' is not under this content" in message


def test_cut_tail_is_an_earlier_ledger_to_who_knows_no_later_head(world: PromotionWorld) -> None:
    """What is missing at the end cannot be seen in what is left; a kept head shows it."""
    head = world.standing().head
    lines = lines_of(world)[:2]

    standing = verify_ledger(b"\n".join(lines) + b"\n", world.people, world.now_ms)
    message = refusal_of(world, lines, seen=head)

    assert standing.champion is None
    assert "the ledger ends with entry 2, entry 3 was seen before: its tail was cut off" in message


def test_other_history_of_the_same_length_is_refused(world: PromotionWorld) -> None:
    """A head is a number and a hash."""
    seen = LedgerHead(sequence=3, sha256="ab" * 32)

    assert "entry 3 is not the one that was seen" in refusal_of(world, lines_of(world), seen=seen)


def test_seen_head_lets_a_longer_ledger_pass(world: PromotionWorld) -> None:
    """Going on is what ledgers do."""
    seen = world.standing().head
    world.add("lstm/2")

    assert world.standing(seen).head.sequence == 4


def test_torn_last_line_is_refused_with_how_to_mend_it(world: PromotionWorld) -> None:
    """A write that was cut off gave no order; what the message says puts it right."""
    whole = world.ledger
    world.add("lstm/2")
    world.repository.ledger.write_bytes(world.ledger[:-9])

    with pytest.raises(ModelRefused, match=r"last line of ledger\.jsonl is torn") as refused:
        world.standing()
    assert f"truncate -s {len(whole)} ledger.jsonl" in str(refused.value)

    with world.repository.ledger.open("r+b") as file:
        file.truncate(len(whole))
    assert world.standing().head.sequence == 3


def test_same_content_in_another_spelling_is_refused(world: PromotionWorld) -> None:
    """One entry has one spelling, or its hash would have two."""
    lines = lines_of(world)
    lines[2] = json.dumps(json.loads(lines[2])).encode()

    assert "entry 3 is not written as it was signed" in refusal_of(world, lines)


def test_line_that_is_no_entry_is_named(world: PromotionWorld) -> None:
    """A line of something else says so."""
    assert "a line is not an entry" in refusal_of(world, [*lines_of(world), b"{}"])


def test_endless_line_is_refused_before_it_is_read(world: PromotionWorld) -> None:
    """An entry is short."""
    assert "line 4 has more than" in refusal_of(world, [*lines_of(world), b"x" * 9_000])


def test_entry_from_the_future_is_refused(world: PromotionWorld) -> None:
    """Who signs for a later day, signs for a day on which they may not be here."""
    world.now_ms += FUTURE_MS + 2_000
    world.add("lstm/2")
    world.now_ms -= FUTURE_MS + 2_000

    assert "entry 4 is signed for a time to come" in refusal_of(world, lines_of(world))


def test_time_of_the_ledger_never_goes_back(world: PromotionWorld) -> None:
    """Else who left could sign for a day on which they were here."""
    lines = lines_of(world)
    last = LedgerEntry.parse(lines[2])
    order = last.order.model_copy(update={"action": LedgerAction.SHADOW})
    early = LedgerEntry.sign(order, last.head(), last.time_ms - DAY_MS, world.signers["bob"])

    message = refusal_of(world, [*lines, early.line()])

    assert "entry 4 is older than the entry before it" in message


def test_person_who_left_keeps_what_they_signed(world: PromotionWorld) -> None:
    """An end in the file of people is no end of the past."""
    until = {"until": "2025-11-26"}
    bob = world.people.by_name["bob"].model_copy(update=until)
    world.people.by_name["bob"] = bob
    world.now_ms += 40 * DAY_MS

    assert str(world.standing().champion) == "lstm/1"
    assert "'bob' count until" in world.refusal("order", "bob", "retire", "lstm/1")[1]


def test_person_taken_out_of_the_file_takes_the_ledger_along(world: PromotionWorld) -> None:
    """Nobody can check what a stranger signed."""
    del world.people.by_name["bob"]

    told = refusal_of(world, lines_of(world))
    assert re.search("entry 3: the signer is none of the [0-9]+ in the file of people", told)


def test_champion_is_the_artefact_that_was_added(tmp_path: Path) -> None:
    """Another model that the same trainer signed is not served in its place."""
    for name, bias in (("one", 1.0), ("other", 2.0)):
        tiny_artefact(tmp_path / name, bias=bias)
    repository = ModelRepository(Path(served(tmp_path / "one")["model"]), PEOPLE, epoch_ms)
    standing = repository.read()
    champion = repository.load_champion(standing)
    (folder,) = repository.folder.glob("artefacts/tiny/*")
    shutil.rmtree(folder)

    with pytest.raises(ModelRefused, match=r"MODEL_FORMAT.*manifest\.json, found none"):
        repository.load_champion(standing)
    shutil.copytree(tmp_path / "other", folder)
    with pytest.raises(ModelRefused, match=r"MODEL_UNTRUSTED.*is not the artefact that was added"):
        repository.load_champion(standing)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "one", folder)
    assert repository.load_champion(standing).model_hash == champion.model_hash


def test_ledger_that_cannot_be_read_is_refused(world: PromotionWorld) -> None:
    """A folder in its place is no ledger."""
    world.repository.ledger.unlink()
    world.repository.ledger.mkdir()

    with pytest.raises(ModelRefused, match=r"ledger\.jsonl cannot be read"):
        world.standing()


def test_head_is_kept_and_found(world: PromotionWorld, tmp_path: Path) -> None:
    """A reader remembers how far a ledger was, and takes it as commands print it."""
    head = world.standing().head
    keep_head(tmp_path / "head.json", head)

    assert read_head(tmp_path / "head.json") == head
    assert LedgerHead.parse(str(head)) == head
    assert read_head(tmp_path / "none.json") is None


def test_head_that_is_none_is_refused(tmp_path: Path) -> None:
    """A head is a number and a hash."""
    (tmp_path / "head.json").write_text("{}x")

    with pytest.raises(InvalidSettings, match="expected the head of a ledger"):
        read_head(tmp_path / "head.json")
    with pytest.raises(InvalidSettings, match="SEQUENCE:SHA256"):
        LedgerHead.parse("seven")
    with pytest.raises(InvalidSettings, match="head cannot be kept"):
        keep_head(tmp_path / "none" / "head.json", LedgerHead())
