"""Dead letters, traces, logs and commands keep and show no card number, however it is written."""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from kafka import KafkaProducer

from demo.cli import run as demo_run
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, DLQ
from harness.servers import Broker, ValkeyServer
from harness.service_process import ServiceProcess
from services.ingest.cli import main as ingest_main
from services.scoring.cli.main import main as scoring_main
from tests.browser.console_server import ConsoleServer
from tests.conftest import create_topics, environment_of_test
from tests.integration.ingest.test_ingest import TIMEOUT_S, Raw, ingest_keys
from tests.material.bad_samples import good_sample
from training.simulator.messages import pan_of

pytestmark = pytest.mark.attack

PAN = pan_of(10_001)
GROUPS = [PAN[at : at + 4] for at in range(0, 16, 4)]
TRACE_ID = PAN.rjust(32, "0")
SPAN_ID = PAN


def _disguises() -> dict[str, bytes]:
    """Return values, none of them a transaction, that hold one card number in many spellings."""
    texts = {
        "escaped line ends": "\\n".join(GROUPS),
        "escaped tabs": "\\t".join(GROUPS),
        "superscripts": "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(d)] for d in PAN),
        "circled": "".join("⓪①②③④⑤⑥⑦⑧⑨"[int(d)] for d in PAN),
        "three blanks": "   ".join(GROUPS),
        "dashes in blanks": " - ".join(GROUPS),
        "commas": ",".join(GROUPS),
        "colons": ":".join(GROUPS),
        "letters": "x".join(GROUPS),
        "underscores": "__".join(GROUPS),
        "entities": "".join(f"&#{ord(d)};" for d in PAN),
        "base64": base64.b64encode(PAN.encode()).decode(),
        "hexadecimal": PAN.encode().hex(),
    }
    found = {name: f'{{"note":"{text}","kind":"x"}}'.encode() for name, text in texts.items()}
    found["array of groups"] = json.dumps({"note": GROUPS, "kind": "x"}).encode()
    found["array of digits"] = json.dumps({"note": list(PAN), "kind": "x"}).encode()
    found["cut off"] = b'{"note":"' + "-x-".join(GROUPS).encode()
    found["no-break spaces of Latin-1"] = b'{"note":"' + b"\xa0".join(map(str.encode, GROUPS))
    found["EBCDIC"] = bytes(0xF0 + int(digit) for digit in PAN)
    found["packed BCD"] = bytes.fromhex(PAN)
    found["BCD track 2"] = bytes.fromhex(PAN + "D2512101000012345678"[:-1] + "F")
    found["Protobuf's text"] = b'bank_id: "b"\nnote: "' + "\n".join(GROUPS).encode()
    found["field name"] = json.dumps({"-x-".join(GROUPS): 1}).encode()
    found["safe field"] = json.dumps({"event_time_ms": int(PAN), "currency": PAN}).encode()
    return found


def _sensitive() -> dict[str, bytes]:
    """Return values that hold what may not be kept, even sealed."""
    track = f"{PAN}D25121011000012345678"
    return {
        "cvv_code": b'{"cvv_code":"123"}',
        "cardCvv": b'{"cardCvv":"123"}',
        "cvvNumber": b'{"payment":{"cvvNumber":123}}',
        "card_cvv": b'{"card_cvv":"123"}',
        "track with D": json.dumps({"field35": track}).encode(),
        "BCD track with D": bytes.fromhex(track + "F" * (len(track) % 2)),
        "sentinels": b'{"note":";' + PAN.encode() + b'=25121011000012345678?"}',
        "cut off": b'{"cvv":"123"',
        "another way of writing": b'{"c\\u0076v":"123","kind":1}',
    }


DISGUISES = _disguises()
SENSITIVE = _sensitive()
_PROGRAMS = {"ingest": ingest_main, "demo": demo_run, "scoring": scoring_main}


@dataclass(frozen=True, slots=True)
class Buried:
    """What a running ingest wrote."""

    environment: Mapping[str, str]
    letters: Mapping[int, Any]
    accepted: list[Any]
    offsets: Mapping[str, int]
    log: str


