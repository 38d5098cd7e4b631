"""The README's Python runs as it stands, against a scoring service that answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from fraudstream.v1.decision_pb2 import Action, Decision, Reason
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.scoring_pb2_grpc import ScoringServicer, add_ScoringServicer_to_server
from harness.processes import PROJECT_FOLDER

ROOT = PROJECT_FOLDER
README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:50051"


class FakeScoring(ScoringServicer):
    """Challenges everything, and gives one reason."""

    def Score(  # noqa: N802  # the name in the proto
        self, request: ScoreRequest, context: grpc.ServicerContext
    ) -> Decision:
        """Decide one transaction."""
        return Decision(
            transaction_id=request.transaction.transaction_id,
            action=Action.ACTION_CHALLENGE,
            score=0.25,
            reasons=[Reason(code="VELOCITY", text="Many payments within an hour")],
        )


@pytest.fixture
def address() -> Iterator[str]:
    """Address of a scoring service on a free port."""
    server = grpc.server(ThreadPoolExecutor(1))
    add_ScoringServicer_to_server(FakeScoring(), server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def python_blocks() -> list[str]:
    """Return the README's Python blocks."""
    return re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_grpc_example_prints_a_decision(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied from the page and run from the project's folder, it prints decision and reasons."""
    monkeypatch.chdir(ROOT)
    (block,) = python_blocks()
    assert ADDRESS in block

    exec(compile(block.replace(ADDRESS, address), "README.md", "exec"), {})  # noqa: S102

    assert len([line for line in block.splitlines() if line]) == 6
    assert capsys.readouterr().out.splitlines() == [
        "ACTION_CHALLENGE 0.25 ['Many payments within an hour']"
    ]


def test_no_command_goes_on_without_the_line_that_it_names() -> None:
    """Without a demo `line.env` is not there, and what follows would ask another broker."""
    assert README.count("line.env && ") == 3
    assert "line.env;" not in README


def test_page_says_what_was_never_run() -> None:
    """A reader learns which parts nobody has run before relying on them."""
    section = README.partition("### What was never run here")[2].partition("\n## ")[0]

    for part in ("Dockerfiles", "compose.yaml", "Kubernetes", "PostgreSQL", "TLS"):
        assert part in section
