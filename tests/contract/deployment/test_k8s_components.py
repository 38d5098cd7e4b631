"""Components that an operator adds to an overlay: labels, feeds, sealed numbers, wrapped keys."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import kubernetes_validate
import yaml

from tests.contract.deployment.deployed_settings import faults_of
from tests.contract.deployment.test_k8s import (
    K8S,
    WORKLOADS,
    Object,
    environment_of,
    kustomized,
    mounted_at,
    pod_of,
)

COMPONENTS = ("labels", "feeds", "sealed-pans", "wrapped-keys")


@cache
def found() -> dict[str, Object]:
    """Return the workloads of the local overlay with every such component."""
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()

        def part(path: str) -> str:
            return os.path.relpath(K8S / path, folder)

        kustomization = {
            "resources": [part("overlays/local")],
            "components": [part(f"components/{component}") for component in COMPONENTS],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        objects = kustomized(folder)
    return {o["metadata"]["name"]: o for o in objects if o["kind"] in WORKLOADS.values()}


def test_settings_are_ones_that_the_services_take() -> None:
    """Each workload is valid to the letter, and its variables are read."""
    assert set(found()) == {*WORKLOADS, "labels"}
    for workload in found().values():
        kubernetes_validate.validate(workload, "1.34", strict=True)
        assert faults_of(environment_of("local", workload)) == []


def test_labels_by_topic_are_one_more_pod() -> None:
    """Restricted as the others are."""
    labels = found()["labels"]

    container = pod_of(labels)["containers"][0]
    assert container["args"] == ["labels", "follow"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod_of(labels)["securityContext"]["runAsNonRoot"] is True


def test_feeds_and_keys_of_sealed_numbers_reach_who_reads_raw_topics() -> None:
    """Ingest and labels, at the paths that their variables name; nobody else."""
    volumes = {
        "FRAUD_INGEST_FEEDS_FILE": {"configMap": {"name": "fraudstream-feeds"}},
        "FRAUD_INGEST_PAN_PRIVATE_KEYS": {
            "secret": {"secretName": "fraudstream-pan-keys", "defaultMode": 0o440}
        },
    }
    for variable, volume in volumes.items():
        holders = {
            name: environment_of("local", workload)[variable]
            for name, workload in found().items()
            if variable in environment_of("local", workload)
        }

        assert set(holders) == {"ingest", "labels"}
        for name, path in holders.items():
            folder = path if variable.endswith("_KEYS") else str(Path(path).parent)
            assert mounted_at(found()[name], folder) == volume


def test_labels_can_open_wrapped_keys() -> None:
    """A pod that a component adds is no exception."""
    environment = environment_of("local", found()["labels"])

    assert environment["FRAUD_KEYS_REQUIRES_WRAPPED"] == "true"
    assert mounted_at(found()["labels"], str(Path(environment["FRAUD_KEYS_KEK_FILE"]).parent)) == {
        "secret": {"secretName": "fraudstream-kek", "defaultMode": 0o440}
    }