@pytest.fixture(scope="module")
def buried(
    broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Buried]:
    """Send every disguise, and a good and a bad record in an outsider's trace."""
    folder = tmp_path_factory.mktemp("letters")
    environment = environment_of_test(broker, valkey) | ingest_keys(folder)
    create_topics(environment, folder)
    ingest = ServiceProcess("services.ingest", [], environment, folder)
    trace = [("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01".encode())]
    with closing(Raw(environment)) as raw:
        values = DISGUISES | {f"SAD {name}": value for name, value in SENSITIVE.items()}
        offsets = {name: raw.send(value)[1] for name, value in values.items()}
        raw.send(good_sample(epoch_ms()), trace)
        offsets["traced"] = raw.send(b"{}", trace)[1]
        ingest.start(TIMEOUT_S)
        letters = raw.read(DLQ, len(offsets))
        accepted = raw.read(ACCEPTED, 1)
        by_offset = {int(dict(one.headers)["offset"]): one for one in letters}
        yield Buried(environment, by_offset, accepted, offsets, ingest.log_text())
    ingest.stop()


def _digits_shown(letter: Any) -> str:
    """Return the digits of a letter but those of its seal, its hash and its numbers."""
    content = json.loads(letter.value)
    for name in ("sealed", "sealed_key_id", "append_time_ms"):
        content.pop(name, None)
    return re.sub(r"\D", "", json.dumps(content))


@pytest.mark.parametrize("name", DISGUISES)
def test_p3_preview_shows_no_digit_of_a_card(buried: Buried, name: str) -> None:
    """A preview has values of safe fields alone; what cannot be read has none."""
    letter = buried.letters[buried.offsets[name]]

    assert len(_digits_shown(letter)) < 12
    for group in GROUPS[:3]:
        assert group not in _digits_shown(letter)
    shown = json.loads(letter.value).get("preview")
    assert "note" not in json.dumps(shown)


@pytest.mark.parametrize("name", SENSITIVE)
def test_p4_what_may_not_be_kept_is_not_under_seal_either(buried: Buried, name: str) -> None:
    """The size is all that stays of a record with a verification value or a track."""
    content = json.loads(buried.letters[buried.offsets[f"SAD {name}"]].value)

    assert content.keys() == {"message", "append_time_ms", "value_bytes"}


def test_p3_bytes_that_are_no_text_have_no_preview(buried: Buried) -> None:
    """The size is all that is told of them."""
    for name in ("EBCDIC", "packed BCD", "no-break spaces of Latin-1"):
        content = json.loads(buried.letters[buried.offsets[name]].value)

        assert "preview" not in content
        assert content["value_bytes"] == len(DISGUISES[name])


def test_p6_ids_of_an_outsiders_trace_are_in_no_record(buried: Buried) -> None:
    """Neither in the accepted record nor in a dead letter; each has a trace of ours."""
    for record in (buried.accepted[0], buried.letters[buried.offsets["traced"]]):
        header = dict(record.headers)["traceparent"].decode()

        assert PAN not in header
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", header)


def test_p3_log_of_ingest_holds_no_card(buried: Buried) -> None:
    """Nothing of a record is in a line."""
    assert PAN not in re.sub(r"\D", "", buried.log)


@dataclass(frozen=True, slots=True)
class Told:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def _command(
    capsys: pytest.CaptureFixture[str], arguments: list[str], environment: Mapping[str, str]
) -> Told:
    """Run a command of ingest, the demo or scoring in this process."""
    program, *rest = arguments
    with pytest.MonkeyPatch.context() as patch:
        for name, content in environment.items():
            patch.setenv(name, content)
        capsys.readouterr()
        try:
            code = _PROGRAMS[program](rest)
        except SystemExit as exc:
            code = int(exc.code or 0)
    said = capsys.readouterr()
    return Told(code, said.out, said.err)


