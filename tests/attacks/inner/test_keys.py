"""Card numbers on the brokers' disks, and key files that were put in another's place or cut."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, DLQ
from fraudstream.transaction.json_form import decode_json
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from harness.servers import ApacheKafka, ValkeyServer
from harness.service_process import ServiceProcess
from tests.conftest import create_topics, environment_of_test
from tests.integration.ingest.test_ingest import TIMEOUT_S, Raw, command
from tests.material.bad_samples import good_sample
from training.simulator.messages import pan_of

pytestmark = pytest.mark.attack

CARDS = [pan_of(20_000 + number) for number in range(20)]
CLEAR = pan_of(20_100)
PROTOBUF = [("content-type", b"application/x-protobuf")]


def run(environment: Mapping[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the project, to its end."""
    told = {name: text for name, text in os.environ.items() if not name.startswith("FRAUD_")}
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        env=told | dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def record_of(pan: str, number: int, public_key: bytes) -> dict[str, Any]:
    """Return a good record whose number is sealed."""
    from fraudstream.sealed_pan import seal_pan

    fields: dict[str, Any] = json.loads(good_sample(epoch_ms())) | {"transaction_id": f"s-{number}"}
    del fields["pan"]
    return fields | seal_pan(public_key, fields["bank_id"], f"s-{number}", pan).json_fields()


def make_kek(path: Path) -> dict[str, str]:
    """Make a key-encrypting key; return the variables that have key files wrapped under it."""
    from fraudstream.keys.cli import main

    assert main(["kek", str(path)]) == 0
    return {"FRAUD_KEYS_KEK_FILE": str(path)}


def make_keys(environment: Mapping[str, str], *words: str | Path) -> None:
    """Have ingest make keys, in this process: each start of its own costs seconds."""
    assert command(["keys", *map(str, words)], environment) == 0


@dataclass(frozen=True)
class SealedLine:
    """What an ingest made of good records, bad ones and attacks, on wrapped keys alone."""

    environment: dict[str, str]
    keys: tuple[Path, ...]
    attacks: tuple[str, ...]
    accepted: list[Any]
    letters: list[Any]


