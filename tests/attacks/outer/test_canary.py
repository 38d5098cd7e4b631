"""Canaries: card data in every form through every door of a whole line, then a search of it all.

Each case has a card of its own, so that a hit names the case.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import grpc
import pyarrow.parquet as pq
import pytest
import redis
from kafka import KafkaProducer

from fraudstream.broker.clients import kafka_python_producer_options
from fraudstream.broker.log_reader import read_topic
from fraudstream.errors import RuleSetRefused
from fraudstream.rules.rule_set import parse_rule_set
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ALL, DLQ, LABELS_RAW, RAW
from fraudstream.transaction.validate import decode_transaction
from fraudstream.v1.scoring_pb2 import ScoreBatchRequest, ScoreRequest
from fraudstream.v1.scoring_pb2_grpc import ScoringStub
from harness.line import SERVICES, LinePorts
from harness.processes import free_port, wait_until
from harness.servers import Broker, ValkeyServer
from harness.service_process import service_name
from tests.browser.web_client import WebClient
from tests.conftest import environment_of_test
from tests.e2e.collector import FakeCollector, running_collector
from tests.e2e.line_run import LineRun, prepared_line
from tests.material.bad_samples import good_sample
from tests.material.card_forms import NUMBERS, SENSITIVE
from training.simulator.messages import pan_of

# It starts a whole line: some two minutes where nothing else runs.
pytestmark = [pytest.mark.attack, pytest.mark.timeout(900)]

FORMS = {**NUMBERS, **SENSITIVE}
TOKEN = f"bank-north.k1.{'ab' * 16}"
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_FIRST_CARD = 1_000
RUNNING = (*SERVICES, ("services.ingest", ("labels", "follow")), ("services.archive", ()))


class _Codes:
    """Finds cards by their codes: one look a position for each length, however many there are."""

    def __init__(self) -> None:
        self._known: dict[int, dict[bytes, str]] = {}

    def add(self, code: bytes, pan: str) -> None:
        self._known.setdefault(len(code), {})[code] = pan

    def within(self, content: bytes) -> set[str]:
        """Return the cards of which a code stands in some bytes."""
        return {
            known[part]
            for length, known in self._known.items()
            for end in range(length, len(content) + 1)
            if (part := content[end - length : end]) in known
        }


class Canaries:
    """Gives each case a card, and finds it again in any bytes."""

    def __init__(self) -> None:
        self.cases: dict[str, str] = {}
        self._numbers = _Codes()
        self._codes = _Codes()

    def texts(self, place: str) -> Iterator[str]:
        """Return every form, each of another card."""
        for name, form in FORMS.items():
            pan = pan_of(_FIRST_CARD + len(self.cases))
            self.cases[pan] = f"{place}: {name}"
            self._numbers.add(pan.encode(), pan)
            for code in _codes_of(pan):
                self._codes.add(code, pan)
            yield form(pan)

    def hits(self, where: str, content: bytes) -> list[str]:
        """Return the cases that stand in some bytes: as digits, in Base64, hexadecimal or BCD."""
        digits = content.translate(None, _NO_DIGITS)
        found = self._numbers.within(digits) | self._codes.within(content)
        return [f"{where}: {self.cases[pan]}" for pan in sorted(found)]


def _codes_of(pan: str) -> list[bytes]:
    inner = [base64.b64encode(pan[start : start + 12].encode()) for start in range(3)]
    return [*inner, pan.encode().hex().encode(), bytes.fromhex(pan), pan.encode("cp037")]


def _record(number: int, **changes: object) -> bytes:
    fields = json.loads(good_sample(epoch_ms())) | {"transaction_id": f"t{number}"}
    fields |= {"card_token": TOKEN} | changes
    return json.dumps({name: text for name, text in fields.items() if name != "pan"}).encode()


def _send_raw(run: LineRun, canaries: Canaries) -> int:
    """Send every form to the raw topics; return how many records must be refused there."""
    producer = KafkaProducer(**kafka_python_producer_options(run.kafka))
    raw, labels = run.kafka.topic(RAW), run.kafka.topic(LABELS_RAW)
    refused = 0
    for text in canaries.texts("json"):
        producer.send(raw, _record(refused, merchant_id=text))
        refused += 1
    for text in canaries.texts("unknown field"):
        producer.send(raw, _record(refused, note={"inner": [text]}))
        refused += 1
    for text in canaries.texts("protobuf"):
        message = decode_transaction(_record(refused), [])
        message.customer_id = text
        headers = [("content-type", b"application/x-protobuf")]
        producer.send(raw, message.SerializeToString(), headers=headers)
        refused += 1
    for number, text in enumerate(canaries.texts("key and header")):
        headers = [("note", text.encode()), ("traceparent", text.encode())]
        producer.send(raw, _record(10_000 + number), key=text.encode(), headers=headers)
    for text in canaries.texts("label"):
        label = {"bank_id": "bank-north", "transaction_id": text, "disposition": "genuine"}
        producer.send(labels, json.dumps(label).encode())
    producer.flush(30)
    producer.close(10)
    return refused


def _call(address: str, canaries: Canaries) -> list[bytes]:
    """Send every form to the gRPC door; return what it answered."""
    answers: list[bytes] = []
    with grpc.insecure_channel(address) as channel:
        stub = ScoringStub(channel)  # type: ignore[no-untyped-call]  # generated
        for number, text in enumerate(canaries.texts("unary")):
            answers.append(_answer(stub.Score, _request(20_000 + number, text), ()))
        rows = [_request(30_000 + n, text) for n, text in enumerate(canaries.texts("batch"))]
        batch = ScoreBatchRequest(transactions=[row.transaction for row in rows])
        answers.append(_answer(stub.ScoreBatch, batch, ()))
        for number, text in enumerate(canaries.texts("metadata")):
            note = (("x-note", text), ("traceparent", text))
            can_be_text = text.isascii() and text.isprintable()
            metadata = (*(note if can_be_text else ()), ("x-note-bin", text.encode()))
            request = ScoreRequest(transaction=decode_transaction(_record(40_000 + number), []))
            answers.append(_answer(stub.Score, request, metadata))
        rows = [_request(50_000 + n, text) for n, text in enumerate(canaries.texts("stream"))]
        answers += _stream(stub, rows)
    return answers


def _stream(stub: ScoringStub, rows: list[ScoreRequest]) -> list[bytes]:
    """Send rows on one stream; return an answer for each, or what ended it."""
    answers: list[bytes] = []
    try:
        for answer in stub.ScoreStream(iter(rows), timeout=30.0):
            answers.append(answer.SerializeToString())  # noqa: PERF401  # those before an error too
    except grpc.RpcError as exc:
        answers.append(str(exc).encode())
    return answers


def _request(number: int, text: str) -> ScoreRequest:
    transaction = decode_transaction(_record(number), [])
    transaction.device_id = text
    return ScoreRequest(transaction=transaction)


def _answer(method: Callable[..., Any], request: Any, metadata: tuple[Any, ...]) -> bytes:
    try:
        return bytes(method(request, timeout=10.0, metadata=metadata).SerializeToString())
    except grpc.RpcError as exc:
        return str(exc).encode()


def _browse(address: str, canaries: Canaries) -> list[bytes]:
    """Type every form into the console: address, query, search, name, and what is no request."""
    analyst, stranger = WebClient(address), WebClient(address)
    analyst.log_in("analyst", "analyst-demo")
    analyst.get("/")
    stranger.get("/login")
    pages: list[bytes] = []
    for text in canaries.texts("search"):
        analyst.post("/search", {"q": text})
        pages.append(analyst.page.encode())
    for text in list(canaries.texts("login"))[::4]:
        stranger.post("/login", {"username": text, "password": text, "next": f"/{text}"})
        pages.append(stranger.page.encode())
    for text in list(canaries.texts("address"))[::4]:
        for path in (f"/alerts/{quote(text)}", f"/?q={quote(text)}"):
            try:
                pages.append(analyst.get(path).encode())
            except urllib.error.HTTPError as exc:
                pages.append(exc.read())
    for text in list(canaries.texts("no request"))[::4]:
        for said in (
            f"GET {text} /",
            f"GET / HTTP/1.1\r\n{text}: a",
            f"GET / HTTP/1.1\r\nHost: {text}",
        ):
            pages.append(_speak(address, said))  # noqa: PERF401  # plainer than two loops in one
    return pages


def _speak(address: str, said: str) -> bytes:
    """Send bytes to a web server; return what it answers."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port or 80), 10) as connection:
        connection.sendall(f"{said}\r\n\r\n".encode())
        return connection.recv(65_536)


