"""MACs of records: what a writer of ours signed comes through both clients, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from fraudstream.broker.clients import OutRecord, RecordSigner
from fraudstream.broker.wire import record_keys
from fraudstream.broker.wire.record_keys import (
    KeyFile,
    RecordKeys,
    file_name,
    files_of,
    hold,
    hold_as,
    make_files,
)
from fraudstream.broker.wire.record_macs import LIFE_MS, MAC, Origin, writer_of
from fraudstream.broker.wire.records import Record
from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import Purpose, replace_secret
from fraudstream.privileges import principal
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ALERTS, ALL, DECISIONS
from services.ingest.cli import main
from tests.material.kafka_bytes import batch_of, record_body
from tests.unit.broker.test_client_patches import READERS

NOW_MS = 1_790_000_000_000
PLACE = Origin(ACCEPTED.name, 3)
TWO = (OutRecord(b"card", b"first", 3, [("traceparent", b"t")]), OutRecord(b"card", b"last", 3))


@pytest.fixture
def keys(tmp_path: Path) -> RecordKeys:
    """Keys of all writers and topics."""
    make_files(tmp_path / "keys")
    return RecordKeys(tmp_path / "keys")


def signed(keys: RecordKeys, writer: str, records: Sequence[OutRecord]) -> list[Record]:
    """Return what a writer sends to the accepted topic, as a reader finds it."""
    key = keys.signing_key(writer, ACCEPTED.name)
    assert key
    return as_read([*records[:-1], with_mac(records[-1], key.header(PLACE, NOW_MS, records))])


def save(file: KeyFile, path: Path) -> None:
    """Put a key file in its place, as the commands do."""
    replace_secret(path, file.text(), Purpose.RECORD_KEYS)


def with_mac(record: OutRecord, mac: tuple[str, bytes]) -> OutRecord:
    """Return a record with one more header."""
    return record._replace(headers=(*record.headers, mac))


def as_read(records: Sequence[OutRecord], appended_ms: int = NOW_MS) -> list[Record]:
    """Return records as a reader finds them, stamped by the broker."""
    return [
        Record(100 + at, appended_ms, 1, record.key, record.value, list(record.headers))
        for at, record in enumerate(records)
    ]


def judged(
    keys: RecordKeys, records: Sequence[Record], place: Origin = PLACE
) -> tuple[list[Record], list[str]]:
    """Return the records that are trusted, and why the others are not."""
    causes: list[str] = []
    trusted = keys.trusted(place.topic)
    assert trusted
    # The MAC is taken out of what is read, which these tests read more than once.
    copies = [record._replace(headers=list(record.headers)) for record in records]
    found = list(
        trusted.trusted(copies, place, lambda chunk, why: causes.extend([why] * len(chunk)))
    )
    return found, causes


def test_signed_run_comes_through_without_its_mac(keys: RecordKeys) -> None:
    """A reader of a topic of several writers learns who wrote it."""
    found, causes = judged(keys, signed(keys, "scoring", TWO))

    assert [record.value for record in found] == [b"first", b"last"]
    assert [writer_of(record.headers) for record in found] == ["scoring", "scoring"]
    assert MAC not in {name for record in found for name, _ in record.headers}
    assert not causes


def test_every_change_is_noticed(keys: RecordKeys) -> None:
    """Key, value, headers, number and order of a run's records are bound."""
    first, last = signed(keys, "ingest", TWO)
    changed = [
        [first._replace(value=b"other"), last],
        [first._replace(key=b"other"), last],
        [first._replace(key=None), last],
        [first._replace(key=b"cardf", value=b"irst"), last],
        [first._replace(headers=[]), last],
        [first._replace(headers=[("traceparent", b"x")]), last],
        [last],
        [first, first, last],
        [last._replace(headers=[]), first._replace(headers=last.headers)],
    ]

    assert [judged(keys, run)[0] for run in changed] == [[]] * len(changed)


def test_forged_records_cost_themselves_only(keys: RecordKeys) -> None:
    """Runs before and behind are read."""
    run = signed(keys, "ingest", TWO)
    forged = as_read([with_mac(TWO[0], (MAC, run[-1].headers[-1][1] or b""))])

    found, causes = judged(keys, [*run, *forged, *run])

    assert len(found) == 4
    assert causes == ["its MAC is not that of ingest.k1"]


