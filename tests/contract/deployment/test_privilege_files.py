"""The scripts in `ops/` are what the table of privileges says, and the table knows every topic."""

from __future__ import annotations

import re
from typing import Final

from fraudstream.privileges import PEOPLE, PRINCIPALS, SERVICES, writer_rooms
from fraudstream.settings import KafkaSettings, RedisSettings
from fraudstream.topics import ALL
from harness.processes import PROJECT_FOLDER
from services.ingest.feeds import Feed, Feeds
from services.ingest.setup.privileges_command import kafka_script, store_users

PAGE: Final = (PROJECT_FOLDER / "docs" / "data.md").read_text()
OPS: Final = PROJECT_FOLDER / "ops"


def test_kafka_script_is_that_of_the_table() -> None:
    """Made again by `python -m services.ingest privileges kafka >ops/kafka/acls.sh`."""
    assert (OPS / "kafka" / "acls.sh").read_text() == kafka_script(KafkaSettings())


def test_store_users_are_those_of_the_table() -> None:
    """Made again by `python -m services.ingest privileges store >ops/valkey/users.acl`."""
    found = (OPS / "valkey" / "users.acl").read_text()

    assert found == store_users(KafkaSettings(), RedisSettings(), None)


def test_page_has_the_rights_of_every_principal() -> None:
    """A row for each, as the table has them."""
    section = PAGE.partition("\n## Who may do what\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    found = {
        row[0].strip().strip("`"): [re.findall("`([^`]+)`", cell) for cell in row[1:]]
        for row in lines
    }
    expected = {
        one.name: [
            [topic.name for topic in one.reads],
            [topic.name for topic in one.writes],
            [one.group] if one.group else [],
            [*one.store.writes, *one.store.reads] if one.store else [],
        ]
        for one in PRINCIPALS
    }

    assert found == expected


def test_every_topic_is_written_by_whom_it_names() -> None:
    """A room that may write a topic is one that `fraudstream.topics` says writes it."""
    commands = {one.room for one in PEOPLE} - {"banks", "command line"}
    strangers = {
        topic.name: strange
        for topic in ALL
        if (strange := writer_rooms(topic) - set(topic.writers) - commands)
    }

    assert strangers == {}


def test_every_topic_has_a_writer_and_a_reader() -> None:
    """One that nobody may use was forgotten here."""
    written = {topic for one in PRINCIPALS for topic in one.writes}
    read = {topic for one in PRINCIPALS for topic in one.reads}

    assert {topic.name for topic in ALL if topic not in written} == set()
    assert {topic.name for topic in ALL if topic not in read} == set()


def test_card_numbers_are_within_reach_of_ingest_alone() -> None:
    """The raw topic may hold them: no other service reads it."""
    readers = {one.name for one in PRINCIPALS for topic in one.reads if "raw" in topic.name}

    assert readers == {"ingest", "labels"}


def test_no_service_has_rights_of_people() -> None:
    """Publishing rules, making topics and reading dead letters stay with persons."""
    assert all(not one.operations for one in SERVICES)
    written = {topic.name for one in SERVICES for topic in one.writes}
    read = {topic.name for one in SERVICES for topic in one.reads}

    assert "rules.published.v1" not in written
    assert "transactions.raw.v1" not in written
    assert "transactions.dlq.v1" not in read


def test_banks_that_send_have_users_of_their_own() -> None:
    """`--bank` puts a user for each bank in place of the one that stands for all."""
    script = kafka_script(KafkaSettings(), ["north", "south"])

    assert "User:fraudstream-bank-north " in script
    assert "User:fraudstream-bank-south " in script
    assert "User:fraudstream-bank " not in script


def test_feeds_have_users_that_write_to_no_other_feed() -> None:
    """With feeds the raw topics of all banks are gone, for every principal."""
    feeds = Feeds(
        [
            Feed(name=name, topic=f"raw.{name}.v1", labels_topic=f"labels.{name}.v1", banks=(name,))
            for name in ("north", "south")
        ]
    )

    lines = kafka_script(KafkaSettings(), feeds=feeds).splitlines()

    assert [line for line in lines if "fraudstream-bank-north " in line] == [
        "allow User:fraudstream-bank-north --operation Write"
        " --topic raw.north.v1 --topic labels.north.v1"
    ]
    assert not [line for line in lines if "transactions.raw.v1" in line or "labels.raw.v1" in line]
    (ingest,) = [line for line in lines if "fraudstream-ingest --operation Read" in line]
    assert "--topic raw.north.v1 --topic raw.south.v1" in ingest
