"""The feeds file: raw topics, and the banks whose records each may carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings, InvalidTransaction
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ALL, LABELS_RAW, RAW
from services.ingest.feeds import Feeds

KAFKA = KafkaSettings(topic_prefix="t-")
TWO = """
[[feed]]
name = "north"
topic = "transactions.raw.north.v1"
labels_topic = "labels.raw.north.v1"
banks = ["bank-north"]

[[feed]]
name = "south"
topic = "transactions.raw.south.v1"
banks = ["bank-south", "bank-west"]
"""


def feeds_of(text: str, folder: Path) -> Feeds:
    """Return the feeds of a file with this text."""
    path = folder / "feeds.toml"
    path.write_text(text)
    return Feeds.read(path, KAFKA)


def test_topic_carries_the_banks_of_its_feed(tmp_path: Path) -> None:
    """Of transactions and labels alike, by the topic's name with the deployment's prefix."""
    feeds = feeds_of(TWO, tmp_path)

    feeds.of("t-transactions.raw.south.v1").check_bank("bank-west")
    for topic in ("t-transactions.raw.north.v1", "t-labels.raw.north.v1"):
        feeds.of(topic).check_bank("bank-north")
        with pytest.raises(InvalidTransaction, match="feed north carries records of bank-north"):
            feeds.of(topic).check_bank("bank-south")


def test_refusal_names_no_value_of_the_record(tmp_path: Path) -> None:
    """What stands in `bank_id` may be anything."""
    feed = feeds_of(TWO, tmp_path).of("t-transactions.raw.north.v1")

    with pytest.raises(InvalidTransaction) as refused:
        feed.check_bank("anything")

    assert refused.value.reason == "BANK_MISMATCH"
    assert "anything" not in str(refused.value)


def test_topics_of_feeds_stand_in_the_place_of_the_raw_ones(tmp_path: Path) -> None:
    """`topics create` and `topics check` look at them as at any; promises are those of raw."""
    topics = feeds_of(TWO, tmp_path).named(ALL)

    by_name = {topic.name: topic for topic in topics}
    assert by_name["transactions.raw.south.v1"].retention_ms == RAW.retention_ms
    assert by_name["labels.raw.north.v1"].retention_ms == LABELS_RAW.retention_ms
    assert ACCEPTED in topics
    assert not {RAW.name, LABELS_RAW.name} & set(by_name)


def test_without_a_file_one_feed_carries_every_bank() -> None:
    """A laptop and an installation of one bank need none."""
    feeds = Feeds.read(None, KAFKA)

    feeds.of(f"t-{RAW.name}").check_bank("any")
    feeds.of(f"t-{LABELS_RAW.name}").check_bank("any")
    assert feeds.knows(f"t-{RAW.name}")
    assert not feeds.knows(f"t-{LABELS_RAW.name}")
    assert not feeds.knows(f"t-{ACCEPTED.name}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"expected \[\[feed\]\]"),
        ("feed = 1", r"expected \[\[feed\]\]"),
        ("[[feed", "expected TOML"),
        ('[[feed]]\nname = "a"\ntopic = "t"', "feed.0.banks"),
        ('[[feed]]\nname = "a"\ntopic = "t"\nbanks = []', "feed.0.banks"),
        ('[[feed]]\nname = "a"\ntopic = "t"\nbanks = ["*", "b"]', "alone, or names"),
        ('[[feed]]\nname = "a"\ntopic = "t"\nbanks = ["b c"]', "feed.0.banks"),
        ('[[feed]]\nname = "A"\ntopic = "t"\nbanks = ["b"]', "feed.0.name"),
        ('[[feed]]\nname = "a"\ntopic = "t\\u0000"\nbanks = ["b"]', "feed.0.topic"),
        ('[[feed]]\nname = "a"\ntopic = "t"\nbanks = ["b"]\nbank = "c"', "feed.0.bank"),
        (
            '[[feed]]\nname = "a"\ntopic = "transactions.accepted.v1"\nbanks = ["b"]',
            "expected a topic that banks write",
        ),
        (TWO.replace("south.v1", "north.v1"), "each topic once"),
        (TWO.replace('"south"', '"north"'), "each name"),
    ],
)
def test_file_that_leaves_something_open_is_refused(
    tmp_path: Path, text: str, expected: str
) -> None:
    """It says where, and what was expected."""
    with pytest.raises(InvalidSettings, match=expected) as refused:
        feeds_of(text, tmp_path)

    assert "feeds.toml" in str(refused.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A name that is spelled wrong is no installation of one bank."""
    with pytest.raises(InvalidSettings, match=r"gone\.toml"):
        Feeds.read(tmp_path / "gone.toml", KAFKA)
