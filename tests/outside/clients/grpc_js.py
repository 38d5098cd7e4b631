"""grpc-js as a caller that knows only the proto files: installed once, then driven by scripts."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.json_format import MessageToDict

from fraudstream.v1.transaction_pb2 import Transaction
from harness.processes import PROJECT_FOLDER

_SOURCE: Final = Path(__file__).with_name("node")
_PROTOS: Final = PROJECT_FOLDER / "proto"
_INSTALL_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of `Scoring.Score`.

    Attributes:
        tag: Names it in the answers.
        at_ms: When it is sent, after the start of the script.
        deadline_ms: Its deadline, after it was sent.
        transaction: What is asked.
    """

    tag: str
    at_ms: float
    deadline_ms: float
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        tag: The call's.
        sent_ms: When it was sent, after the start.
        answered_ms: When the answer came.
        code: Name of the gRPC status.
        decision: Of an answer that is OK.
        reason: Trailer `fraud-reason` of one that is not.
        message: Its text.
    """

    tag: str
    sent_ms: float
    answered_ms: float
    code: str
    decision: dict[str, Any] | None = None
    reason: str = ""
    message: str = ""


class GrpcJs:
    """Runs scripts of calls in Node.js.

    Args:
        folder: Where the packages are installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, address: str, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        """Make calls, each at its time, and return what came back, in the order of arrival."""
        with self.start(address, calls) as running:
            out, _ = running.communicate(timeout=timeout_s)
        return answers_of(out)

    def start(self, address: str, calls: Sequence[Call]) -> subprocess.Popen[str]:
        """Begin to make calls; `answers_of` reads what the process prints."""
        running = subprocess.Popen(
            ["node", str(self._folder / "calls.mjs"), str(_PROTOS), address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert running.stdin is not None
        running.stdin.writelines(_line(call) for call in calls)
        running.stdin.close()
        running.stdin = None
        return running

    def seal(self, records: Sequence[dict[str, str]], public_key: bytes) -> list[dict[str, str]]:
        """Return records with their card number sealed by libsodium's JavaScript form."""
        done = subprocess.run(
            ["node", str(self._folder / "seal.mjs"), public_key.hex()],
            input="".join(json.dumps(record) + "\n" for record in records),
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


def answers_of(printed: str) -> list[Answer]:
    """Return the answers that a script printed."""
    return [Answer(**json.loads(line)) for line in printed.splitlines()]


def install(folder: Path) -> GrpcJs:
    """Install the locked packages into a folder; skip the test where they are not to be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js with npm on the PATH")
    shutil.copytree(_SOURCE, folder, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        pytest.skip("npm cannot install @grpc/grpc-js and libsodium: no registry answers")
    return GrpcJs(folder)


def _line(call: Call) -> str:
    transaction = MessageToDict(call.transaction, preserving_proto_field_name=True)
    content = {
        "tag": call.tag,
        "at_ms": call.at_ms,
        "deadline_ms": call.deadline_ms,
        "transaction": transaction,
    }
    return json.dumps(content) + "\n"
