"""The model repository by its commands: two people, one gate, the demo's model and its children."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fraudstream.models.artefact import MANIFEST_FILE
from harness.model_repository import DEMO_MODEL
from tests.worlds.training_files import simulated_transactions, transactions_table
from training.cli import run
from training.simulator.simulate import SimulationSettings, simulate

CARDS, DAYS = 700, 45


@dataclass
class Shop:
    """A repository and its people, by command.

    Attributes:
        folder: Where everything is.
        said: Returns what the last command printed.
    """

    folder: Path
    said: Callable[[], str]

    def common(self) -> list[str]:
        """Return the arguments of every command."""
        repository = ["--repository", str(self.folder / "repository")]
        return [*repository, "--people", str(self.folder / "people.json")]

    def person(self, name: str, *roles: str) -> None:
        """Make a person."""
        asked = [argument for role in roles for argument in ("--role", role)]
        files = ["--key", str(self.folder / f"{name}.key"), "--people", self.common()[-1]]
        assert run(["person", name, *asked, "--until", "2199-12-31", *files]) == 0

    def artefact(self, version: int, *, shift: float = 0.0, who: str = "alice") -> Path:
        """Return the demo's model as another version, its calibration shifted, signed."""
        folder = self.folder / f"artefact-{version}"
        shutil.copytree(DEMO_MODEL, folder)
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        manifest["version"] = version
        manifest["calibration"]["c"] += shift
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
        assert run(["sign", str(folder), "--key", str(self.folder / f"{who}.key")]) == 0
        return folder

    def order(self, who: str, command: str, *arguments: str) -> int:
        """Give an order and return its exit code."""
        key = ["--key", str(self.folder / f"{who}.key"), "--why", "a test says so"]
        return run([command, *arguments, *self.common(), *key])

    def status(self) -> dict[str, object]:
        """Return what `status --json` says."""
        self.said()
        assert run(["status", *self.common(), "--json"]) == 0
        found: dict[str, object] = json.loads(self.said())
        return found


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    """Alice trains and may propose, Bob and Carol approve; version 1 is live."""

    def said() -> str:
        return capsys.readouterr().out

    shop = Shop(tmp_path, said)
    shop.person("alice", "trainer", "approver")
    shop.person("bob", "approver")
    shop.person("carol", "approver")
    assert shop.order("alice", "add", str(shop.artefact(1))) == 0
    assert shop.order("alice", "propose", "demo/1") == 0
    assert shop.order("bob", "promote", "demo/1") == 0
    return shop


@pytest.fixture(scope="module")
def matured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set of a simulated history that the demo's model did not learn from."""
    folder = tmp_path_factory.mktemp("matured")
    simulated = simulate(SimulationSettings(seed=77, cards=CARDS, days=DAYS))
    table = transactions_table(simulated_transactions(simulated), simulated.label_arrival_ms)
    pq.write_table(table, folder / "history.parquet")
    out = folder / "set"
    assert run(["dataset", "--source", str(folder / "history.parquet"), "--out", str(out)]) == 0
    return out


def test_first_model_needs_no_comparison_and_two_people(shop: Shop) -> None:
    """Champion of nothing before; the ledger says who."""
    status = shop.status()

    assert status["champion"] == "demo/1"
    assert status["previous"] is None
    assert str(status["head"]).startswith("3:")


def test_status_is_a_table_for_people(shop: Shop) -> None:
    """Champion, who ordered it and why, every model, the head."""
    shop.said()
    assert run(["status", *shop.common()]) == 0

    text = shop.said()
    assert "champion     demo/1" in text
    assert "by bob: a test says so" in text
    assert "alice" in text
    assert "head         3:" in text


