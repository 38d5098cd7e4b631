"""What unpacks, nests or repeats without end costs its own record: memory and time are bounded."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from nacl.public import PrivateKey
from onnx import helper, numpy_helper

from fraudstream.dead_letters.letter import LetterWriter, SourceRecord
from fraudstream.errors import InvalidTransaction, ModelRefused
from fraudstream.models.artefact import Artefact, write_artefact
from fraudstream.models.open_engine import Budget, ready_engine
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, DLQ, RAW
from fraudstream.transaction.validate import decode_transaction, validate_transaction
from harness.servers import ApacheKafka, ValkeyServer
from harness.service_process import ServiceProcess
from tests.conftest import create_topics, environment_of_test
from tests.fakes.tiny_model import lstm_member, onnx_bytes, tiny_manifest, tiny_weights
from tests.integration.ingest.test_ingest import TIMEOUT_S, Raw, ingest_keys
from tests.material.bad_samples import good_sample
from tests.material.kafka_bytes import at_offset, batch, batch_of, record_body, varint, write_batch

pytestmark = pytest.mark.attack

# Ingest at rest holds about 70 MiB; its pod may have 512.
_MOST_RESIDENT_MIB: Final = 350
_MIB: Final = 1 << 20


def _gzip_of_zeros(size: int) -> bytes:
    """Return a batch of one record whose value is so many zeros, made in little memory."""
    begin = b"\x00" + varint(0) + varint(0) + varint(-1) + varint(size)
    end = varint(0)
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(varint(len(begin) + size + len(end)) + begin)]
    packed += [packer.compress(bytes(_MIB)) for _ in range(size // _MIB)]
    packed += [packer.compress(end), packer.flush()]
    return batch(b"".join(packed), attributes=1, first_ms=epoch_ms())


def _peak_mib(pid: int) -> int:
    """Return the most memory that a process ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10


@pytest.fixture(scope="module")
def bombed(
    kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Raw, ServiceProcess]]:
    """Ingest on Apache Kafka behind bombs of each kind, with a good record behind each."""
    folder = tmp_path_factory.mktemp("bombs")
    environment = environment_of_test(kafka_broker, valkey) | ingest_keys(folder)
    create_topics(environment, folder)
    topic = environment["FRAUD_KAFKA_TOPIC_PREFIX"] + RAW.name
    empty = [record_body(number, b"") for number in range(120_000)]
    headers = record_body(0, b"{}", headers=[(b"", b"")] * 1_500_000)
    bombs = [
        _gzip_of_zeros(400 * _MIB),
        *[_gzip_of_zeros(700 * _MIB)] * 2,
        batch_of([record_body(n, bytes(_MIB)) for n in range(30)], "gzip", epoch_ms()),
        batch_of(empty, "gzip", epoch_ms()),
        batch_of([headers], "gzip", epoch_ms()),
    ]
    bootstrap = environment["FRAUD_KAFKA_BOOTSTRAP"]
    ingest = ServiceProcess("services.ingest", [], environment, folder)
    with closing(Raw(environment)) as raw:
        for bomb in bombs:
            good = batch_of([record_body(0, good_sample(epoch_ms()))], first_ms=epoch_ms())
            for data in (bomb, good):
                write_batch(bootstrap, topic, 1, at_offset(0, data))
        ingest.start(TIMEOUT_S)
        yield raw, ingest
    ingest.stop()


def test_k10_compressed_bombs_cost_themselves_alone(bombed: tuple[Raw, ServiceProcess]) -> None:
    """Each is a dead letter with its size, what lies behind it is accepted, memory bounded."""
    raw, ingest = bombed

    assert len(raw.read(ACCEPTED, 6)) == 6
    letters = raw.read(DLQ, 3 + 30 + 1 + 1)
    reasons = [dict(letter.headers)["reason"] for letter in letters]
    assert reasons == [b"TOO_LARGE"] * len(reasons)
    for letter in letters:
        content = json.loads(letter.value)
        assert content.keys() == {"message", "append_time_ms", "value_bytes"}
    assert _peak_mib(ingest.pid) < _MOST_RESIDENT_MIB


def test_k10_ingest_ends_at_a_signal_behind_bombs(bombed: tuple[Raw, ServiceProcess]) -> None:
    """It does not hang in a batch."""
    _, ingest = bombed

    assert ingest.stop() == 0