def _check_rules(folder: Path, canaries: Canaries) -> tuple[list[bytes], list[str]]:
    """Write every form into a rule file; return what is said of them, and which were taken."""
    told: list[bytes] = []
    taken: list[str] = []
    texts = list(canaries.texts("rule file"))
    written = [_rule_file([text]) for text in texts]
    for text, content in zip(texts, written, strict=True):
        try:
            parse_rule_set(content)
            taken.append(text)
        except RuleSetRefused as exc:
            told.append(str(exc).encode())
    file = folder / "rules.toml"
    file.write_text(_rule_file(texts))
    command = [sys.executable, "-m", "services.scoring", "rules", "check", str(file)]
    ended = subprocess.run(command, capture_output=True, check=False)
    file.unlink()
    if not ended.returncode:
        taken.append("all of them")
    return [*told, ended.stdout, ended.stderr], taken


def _rule_file(texts: Iterable[str]) -> str:
    rules = [
        f'[[rules]]\ncode="R{number}"\nwhen="true"\naction="review"\n'
        f"text={json.dumps(text, ensure_ascii=False)}\n"
        for number, text in enumerate(texts)
    ]
    return 'id="a"\nversion=1\nstand_in.otherwise="review"\n' + "".join(rules)


def _metrics(ports: LinePorts) -> Iterator[tuple[str, bytes]]:
    """Return what each process tells of itself."""
    for name, port in ports.metrics.items():
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            yield f"metrics of {name}", answer.read()


