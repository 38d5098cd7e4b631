"""Attacks by what was deployed: one login for all, secrets as variables, servers not verified."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kafka import KafkaProducer

from fraudstream.broker.clients import kafka_python_producer_options
from fraudstream.topics import ACCEPTED
from harness.processes import PROJECT_FOLDER, wait_until
from tests.conftest import ServiceLauncher
from tests.worlds.archive_records import accepted
from tests.worlds.scoring_world import kafka_settings

pytestmark = pytest.mark.attack

ROOT: Final = PROJECT_FOLDER
PROGRAMS: Final = (
    *(f"services/{name}" for name in ("ingest", "features", "scoring", "console", "archive")),
    "training",
    "demo",
)
OTHERS: Final = stat.S_IRWXO
Object = dict[str, Any]


@cache
def production() -> tuple[Object, ...]:
    """Return the objects of the production overlay."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: overlays are not rendered")
    made = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s" / "overlays" / "production")],
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(yaml.safe_load_all(made.stdout))


def of_kind(*kinds: str) -> dict[str, Object]:
    """Return objects of some kinds by name."""
    return {o["metadata"]["name"]: o for o in production() if o["kind"] in kinds}


def pods() -> dict[str, Object]:
    """Return the pod of each workload."""
    found = of_kind("Deployment", "StatefulSet")
    return {name: workload["spec"]["template"]["spec"] for name, workload in found.items()}


def variables(pod: Object) -> dict[str, str]:
    """Return the variables of a pod that stand in the file."""
    shared: dict[str, str] = next(
        o["data"] for n, o in of_kind("ConfigMap").items() if "shared" in n
    )
    own = pod["containers"][0]["env"]
    return shared | {entry["name"]: entry.get("value", "") for entry in own}