def test_k9_record_of_others_does_not_end_the_list(
    buried: Buried, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records without headers, with foreign ones and with times out of any range are listed."""
    topic = buried.environment["FRAUD_KAFKA_TOPIC_PREFIX"] + DLQ.name
    bootstrap = buried.environment["FRAUD_KAFKA_BOOTSTRAP"]
    producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False, acks=1)
    foreign: list[list[tuple[str, bytes]]] = [
        [],
        [("first_seen", b"9" * 30)],
        [("reason", b"\xff"), (PAN, PAN.encode())],
        [("reason", "-".join(GROUPS).encode())],
    ]
    with closing(producer):
        sent = [
            producer.send(topic, value=b"x", headers=headers).get(TIMEOUT_S) for headers in foreign
        ]

    listed = _command(capsys, ["ingest", "dlq", "list"], buried.environment)

    assert listed.code == 0, listed.err
    names = {json.loads(line)["letter"] for line in listed.out.splitlines()}
    assert {f"{one.partition}:{one.offset}" for one in sent} <= names
    assert PAN not in listed.out.replace("-", "")
    for verb in ("show", "replay"):
        name = f"{sent[0].partition}:{sent[0].offset}"
        assert _command(capsys, ["ingest", "dlq", verb, name], buried.environment).code in (65, 78)


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest", "dlq", "show", PAN],
        ["ingest", "dlq", "replay", "0:1", f"--set=pan={PAN}"],
        ["ingest", "dlq", "replay", "0:1", "--set", f"{PAN}=1"],
        ["ingest", PAN],
        ["demo", "send", f"{PAN}.json"],
        ["scoring", "rules", "check", "-".join(GROUPS)],
    ],
    ids=" ".join,
)
def test_p9_command_prints_no_card_number_back(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A command line that holds one is refused, with what to do instead."""
    told = _command(capsys, arguments, {"FRAUD_KAFKA_BOOTSTRAP": "127.0.0.1:9"})

    assert told.code == 64, told.err
    assert PAN not in re.sub(r"[^0-9]", "", told.out + told.err)
    assert "file" in told.err


def test_p9_card_is_set_from_a_file_or_stdin_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """`--set pan=` is refused whatever the number is, and says how it goes."""
    told = _command(capsys, ["ingest", "dlq", "replay", "0:1", "--set=pan=1"], {})

    assert told.code == 64
    assert "--set-from" in told.err


@pytest.mark.parametrize("option", ["--body", "--set-from"])
def test_p9_missing_file_is_named_as_what_it_is(
    option: str, buried: Buried, capsys: pytest.CaptureFixture[str]
) -> None:
    """66 and the file's name: no broker is blamed."""
    arguments = ["ingest", "dlq", "replay", "--all", "--reason=DECODE", option, "missing.json"]
    if option == "--body":
        letter = buried.letters[buried.offsets["traced"]]
        arguments[3:5] = [f"{letter.partition}:{letter.offset}"]

    told = _command(capsys, arguments, buried.environment)

    assert told.code == 66, told.err
    assert "missing.json" in told.err
    assert "does not answer" not in told.err


@pytest.fixture(scope="module")
def console(
    broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConsoleServer]:
    """A console that nobody has signed in to."""
    folder = tmp_path_factory.mktemp("console")
    address = broker.environment()["FRAUD_KAFKA_BOOTSTRAP"]
    server = ConsoleServer(address, environment_of_test(broker, valkey), folder)
    server.create_topics()
    server.process.start(TIMEOUT_S)
    yield server
    server.process.stop()


def _asked(console: ConsoleServer, path: str, host: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", console.port, timeout=10)) as asking:
        asking.putrequest("GET", path, skip_host=True)
        asking.putheader("Host", host)
        asking.endheaders()
        return asking.getresponse().status


def test_p10_log_says_neither_path_nor_host_of_a_request(console: ConsoleServer) -> None:
    """Whatever stands between the digits, nothing that a caller wrote is in a line."""
    word = "x".join(GROUPS)
    spread = "wxyz".join(GROUPS)
    before = len(console.process.log_text())

    for text in (word, spread):
        assert _asked(console, f"/alerts/{text}", "127.0.0.1") in (302, 404)
        assert _asked(console, f"/none/{text}", "127.0.0.1") in (302, 404)
        assert _asked(console, "/", f"{text}.example") == 400

    said = console.process.log_text()[before:]
    assert GROUPS[1] not in said
    assert "was answered by 404" in said
    assert "was answered by 400" in said


def test_p10_flood_of_wrong_hosts_is_a_few_lines(console: ConsoleServer) -> None:
    """Two hundred requests that nobody signed in for are told in twenty lines at most."""
    before = len(console.process.log_text())

    for _ in range(200):
        assert _asked(console, "/", "other.example") == 400

    said = console.process.log_text()[before:]
    assert len(said.splitlines()) <= 20
    assert "Traceback" not in said
