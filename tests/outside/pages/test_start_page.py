"""docs/start.md to the letter: from nothing to a model that decides and a person who can log in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml

from fraudstream.broker.log_reader import read_topic
from fraudstream.topics import DECISIONS
from fraudstream.v1.decision_pb2 import Decision
from harness.line import LinePorts
from harness.servers import Broker, ValkeyServer, lacking_for_kafka
from harness.settings import MachineSettings, kafka_settings_in
from tests.browser.web_client import WebClient
from tests.conftest import environment_of_test
from tests.outside.pages.page_run import PageRun, Printed, Step, is_as_said, steps_of
from tests.outside.pages.pages import ROOT, blocks_of

PAGE: Final = (ROOT / "docs" / "start.md").read_text()
HERE, _, CLUSTER = PAGE.partition("\n## Images and a cluster\n")
SHELLS: Final = ("sh", "console")
WHOLE_PAGE_S: Final = 270.0


@dataclass(frozen=True, slots=True)
class Started:
    """What the page led to.

    Attributes:
        printed: What each step printed.
        home: Home folder of the reader.
        ports: Where the services listen.
        servers: Variables of broker and store.
    """

    printed: list[Printed]
    home: Path
    ports: LinePorts
    servers: dict[str, str]


@pytest.fixture(scope="module")
def best_broker(request: pytest.FixtureRequest, machine: MachineSettings) -> Broker:
    """Apache Kafka where this machine has it, else the embedded one."""
    name = "broker" if lacking_for_kafka(machine) else "kafka_broker"
    found: Broker = request.getfixturevalue(name)
    return found


@pytest.fixture(scope="module")
def started(
    best_broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    """Type the page, with this machine's addresses for those that stand in it."""
    home = tmp_path_factory.mktemp("operator")
    servers = environment_of_test(best_broker, valkey)
    text = HERE.replace("127.0.0.1:9092", servers["FRAUD_KAFKA_BOOTSTRAP"])
    text = text.replace("redis://127.0.0.1:6379/0", servers["FRAUD_REDIS_URL"])
    steps = [s for b in blocks_of(text) if b.language in SHELLS for s in steps_of(b)]
    ports = LinePorts.free()
    run = PageRun(steps, ROOT, {**servers, **_wiring(ports), "HOME": str(home)}, home / "page.log")
    try:
        printed = run.run(WHOLE_PAGE_S)
        print("\n".join(one.step.typed.rstrip() for one in printed))
        yield Started(printed, home, ports, servers)
    finally:
        run.end()


def _wiring(ports: LinePorts) -> dict[str, str]:
    """Return what keeps this line apart from others on the machine; a reader sets none of it."""
    return {
        "FRAUD_SCORING_PORT": str(ports.scoring),
        "FRAUD_SCORING_INTERNAL_PORT": str(ports.scoring_internal),
        "FRAUD_FEATURES_SCORING_ADDRESS": f"127.0.0.1:{ports.scoring_internal}",
        "FRAUD_CONSOLE_PORT": str(ports.console),
    }


@pytest.mark.slow
def test_every_step_prints_what_the_page_says(started: Started) -> None:
    """A reader who sees something else knows that something is wrong."""
    told = [(one.text, one.step.expected) for one in started.printed if one.step.expected]

    assert len(told) >= 2
    assert [(text, said) for text, said in told if not is_as_said(text, said)] == []


@pytest.mark.slow
def test_the_model_decides(started: Started) -> None:
    """The transaction that the page sends is scored, not answered by a stand-in."""
    records = read_topic(kafka_settings_in(started.servers), DECISIONS)
    decisions = [Decision.FromString(record.value) for record in records]

    assert len(decisions) == 1
    assert not decisions[0].stand_in
    assert decisions[0].model_hash


@pytest.mark.slow
def test_the_person_of_the_page_can_log_in(started: Started) -> None:
    """With the password that the page made, over HTTP, and then with one of her own."""
    password = (started.home / "line" / "password.txt").read_text().strip()
    console = WebClient(f"http://127.0.0.1:{started.ports.console}")

    console.log_in("ada", password)
    assert "Choose a new password" in console.get("/password")
    chosen = {"new_password1": f"{password}-of-ada", "new_password2": f"{password}-of-ada"}
    assert console.post("/password", {"old_password": password, **chosen}) == 302

    assert "ada" in console.get("/")


def test_the_secrets_are_those_that_the_manifests_name() -> None:
    """Each secret of the production overlay, with the keys that its pods mount, and no other."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: overlays are not rendered")
    overlay = ROOT / "k8s" / "overlays" / "production"
    text = subprocess.run(
        ["kubectl", "kustomize", str(overlay)], check=True, capture_output=True, text=True
    ).stdout
    pods = [o["spec"]["template"]["spec"] for o in yaml.safe_load_all(text) if "replicas" in str(o)]
    mounted = [v["secret"] for pod in pods for v in pod["volumes"] if "secret" in v]
    wanted: dict[str, set[str]] = {}
    for secret in mounted:
        files = {item["key"] for item in secret.get("items", ())}
        wanted.setdefault(secret["secretName"], set()).update(files)

    made = {name: files for step in _cluster_steps() for name, files in _secrets_in(step)}

    # That of `labels` is for the component of this name, which the overlay leaves out.
    assert set(made) ^ set(wanted) == {"fraudstream-passwords-labels"}
    # A whole folder: the command that fills it makes what the workloads mount.
    wanted["fraudstream-record-keys"] = {"record-keys"}
    assert [name for name, files in wanted.items() if not files <= made[name]] == []


def _cluster_steps() -> list[Step]:
    return [step for block in blocks_of(CLUSTER) for step in steps_of(block)]


def _secrets_in(step: Step) -> list[tuple[str, set[str]]]:
    """Return the secrets that a step makes, each with its files."""
    found = []
    names = [""]
    for line in step.typed.splitlines():
        words = line.split()
        if words[:3] == ["for", "name", "in"]:
            names = line.partition(" in ")[2].partition(";")[0].split()
        if "secret" in words:
            # KEY=FILE, or a file whose name is the key.
            files = {w.split("=")[1] for w in words if w.startswith("--from-file=")}
            secret = words[words.index("generic") + 1]
            found += [(secret.replace("$name", name), files) for name in names]
        if words == ["done"]:
            names = [""]
    return found


def test_every_image_that_the_page_builds_has_its_file() -> None:
    """The services of the loop are those that have a Dockerfile, and all of them."""
    (loop,) = [line for line in CLUSTER.splitlines() if line.startswith("for service in ")]

    built = set(loop.removeprefix("for service in ").partition(";")[0].split())

    assert built == {path.parent.name for path in (ROOT / "services").glob("*/Dockerfile")}
    assert (ROOT / "training" / "Dockerfile").is_file()