def _store(run: LineRun) -> Iterator[tuple[str, bytes]]:
    """Return each key of the store with its name and all of its value."""
    client: Any = redis.Redis.from_url(run.line.environment["FRAUD_REDIS_URL"])
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"stream": client.xrange,
    }
    for key in client.scan_iter(count=5_000):
        found = readers[client.type(key)](key)
        content = found if isinstance(found, bytes) else repr(found).encode()
        yield f"store {key[:40]!r}", key + b"\n" + content


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Return logs, databases and archive files."""
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            with suppress(OSError, ValueError):
                yield path.name, str(pq.read_table(path).to_pylist()).encode()
        elif path.is_file() and path.suffix not in (".onnx", ".key"):
            yield path.name, path.read_bytes()


def _found(run: LineRun, collector: FakeCollector, canaries: Canaries) -> list[str]:
    """Search all that is left of a line that has ended."""
    hits: list[str] = []
    for topic in ALL:
        if topic in (RAW, LABELS_RAW):
            continue
        for record in read_topic(run.kafka, topic):
            whole = b"\n".join(
                [
                    record.key or b"",
                    record.value or b"",
                    *(text or b"" for _, text in record.headers),
                ]
            )
            hits += canaries.hits(topic.name, whole)
    for where, content in [*_store(run), *_files(run.line.folder)]:
        hits += canaries.hits(where, content)
    spans = b"".join(span.SerializeToString() for span in collector.all_spans())
    return hits + canaries.hits("spans", spans)


@pytest.fixture(scope="module")
def hits(
    broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Send everything through a running line, and search what it left."""
    canaries = Canaries()
    folder = tmp_path_factory.mktemp("canary")
    (folder / "archive").mkdir()
    with running_collector() as collector:
        more = {
            "FRAUD_TELEMETRY_OTLP_ENDPOINT": collector.endpoint,
            "FRAUD_ARCHIVE_ROOT": str(folder / "archive"),
            "FRAUD_INGEST_ARCHIVE_ROOT": str(folder / "archive"),
            "FRAUD_ARCHIVE_MAX_AGE_S": "0.5",
        }
        metrics = {service_name(*service): free_port() for service in RUNNING}
        ports = LinePorts(free_port(), free_port(), free_port(), metrics)
        servers = environment_of_test(broker, valkey)
        run = prepared_line(folder, servers, more=more, services=RUNNING, ports=ports)
        try:
            run.line.start()
            refused = _send_raw(run, canaries)
            answers = _call(f"127.0.0.1:{run.line.ports.scoring}", canaries)
            answers += _browse(run.line.console_url.rstrip("/"), canaries)
            told, taken = _check_rules(folder, canaries)
            wait_until(
                lambda: len(read_topic(run.kafka, DLQ)) >= refused + len(FORMS), 30.0, poll_s=1.0
            )
            evidence = run.evidence()
            pages = list(_metrics(ports))
        finally:
            run.line.stop()
        return {
            "canaries": canaries,
            "left": _found(run, collector, canaries),
            "metrics": [hit for page in pages for hit in canaries.hits(*page)],
            "measured": {name for name, page in pages if b"fraud_" in page},
            "answers": [
                hit for answer in [*answers, *told] for hit in canaries.hits("answer", answer)
            ],
            "rules": taken,
            "decisions": len(evidence.decisions),
            "letters": len(read_topic(run.kafka, DLQ)),
            "refused": refused,
        }


def test_search_finds_a_card_in_every_code() -> None:
    """Within other bytes, and with what parts its digits."""
    canaries = Canaries()
    pan = [*canaries.texts("a"), *canaries.cases][-1]
    for code in [pan.encode(), "-".join(pan).encode(), *_codes_of(pan)]:
        assert canaries.hits("here", b"x" + code + b"y")
    assert not canaries.hits("here", f"x{pan[:-1]}y".encode())


def test_canaries_went_through_a_line_that_works(hits: dict[str, Any]) -> None:
    """Two hundred forms and more; each bad record is a dead letter, good ones are decided."""
    assert len(hits["canaries"].cases) >= 200
    assert hits["letters"] >= hits["refused"]
    assert hits["decisions"] >= len(FORMS)


def test_p1_p2_p3_p6_nothing_behind_the_doors_holds_a_canary(hits: dict[str, Any]) -> None:
    """No topic, key name, record, log, span, file of the archive or database."""
    assert hits["left"] == []


def test_no_metric_names_a_canary(hits: dict[str, Any]) -> None:
    """Neither a label nor its help, of any process."""
    assert len(hits["measured"]) == len(RUNNING)
    assert hits["metrics"] == []


def test_p7_no_rule_file_with_a_canary_is_taken(hits: dict[str, Any]) -> None:
    """Neither by the command nor by what publishes and serves them."""
    assert hits["rules"] == []


def test_p2_no_answer_repeats_a_canary(hits: dict[str, Any]) -> None:
    """No error of gRPC, row of a stream, page of the console, refusal of a rule file."""
    assert hits["answers"] == []