def compose() -> dict[str, Object]:
    """Return the services of compose.yaml."""
    found: dict[str, Object] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def console(**more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the console with some settings."""
    return subprocess.run(
        [sys.executable, "-m", "services.console", "create-user", "eve"],
        check=False,
        capture_output=True,
        text=True,
        input="Violet-Harbour-1987-x\n",
        env={**os.environ, **{f"FRAUD_CONSOLE_{name}": value for name, value in more.items()}},
    )


def test_d1_no_two_workloads_have_the_same_login() -> None:
    """Whoever takes one service's credentials has the rights of that service alone."""
    shared = Counter(
        secret
        for pod in pods().values()
        for secret in (
            *(s["secretRef"]["name"] for s in pod["containers"][0]["envFrom"] if "secretRef" in s),
            *(
                v["secret"]["secretName"]
                for v in pod["volumes"]
                if "password" in v.get("secret", {}).get("secretName", "")
            ),
        )
    )
    users = Counter(variables(pod).get("FRAUD_KAFKA_SASL_USERNAME") for pod in pods().values())

    assert set(shared.values()) == {1}
    assert None not in users
    assert set(users.values()) == {1}


def test_d1_who_keeps_nothing_in_the_store_is_told_no_address_of_it() -> None:
    """Console, ingest and archive have neither address nor login."""
    holders = {
        name
        for name, pod in pods().items()
        if "FRAUD_REDIS_URL" in variables(pod)
        or any("secretRef" in source for source in pod["containers"][0]["envFrom"])
    }

    assert holders == {"features-card", "features-entity", "scoring"}


def test_d2_no_password_is_a_variable() -> None:
    """What `describe` shows and children inherit holds no secret."""
    for name, pod in pods().items():
        container = pod["containers"][0]
        assert not any("secretRef" in source for source in container["envFrom"]), name
        assert not any("secretKeyRef" in e.get("valueFrom", {}) for e in container["env"]), name


def test_d2_password_file_that_others_read_is_refused(tmp_path: Path) -> None:
    """A service does not take a secret that anybody on the machine has."""
    word = tmp_path / "password"
    word.write_text("open")
    word.chmod(0o644)
    told = {
        "FRAUD_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "FRAUD_KAFKA_SASL_USERNAME": "fraudstream-ingest",
        "FRAUD_KAFKA_SASL_PASSWORD_FILE": str(word),
    }

    done = subprocess.run(
        [sys.executable, "-m", "services.ingest", "topics", "check"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **told},
    )

    assert done.returncode == os.EX_CONFIG
    assert "has mode 0644, expected 0400" in done.stderr


@pytest.mark.parametrize("mode", ["", "?sslmode=require", "?sslmode=verify-ca"])
def test_d3_console_asks_its_database_who_it_is(mode: str) -> None:
    """Whoever answers under the server's name gets neither password nor alerts."""
    done = console(DATABASE_URL=f"postgresql://console@database.invalid/console{mode}")

    assert done.returncode == os.EX_CONFIG
    assert "without sslmode=verify-full" in done.stderr


def test_d3_production_verifies_every_server_and_every_caller() -> None:
    """TLS to broker, store, database and collector; scoring's callers bring a certificate."""
    found = {name: variables(pod) for name, pod in pods().items()}

    assert "sslmode=verify-full" in found["console"]["FRAUD_CONSOLE_DATABASE_URL"]
    assert found["scoring"].get("FRAUD_SCORING_TLS_CLIENT_CA_FILE")
    for told in found.values():
        assert told["FRAUD_TELEMETRY_OTLP_ENDPOINT"].startswith("https://")
        assert told["FRAUD_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        assert told.get("FRAUD_REDIS_URL", "rediss://").startswith("rediss://")


def test_d4_pods_reach_named_peers_alone() -> None:
    """No pod of any namespace that calls itself a name server, no plain port of Kafka."""
    policies = of_kind("NetworkPolicy")
    (names,) = policies["egress-names"]["spec"]["egress"]
    ports = {
        port["port"]
        for policy in policies.values()
        for rule in policy["spec"].get("egress", ())
        for port in rule["ports"]
    }

    assert names["to"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "kube-system"
    }
    assert 9093 in ports
    assert 9092 not in ports


def test_d5_no_two_services_of_compose_share_a_volume_of_keys() -> None:
    """Card token keys reach those that make tokens, not the console or the database."""
    once = {"keys"}  # makes and hands out the files, and ends
    holders = Counter(
        volume.partition(":")[0]
        for name, service in compose().items()
        if name not in once
        for volume in service.get("volumes", ())
        if volume.startswith("keys")
    )

    assert holders
    assert set(holders.values()) == {1}


def test_d5_servers_of_compose_ask_who_comes_and_are_pinned() -> None:
    """Kafka and Valkey have users, images a whole version."""
    services = compose()

    assert services["kafka"]["environment"].get("KAFKA_AUTHORIZER_CLASS_NAME")
    assert "PLAINTEXT" not in re.split(
        "[,:]",
        services["kafka"]["environment"]["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].partition(
            "EXTERNAL:"
        )[2],
    )
    assert "--aclfile" in services["valkey"]["command"]
    for name, service in services.items():
        if "build" not in service and not service["image"].startswith("fraudstream/"):
            assert re.search(r":\d+\.\d+\.\d+|postgres:\d+\.\d+", service["image"]), name
    for file in (ROOT / "services").rglob("Dockerfile"):
        assert re.search(r"python:3\.\d+\.\d+-", file.read_text()), file


def test_d6_namespace_is_bounded_and_images_are_what_was_built() -> None:
    """A quota, a pinned standard, and a digest in place of a tag."""
    (namespace,) = of_kind("Namespace").values()

    assert of_kind("ResourceQuota")
    assert of_kind("LimitRange")
    assert "pod-security.kubernetes.io/enforce-version" in namespace["metadata"]["labels"]
    for name, pod in pods().items():
        assert re.search(r"@sha256:[0-9a-f]{64}$", pod["containers"][0]["image"]), name


def test_f4_ledger_is_held_to_what_was_seen_on_a_volume_of_its_own() -> None:
    """Who can write the repository can neither cut its ledger unseen nor add a signer."""
    pod, service = pods()["scoring"], compose()["scoring"]
    of_pod, of_compose = variables(pod), service["environment"]
    mounts = {m["mountPath"]: m["name"] for m in pod["containers"][0]["volumeMounts"]}
    volumes = {v.split(":")[1]: v.split(":")[0] for v in service["volumes"]}

    for told, where in ((of_pod, mounts), (of_compose, volumes)):
        files = (told["FRAUD_SCORING_MODEL_HEAD_FILE"], told["FRAUD_SCORING_PEOPLE_FILE"])
        repository = next(
            volume
            for at, volume in where.items()
            if Path(told["FRAUD_SCORING_MODEL"]).is_relative_to(at)
        )
        others = {
            volume
            for file in files
            for at, volume in where.items()
            if Path(file).is_relative_to(at)
        }
        assert len(others) == 2
        assert repository not in others


def test_f6_archive_is_no_other_users_to_read(
    topics: Mapping[str, str], service: ServiceLauncher, tmp_path: Path
) -> None:
    """Files and folders of transactions are for the service's user and group."""
    root = tmp_path / "archive"
    environment = {
        **topics,
        "FRAUD_ARCHIVE_ROOT": str(root),
        "FRAUD_ARCHIVE_MAX_AGE_S": "0.5",
    }
    kafka = kafka_settings(topics)
    before = os.umask(0o022)  # as most machines have it
    try:
        service("services.archive", [], environment)
    finally:
        os.umask(before)
    producer = KafkaProducer(**kafka_python_producer_options(kafka))
    producer.send(
        kafka.topic(ACCEPTED), value=accepted(1).SerializeToString(), key=b"k", partition=0
    ).get(30)
    producer.close()
    assert wait_until(lambda: any(root.rglob("*.parquet")), 60.0)

    open_ones = [p for p in (root, *root.rglob("*")) if p.stat().st_mode & OTHERS]

    assert open_ones == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_f6_every_program_keeps_its_files_to_itself(program: str) -> None:
    """What one writes later, a log, a model, `running.json`, is closed to others from the start."""
    text = (ROOT / program / "__main__.py").read_text()

    first = text.partition('if __name__ == "__main__":\n')[2].splitlines()[0].strip()

    assert first == "keep_files_private()"