@pytest.mark.parametrize("mac", [b"", b"\x01", b"\x02" + bytes(24), b"\x01" + bytes(24) + b"no.k1"])
def test_header_of_another_form_is_refused(keys: RecordKeys, mac: bytes) -> None:
    """Whatever stands there, nothing is raised."""
    found, causes = judged(keys, as_read([with_mac(TWO[0], (MAC, mac))]))

    assert not found
    assert len(causes) == 1


def test_record_without_mac_is_refused(keys: RecordKeys) -> None:
    """Write access to a topic is not enough."""
    found, causes = judged(keys, as_read(TWO))

    assert not found
    assert causes == ["expected a MAC, found none"] * 2


def test_record_passes_in_its_own_place_only(keys: RecordKeys) -> None:
    """Neither in another partition nor under the key of another writer or topic."""
    run = signed(keys, "scoring", TWO)
    key = keys.signing_key("scoring", DECISIONS.name)
    assert key
    of_decisions = as_read(
        [with_mac(TWO[0], key.header(Origin(DECISIONS.name, 3), NOW_MS, TWO[:1]))]
    )

    assert judged(keys, run, PLACE._replace(partition=4))[0] == []
    assert judged(keys, of_decisions)[0] == []


def test_true_record_that_is_written_again_passes_for_an_hour(keys: RecordKeys) -> None:
    """By the broker's clock; in a replay of old traffic the clock is the sender's."""
    run = signed(keys, "ingest", TWO)
    at_last = [record._replace(timestamp=NOW_MS + LIFE_MS) for record in run]
    too_late = [record._replace(timestamp=NOW_MS + LIFE_MS + 1) for record in run]
    of_replay = [record._replace(timestamp=0, timestamp_type=0) for record in run]

    assert len(judged(keys, at_last)[0]) == 2
    assert judged(keys, too_late)[0] == []
    assert len(judged(keys, of_replay)[0]) == 2


def test_records_from_before_an_upgrade_are_told_by_the_brokers_clock(tmp_path: Path) -> None:
    """A sender's own stamp makes no record old."""
    make_files(tmp_path / "keys", required_from_ms=NOW_MS)
    keys = RecordKeys(tmp_path / "keys")
    old, new = as_read(TWO, NOW_MS - 1), as_read(TWO, NOW_MS)

    assert judged(keys, old)[0] == old
    assert judged(keys, new)[0] == []
    assert judged(keys, [record._replace(timestamp_type=0) for record in old])[0] == []


def test_rotation_loses_no_record(tmp_path: Path) -> None:
    """A new key is known to all readers before a writer signs with it."""
    folder = tmp_path / "keys"
    make_files(folder)
    path = folder / file_name("ingest", ACCEPTED)
    before = signed(RecordKeys(folder), "ingest", TWO)

    save(KeyFile.load(path).with_new_key(), path)
    reader = RecordKeys(folder)
    save(KeyFile.load(path).with_newest_active(), path)
    after = signed(RecordKeys(folder), "ingest", TWO)

    assert len(judged(reader, [*before, *after])[0]) == 4
    save(KeyFile.load(path).without_old(), path)
    assert len(judged(RecordKeys(folder), [*before, *after])[0]) == 2