def _made(folder: Path, nodes: list[onnx.NodeProto], shape: list[int]) -> Artefact:
    """Return an artefact of the tiny model with nodes behind its score."""
    model = onnx.load_from_string(onnx_bytes(tiny_weights()))
    graph = model.graph
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(shape, np.int64), "shape"),
            numpy_helper.from_array(np.array([0.0], np.float32), "nothing"),
        ]
    )
    graph.node[-1].output[0] = "score"
    graph.node.extend(nodes)
    content = bytes(model.SerializeToString())
    manifest = tiny_manifest(onnx_bytes(tiny_weights()))
    manifest = manifest.model_copy(update={"members": (lstm_member(content),)})
    return write_artefact(folder / "model", manifest, {"lstm.onnx": content})


def test_f3_graph_that_expands_is_refused_before_it_is_in_memory(tmp_path: Path) -> None:
    """300 bytes that make a gigabyte while they are loaded end a trial, not the scorer."""
    artefact = _made(
        tmp_path,
        [
            helper.make_node("ConstantOfShape", ["shape"], ["bombs"]),
            helper.make_node("ReduceMax", ["bombs"], ["bomb"], keepdims=0),
            helper.make_node("Add", ["score", "bomb"], ["raw_score"]),
        ],
        [1 << 28],
    )
    before = _peak_mib(os.getpid())

    with pytest.raises(ModelRefused, match="MODEL_BUDGET"):
        ready_engine(artefact, Budget(batch_ms=60_000.0, growth_bytes=512 << 20))

    assert _peak_mib(os.getpid()) - before < 256


def test_f3_graph_of_too_many_nodes_is_refused_unread(tmp_path: Path) -> None:
    """A chain of 20,000 additions does not load in a minute."""
    names = ["score", *(f"n{number}" for number in range(19_999)), "raw_score"]
    chain = [helper.make_node("Add", [a, "nothing"], [b]) for a, b in pairwise(names)]

    with pytest.raises(ModelRefused, match="MODEL_SIZE"):
        _made(tmp_path, chain, [1])


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":' + b"[" * 32_000 + b"]" * 32_000 + b"}",
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"amount_minor":' + b"9" * 60_000 + b"}",
        b'{"a":[' + b",".join([b"[]"] * 20_000) + b"]}",
        ("{" + ",".join(f'"{number:x}":1' for number in range(7_000)) + "}").encode(),
    ],
    ids=["arrays", "objects", "digits", "elements", "keys"],
)
def test_f1_json_bomb_costs_its_own_record(value: bytes) -> None:
    """Depth, digits, elements and names are an ordinary refusal, and have a dead letter."""
    writer = LetterWriter(PrivateKey.generate().public_key, "ingest", epoch_ms)
    with pytest.raises(InvalidTransaction) as refused:
        validate_transaction(decode_transaction(value, []), epoch_ms())

    record = SourceRecord("raw", 0, 0, epoch_ms(), None, value, [])
    letter = writer.letter_of(record, refused.value.reason, refused.value.message)
    assert len(letter.value) < 3 * len(value)


# Of a child process; 6 GB went into one of these files.
_CHILD_BYTES: Final = 2 << 30
_CHILD_CPU_S: Final = 40
_CHECK: Final = """
import resource, sys
from services.scoring.cli.main import main
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
for file in sys.argv[2:]:
    print(main(["rules", "check", file]), flush=True)
"""


def _limit_cpu() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_CHILD_CPU_S, _CHILD_CPU_S))


def test_f2_toml_bombs_are_refused_as_bad_content(tmp_path: Path) -> None:
    """65 and a sentence for each, in the memory that a command has."""
    bombs = [
        ".".join(["a"] * 60_000) + " = 1\n",
        ".".join(["a"] * 20_000) + " = 1\n",
        "[" + ".".join(["a"] * 60_000) + "]\n",
        'x = ["""\n""", {' + ".".join(["a"] * 20_000) + ' = 1, b = "',
        "x = " + "[" * 50_000 + "]" * 50_000,
        "x = " + "{a=" * 20_000 + "1" + "}" * 20_000,
        "".join(f"[a{'.b' * 30}.c{n}]\n" for n in range(6_000)),
    ]
    files = [tmp_path / f"{number}.toml" for number in range(len(bombs))]
    for file, content in zip(files, bombs, strict=True):
        file.write_text(content)

    told = subprocess.run(
        [sys.executable, "-c", _CHECK, str(_CHILD_BYTES), *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_limit_cpu,
    )

    assert told.stdout.split() == ["65"] * len(bombs), told.stderr[-500:]
    assert told.stderr.count("RULES_FILE") == len(bombs)
    assert "Traceback" not in told.stderr
