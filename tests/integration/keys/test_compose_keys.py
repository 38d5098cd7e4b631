"""What the `keys` container of compose.yaml hands out, and that Kafka takes it. Needs no Docker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from fraudstream.privileges import SERVICES, principal
from harness.processes import PROJECT_FOLDER, ChildProcess, free_port, is_port_open
from harness.servers import lacking_for_kafka
from harness.settings import MachineSettings

ROOT: Final = PROJECT_FOLDER
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())
START_S: Final = 90.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files are handed over by root alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the container's script leaves, run twice, with its volumes in one folder."""
    base = tmp_path_factory.mktemp("compose")
    service = COMPOSE["services"]["keys"]
    for volume in service["volumes"]:
        (base / volume.split(":")[1].lstrip("/")).mkdir(parents=True, exist_ok=True)
    script = service["command"][0].replace("$$", "$")
    for name in ("private", "keys", "archive", "heads"):
        script = re.sub(rf"(?<![\w/])/{name}\b", f"{base}/{name}", script)
    python = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{python}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        subprocess.run(
            [*service["entrypoint"], script], check=True, capture_output=True, env=environment
        )
    return base


def test_each_service_finds_its_own_files_and_no_more(folder: Path) -> None:
    """Its logins, and the keys that it uses."""
    keys = {
        "ingest": {"token-keys.json", "seal-public.key"},
        "labels": {"token-keys.json", "seal-public.key"},
        "features-card": {"seal-public.key"},
        "scoring": {"token-keys.json"},
        "console": {"secret-key", "database-password"},
    }
    for one in SERVICES:
        own = folder / "keys" / one.name
        found = {file.name for file in own.iterdir() if file.is_file()}
        logins = {"kafka", "store"} if principal(one.name).store else {"kafka"}
        assert found == keys.get(one.name, set()) | logins, one.name


def test_files_are_their_owners(folder: Path) -> None:
    """Nobody else on the machine reads them, and none is written again by its service."""
    files = [file for file in (folder / "keys").rglob("*") if file.is_file()]

    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o440"}
    assert {file.stat().st_uid for file in (folder / "keys" / "scoring").rglob("*")} == {10_001}
    assert (folder / "private" / "seal-private.key").stat().st_mode & 0o077 == 0


def test_what_a_service_names_is_there(folder: Path) -> None:
    """Every file of `/keys` in its environment."""
    for name, service in COMPOSE["services"].items():
        mounted = [v for v in service.get("volumes", ()) if v.startswith("keys-")]
        if not mounted or name == "keys":
            continue
        where = folder / "keys" / mounted[0].split(":")[0].removeprefix("keys-")
        told = {**service["environment"]} if "environment" in service else {}
        missing = [
            value
            for value in told.values()
            if isinstance(value, str)
            and value.startswith("/keys/")
            and not (where / value.removeprefix("/keys/")).exists()
        ]
        assert missing == [], name


@pytest.mark.kafka
@pytest.mark.slow
def test_kafka_takes_its_users_and_refuses_others(
    folder: Path, machine: MachineSettings, tmp_path: Path
) -> None:
    """The settings of the file, with ports and folder of this test."""
    lacking = lacking_for_kafka(machine)
    if lacking or machine.kafka_home is None or machine.java is None:
        pytest.skip(lacking)
    ports = {number: free_port() for number in ("9091", "9092", "9093", "9094")}
    told = COMPOSE["services"]["kafka"]["environment"]
    lines = [
        f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={value}"
        for name, value in told.items()
        if name != "KAFKA_OPTS"
    ]
    text = re.sub(r"909[1-4]", lambda found: str(ports[found.group()]), "\n".join(lines))
    text = text.replace("//:", "//127.0.0.1:").replace("//kafka:", "//127.0.0.1:")
    properties = tmp_path / "server.properties"
    properties.write_text(text.replace("/var/lib/kafka/data", str(tmp_path / "log")))
    option = told["KAFKA_OPTS"].replace("/keys", str(folder / "keys" / "kafka"))
    java = [str(machine.java), option, "-Xmx512m", "-cp", f"{machine.kafka_home}/libs/*"]
    form = [*java, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw"]
    subprocess.run([*form, "-c", str(properties)], check=True, capture_output=True)
    server = ChildProcess("kafka", [*java, "kafka.Kafka", str(properties)], tmp_path / "kafka.log")
    server.start()
    try:
        server.wait_ready(lambda: is_port_open(ports["9094"]), START_S)
        word = (folder / "keys" / "console" / "kafka").read_text().strip()
        for port in ("9092", "9094"):
            assert logs_in(ports[port], "fraudstream-console", word)
            assert not logs_in(ports[port], "fraudstream-scoring", word)
    finally:
        server.stop(timeout_s=30.0)


def logs_in(port: int, user: str, word: str) -> bool:
    """Return whether the broker lets a user in."""
    options: Mapping[str, Any] = {
        "bootstrap_servers": f"127.0.0.1:{port}",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": user,
        "sasl_plain_password": word,
        "request_timeout_ms": 10_000,
    }
    try:
        with closing(KafkaAdminClient(**options)) as admin:
            admin.list_topics()
    except KafkaError:
        return False
    return True