@pytest.mark.slow
def test_equal_challenger_passes_the_gate_and_a_shifted_one_does_not(
    shop: Shop, matured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """M11: exit 65 MODEL_GATE, the report is kept, and only two others may override it."""
    data = ["--data", str(matured)]
    assert shop.order("alice", "add", str(shop.artefact(2))) == 0
    assert shop.order("alice", "propose", "demo/2", *data) == 0
    assert shop.order("bob", "canary", "demo/2", "--share-percent", "2.5") == 0
    assert "canary       2.5 % of the cards: demo/2" in capsys.readouterr().out
    assert shop.status()["champion"] == "demo/1"
    assert shop.order("bob", "promote", "demo/2") == 0
    assert shop.status()["canary"] is None
    assert shop.order("alice", "add", str(shop.artefact(3, shift=2.0))) == 0
    capsys.readouterr()

    code = shop.order("alice", "propose", "demo/3", *data)

    complaint = capsys.readouterr().err
    assert code == 65
    assert "MODEL_GATE: demo/3 does not pass" in complaint
    assert "in_the_large" in complaint
    reports = list((shop.folder / "repository" / "evidence").iterdir())
    verdicts = [json.loads(report.read_text()) for report in reports]
    failed = {report["challenger"]: report for report in verdicts}["demo/3"]
    assert failed["champion"] == "demo/2"
    assert not failed["is_passed"]
    assert shop.status()["champion"] == "demo/2"

    assert shop.order("carol", "propose", "demo/3", *data, "--override") == 0
    assert shop.order("bob", "promote", "demo/3") == 65, "an override has to be said"
    assert shop.order("bob", "promote", "demo/3", "--override") == 0
    assert shop.status()["champion"] == "demo/3"
    assert shop.order("carol", "rollback") == 0
    assert shop.status()["champion"] == "demo/2"


def test_challenger_of_a_champion_needs_matured_rows(shop: Shop) -> None:
    """Nothing replaces a champion unmeasured."""
    assert shop.order("alice", "add", str(shop.artefact(2))) == 0

    assert shop.order("alice", "propose", "demo/2") == 78


@pytest.mark.slow
def test_changed_evidence_approves_nothing(shop: Shop, matured: Path) -> None:
    """The second person signs what the first one measured, to the byte."""
    assert shop.order("alice", "add", str(shop.artefact(2))) == 0
    assert shop.order("alice", "propose", "demo/2", "--data", str(matured)) == 0
    for report in (shop.folder / "repository" / "evidence").iterdir():
        report.write_text("{}")

    assert shop.order("bob", "promote", "demo/2") == 65


def test_orders_end_with_the_exit_code_of_their_refusal(shop: Shop) -> None:
    """65 for a rule, 77 for a signature that does not count, 78 for a key that is none."""
    assert shop.order("alice", "promote", "demo/1") == 65
    shop.person("dave", "trainer")
    assert shop.order("dave", "shadow", "demo/1") == 77
    assert shop.order("nobody", "shadow", "demo/1") == 78


def test_stranger_to_the_artefact_cannot_add_it(shop: Shop) -> None:
    """An unsigned artefact, and one that was changed after signing, are refused."""
    unsigned = shop.artefact(2)
    (unsigned / "signature.json").unlink()
    assert shop.order("alice", "add", str(unsigned)) == 77
    changed = shop.artefact(4)
    (changed / MANIFEST_FILE).write_text((changed / MANIFEST_FILE).read_text() + " ")
    assert shop.order("alice", "add", str(changed)) == 77


def test_challengers_are_shown(shop: Shop) -> None:
    """Shadows by the ledger; retiring ends them."""
    assert shop.order("alice", "add", str(shop.artefact(2))) == 0
    assert shop.order("carol", "shadow", "demo/2") == 0
    assert shop.status()["challengers"] == ["demo/2"]
    assert shop.order("carol", "retire", "demo/2") == 0
    assert shop.status()["challengers"] == []
    assert shop.status()["retired"] == ["demo/2"]


@pytest.mark.parametrize("share", ["0", "0.05", "50.1", "half"])
def test_share_of_a_canary_is_bounded(shop: Shop, share: str) -> None:
    """From a tenth of a percent to half of the cards, in tenths."""
    with pytest.raises(SystemExit) as ended:
        shop.order("bob", "canary", "demo/1", "--share-percent", share)

    assert ended.value.code == 64


def test_cut_ledger_is_found_by_an_earlier_head(shop: Shop) -> None:
    """Who compares heads sees that an order is gone."""
    head = str(shop.status()["head"])
    ledger = shop.folder / "repository" / "ledger.jsonl"
    ledger.write_bytes(b"\n".join(ledger.read_bytes().split(b"\n")[:-2]) + b"\n")

    assert run(["status", *shop.common()]) == 0
    assert run(["status", *shop.common(), "--head", head]) == 65


@pytest.mark.parametrize("command", ["add", "propose", "promote", "canary", "rollback", "status"])
def test_help_states_the_rules_and_the_exit_codes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person at 3 a.m. reads --help, not the source."""
    with pytest.raises(SystemExit):
        run([command, "--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert "--repository" in text
    assert command == "status" or "A model is promoted by two people" in text