def test_commands_make_and_rotate_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`keys records make`, `add`, `activate`, `drop`, and `list` for who mounts them."""
    folder = str(tmp_path / "keys")
    for words in (["make", "--required-from", "2026-12-01T12:00:00Z"], ["add"], ["activate"]):
        assert main(["keys", "records", *words, folder]) == os.EX_OK
    rotated = KeyFile.load(tmp_path / "keys" / file_name("ingest", ACCEPTED))

    assert (rotated.active, list(rotated.keys)) == ("k2", ["k1", "k2"])
    assert rotated.required_from_ms == 1_796_126_400_000
    assert main(["keys", "records", "drop", folder]) == os.EX_OK
    assert list(KeyFile.load(tmp_path / "keys" / file_name("ingest", ACCEPTED)).keys) == ["k2"]
    capsys.readouterr()
    assert main(["keys", "records", "list", "console"]) == os.EX_OK
    assert capsys.readouterr().out.split() == files_of(principal("console"))
    assert main(["keys", "records", "list"]) == os.EX_OK
    all_lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in all_lines if line.startswith("console ")] == files_of(
        principal("console")
    )


@pytest.mark.parametrize("read", READERS)
def test_both_clients_pass_forged_records_over(
    read: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before anybody parses them; the log names the place."""
    make_files(tmp_path / "keys")
    prefix = f"{read.__name__}-"  # type: ignore[attr-defined]
    kafka = KafkaSettings(topic_prefix=prefix, record_keys_dir=tmp_path / "keys")
    hold(kafka)
    name = kafka.topic(ALERTS)
    records = RecordSigner(kafka, "scoring").signed(name, [r._replace(partition=3) for r in TWO])
    bodies = [
        record_body(at, one.value, key=one.key, headers=[(n.encode(), c) for n, c in one.headers])
        for at, one in enumerate(records)
    ]

    found = read(batch_of(bodies), 100, name)  # type: ignore[operator]
    forged = read(batch_of(bodies[:1]), 100, name)  # type: ignore[operator]

    assert [record.value for record in found] == [b"first", b"last"]
    assert forged == []
    assert f"{name}, partition 3, offset 100 is passed over, UNTRUSTED" in caplog.text


def test_service_needs_its_files(tmp_path: Path) -> None:
    """Of what it writes and of what it reads, and no other's."""
    make_files(tmp_path / "keys")
    kafka = KafkaSettings(record_keys_dir=tmp_path / "keys", topic_prefix="files-")
    console = tmp_path / "console"
    console.mkdir()
    for name in files_of(principal("console")):
        (tmp_path / "keys" / name).rename(console / name)

    hold_as(kafka.model_copy(update={"record_keys_dir": console}), "console")
    with pytest.raises(InvalidSettings, match=r"ingest\.transactions"):
        RecordKeys(console).trusted(ACCEPTED.name)
    with pytest.raises(InvalidSettings, match=r"scoring\.alerts\.raised\.v1\.json"):
        RecordKeys(tmp_path / "keys").signing_key("scoring", ALERTS.name)
    with pytest.raises(InvalidSettings, match=r"expected also .*accepted"):
        RecordKeys(console).check(principal("scoring"))


def test_keys_are_needed_beyond_this_machine() -> None:
    """Write access to the broker may be anybody's there."""
    with pytest.raises(InvalidSettings, match="FRAUD_KAFKA_RECORD_KEYS_DIR is not set"):
        hold(KafkaSettings(bootstrap="127.0.0.1:9092,kafka:9092"))

    assert hold(KafkaSettings(bootstrap="localhost:1,[::1]:2,127.9.9.9:3")) is None
    assert hold(KafkaSettings(bootstrap="kafka:9092", is_embedded=True)) is None


def test_key_files_are_secret_and_never_replaced(tmp_path: Path) -> None:
    """`make` adds what is missing; only their owner reads them."""
    first = make_files(tmp_path)
    text = first[0].read_text()

    assert first[0].stat().st_mode & 0o777 == 0o400
    assert make_files(tmp_path) == []
    assert first[0].read_text() == text
    assert len(first) == 1 + sum(len(topic.writers) for topic in record_keys.SIGNED)


def test_file_that_holds_no_keys_is_refused(tmp_path: Path) -> None:
    """With what was expected, and without what was found."""
    path = tmp_path / file_name("ingest", ACCEPTED)
    path.write_text(json.dumps({"active": "k2", "keys": {"k1": "00" * 32}}))
    path.chmod(0o400)

    with pytest.raises(InvalidSettings, match="active is one"):
        RecordKeys(tmp_path)


def test_what_services_trust_is_signed() -> None:
    """All but what banks or people sign or send, and what no service takes for true."""
    unsigned = {topic.name for topic in ALL if not topic.is_signed and "banks" not in topic.writers}

    assert unsigned == {
        "transactions.late.v1",
        "quarantine.v1",
        "rules.published.v1",
    }