@pytest.fixture(scope="module")
def sealed_line(
    kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> SealedLine:
    """An ingest that takes sealed numbers only, by key files as the production overlay asks."""
    folder = tmp_path_factory.mktemp("sealed")
    kek = make_kek(folder / "kek.json") | {"FRAUD_KEYS_REQUIRES_WRAPPED": "true"}
    make_keys(kek, "token", folder / "token.json")
    make_keys(kek, "seal", folder / "letters.key", folder / "letters.pub")
    make_keys(kek, "pan", folder / "pan")
    shown = run(kek, "services.ingest", "keys", "public", folder / "pan")
    environment = environment_of_test(kafka_broker, valkey) | kek
    environment |= {
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(folder / "token.json"),
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(folder / "letters.pub"),
        "FRAUD_INGEST_PAN_PRIVATE_KEYS": str(folder / "pan"),
        "FRAUD_INGEST_REQUIRES_SEALED_PAN": "true",
    }
    create_topics(environment, folder)
    ingest = ServiceProcess("services.ingest", [], environment, folder)
    ingest.start(TIMEOUT_S)
    public_key = base64.b64decode(json.loads(shown.stdout)["public_key"])
    attacks = attacks_of(public_key)
    with closing(Raw(environment)) as raw:
        send_records(raw, public_key)
        for record in attacks.values():
            raw.send(json.dumps(record).encode())
        raw.send(json.dumps(record_of(CARDS[0], 200, public_key)).encode())
        accepted = raw.read(ACCEPTED, len(CARDS) + 1)
        letters = raw.read(DLQ, len(CARDS) + len(attacks))
    ingest.stop()
    keys = (folder / "token.json", folder / "letters.key", *folder.glob("pan/*.key"))
    return SealedLine(environment, keys, tuple(attacks), accepted, letters)


def send_records(raw: Raw, public_key: bytes) -> None:
    """Send each card in a good record, by both formats in turn, and in one with a fault."""
    records = [record_of(pan, number, public_key) for number, pan in enumerate(CARDS)]
    for record in records[::2]:
        raw.send(json.dumps(record).encode())
    for record in records[1::2]:
        raw.send(decode_json(json.dumps(record).encode()).SerializeToString(), PROTOBUF)
    for record in records:
        raw.send(json.dumps(record | {"amount_minor": -1}).encode())


def attacks_of(public_key: bytes) -> dict[str, dict[str, Any]]:
    """Return records with a number in clear, or with a box that is another's, by their place."""
    good = record_of(CARDS[0], 100, public_key)
    return {
        "PAN_UNSEALED": {k: v for k, v in good.items() if "pan" not in k} | {"pan": CLEAR},
        "PAN_SEAL": good | {"transaction_id": "s-101"},
        "PAN_SEAL of another bank": good | {"bank_id": "bank-south"},
        "PAN_SEAL_KEY": good | {"pan_key_id": "0" * 16},
        "CARD_AMBIGUOUS": good | {"pan": CLEAR},
    }


def spellings(pan: str) -> list[bytes]:
    """Return the bytes that a number may have on a disk."""
    text = pan.encode()
    wide = pan.encode("utf-16-le")
    return [text, text.hex().encode(), bytes.fromhex(pan), wide, base64.b64encode(text)[:20]]


@pytest.mark.kafka
def test_d7_sealed_number_is_nowhere_on_the_brokers_disk(
    sealed_line: SealedLine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Good records, bad ones and their letters: no byte of a card's number in any segment."""
    prefix = sealed_line.environment["FRAUD_KAFKA_TOPIC_PREFIX"]
    found = tmp_path_factory.getbasetemp().glob(f"kafka*/log/{prefix}*/*.log")
    segments = {path: path.read_bytes() for path in found}
    assert sum(map(len, segments.values())) > 10_000
    read = [one.value for one in (*sealed_line.accepted, *sealed_line.letters)]
    sent = [*segments.values(), *read]
    assert [pan for pan in CARDS if any(s in text for s in spellings(pan) for text in sent)] == []
    tokens = {
        AcceptedTransaction.FromString(one.value).transaction.card_token
        for one in sealed_line.accepted
    }
    assert len(tokens) == len(CARDS)


@pytest.mark.kafka
def test_d7_clear_number_and_stolen_box_are_refused(sealed_line: SealedLine) -> None:
    """Each by its reason; what comes behind them is accepted."""
    reasons = Counter(dict(one.headers)["reason"].decode() for one in sealed_line.letters)
    assert reasons == Counter(
        {"AMOUNT_SIGN": len(CARDS)} | Counter(name.split()[0] for name in sealed_line.attacks)
    )
    assert [one for one in sealed_line.letters if CLEAR.encode() in one.value] == []
    accepted = {
        AcceptedTransaction.FromString(one.value).transaction.transaction_id
        for one in sealed_line.accepted
    }
    assert accepted == {f"s-{number}" for number in (*range(len(CARDS)), 200)}


def test_d7_swapped_cut_and_orphaned_key_files_end_the_start(tmp_path: Path) -> None:
    """78 and a message that names the file, before Kafka is asked; no key is in the message."""
    kek = make_kek(tmp_path / "kek.json")
    for name in ("a.json", "b.json"):
        make_keys(kek, "token", tmp_path / name)
    make_keys({}, "token", tmp_path / "plain.json")
    (tmp_path / "b.json").replace(tmp_path / "swapped.json")
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "cut.json").write_text(text[: len(text) // 2])
    (tmp_path / "cut.json").chmod(0o400)
    starts = {
        "was wrapped as b.json": ("swapped.json", kek),
        "cut or changed": ("cut.json", kek),
        "expected FRAUD_KEYS_KEK_FILE or FRAUD_KEYS_PKCS11_MODULE": ("a.json", {}),
        "is a plain key file": ("plain.json", kek | {"FRAUD_KEYS_REQUIRES_WRAPPED": "true"}),
    }

    def start(name: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        file = {"FRAUD_INGEST_TOKEN_KEYS_FILE": str(tmp_path / name)}
        return run({**environment, **file}, "services.ingest")

    with ThreadPoolExecutor() as threads:
        all_ended = list(threads.map(start, *zip(*starts.values(), strict=True)))

    for (says, (name, _)), ended in zip(starts.items(), all_ended, strict=True):
        file = str(tmp_path / name)
        assert (ended.returncode, says in ended.stderr, file in ended.stderr) == (78, True, True)
        assert "Traceback" not in ended.stderr


@pytest.mark.kafka
def test_d7_wrapped_keys_serve_and_a_lost_key_ends_the_start(
    sealed_line: SealedLine, tmp_path: Path
) -> None:
    """A whole ingest on wrapped files alone, as the production overlay asks for."""
    assert len(sealed_line.keys) == 3
    for key in sealed_line.keys:
        assert key.read_text().startswith('{"fraudstream_wrapped":')
    assert sealed_line.accepted

    lost = run(
        sealed_line.environment | {"FRAUD_KEYS_KEK_FILE": str(tmp_path / "gone.json")},
        "services.ingest",
    )

    assert (lost.returncode, "gone.json" in lost.stderr) == (78, True)
