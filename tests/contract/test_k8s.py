"""The Kubernetes files: valid, hardened, and naming only settings that exist. Needs no cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.scoring.settings import ScoringSettings
from tests.contract.deployed_settings import faults_of

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("local", "production")
WORKLOADS = {
    "ingest": "Deployment",
    "features-card": "StatefulSet",
    "features-entity": "StatefulSet",
    "features-label": "StatefulSet",
    "scoring": "Deployment",
    "console": "Deployment",
    "archive": "Deployment",
}

Object = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """Return the objects of an overlay as `kubectl kustomize` makes them."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: overlays are not rendered")
    text = subprocess.run(
        ["kubectl", "kustomize", str(K8S / "overlays" / overlay)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    return tuple(yaml.safe_load_all(text))


def of_kind(overlay: str, kind: str) -> dict[str, Object]:
    """Return an overlay's objects of one kind by name."""
    return {o["metadata"]["name"]: o for o in rendered(overlay) if o["kind"] == kind}


def workloads(overlay: str) -> dict[str, Object]:
    """Return an overlay's workloads by name."""
    return of_kind(overlay, "Deployment") | of_kind(overlay, "StatefulSet")


def pod_of(workload: Object) -> Object:
    """Return the pod's specification."""
    pod: Object = workload["spec"]["template"]["spec"]
    return pod


def environment_of(overlay: str, workload: Object) -> dict[str, str]:
    """Return what a container would find; what the cluster fills in gets an example."""
    shared = next(
        o["data"]
        for o in rendered(overlay)
        if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("fraudstream-shared")
    )
    examples = {"status.podIP": "10.1.2.3", "metadata.name": "features-card-0"}
    own = {
        entry["name"]: entry.get("value") or examples[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for entry in pod_of(workload)["containers"][0]["env"]
    }
    return {**shared, **own}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_to_the_letter(overlay: str) -> None:
    """Strict: a field that Kubernetes does not know is an error, not a wish."""
    for found in rendered(overlay):
        kubernetes_validate.validate(found, "1.34", strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_is_deployed_as_its_membership_asks(overlay: str) -> None:
    """Roles with static membership have stable names: StatefulSets."""
    assert {n: w["kind"] for n, w in workloads(overlay).items()} == WORKLOADS


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_pod_is_restricted(overlay: str, name: str) -> None:
    """Pod Security Standard `restricted`, and a read-only root besides."""
    pod = pod_of(workloads(overlay)[name])
    container = pod["containers"][0]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_pod_has_probes_limits_and_a_place_to_write(overlay: str, name: str) -> None:
    """A hung pod is ended, a hungry one is bounded, compiled code has a writable cache."""
    pod = pod_of(workloads(overlay)[name])
    container = pod["containers"][0]

    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "/tmp" in mounts  # noqa: S108  # the pod's own, an emptyDir
    assert any(v["name"] == "tmp" and "emptyDir" in v for v in pod["volumes"])
    if name == "scoring" or name.startswith("features"):
        assert {"name": "NUMBA_CACHE_DIR", "value": "/tmp/numba"} in container["env"]  # noqa: S108


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_probes_and_services_name_ports_that_exist(overlay: str, name: str) -> None:
    """A probe of a port that nobody opens would restart the pod for ever."""
    container = pod_of(workloads(overlay)[name])["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe].get("httpGet") or container[probe]["grpc"]
        assert asked["port"] in {*ports, *ports.values()}
    for service in of_kind(overlay, "Service").values():
        if service["spec"]["selector"] == {"app.kubernetes.io/name": name}:
            assert all(port["targetPort"] in ports for port in service["spec"]["ports"])


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_environment_is_one_that_the_service_accepts(overlay: str, name: str) -> None:
    """Every FRAUD_ name is a setting, and every value is within its bounds."""
    assert faults_of(environment_of(overlay, workloads(overlay)[name])) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_metrics_port_is_the_one_that_is_opened(overlay: str, name: str) -> None:
    """The named port `metrics` and the service's own setting are the same number."""
    workload = workloads(overlay)[name]
    container = pod_of(workload)["containers"][0]
    service = name.partition("-")[0].upper()

    opened = {port["name"]: port["containerPort"] for port in container["ports"]}["metrics"]

    assert environment_of(overlay, workload)[f"FRAUD_{service}_METRICS_PORT"] == str(opened)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_one_pod_at_a_time_may_be_drained(overlay: str, name: str) -> None:
    """A drain takes one pod, and a service with a single pod does not block it."""
    budget = of_kind(overlay, "PodDisruptionBudget")[name]["spec"]

    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_service_accounts_bring_no_token(overlay: str) -> None:
    """Nothing of ours talks to the cluster."""
    accounts = of_kind(overlay, "ServiceAccount")

    assert set(accounts) == set(WORKLOADS)
    assert all(a["automountServiceAccountToken"] is False for a in accounts.values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_namespace_enforces_the_restricted_standard(overlay: str) -> None:
    """The cluster refuses a pod that this repository's tests would have missed."""
    (namespace,) = of_kind(overlay, "Namespace").values()

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_written_in_the_files(overlay: str) -> None:
    """Keys and passwords are made by the operator; the files only name them."""
    text = yaml.safe_dump_all(rendered(overlay))

    assert not of_kind(overlay, "Secret")
    assert not re.search(r"(?i)(password|secret|token)=\S", text)
    assert not re.search(r"://[^/\s@]+:[^/\s@]+@", text)


def test_production_denies_all_traffic_that_is_not_named() -> None:
    """One policy takes every pod, in and out; the others name what may talk."""
    policies = of_kind("production", "NetworkPolicy")

    assert policies["deny-all"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    internal = policies["ingress-scoring"]["spec"]["ingress"][1]
    assert internal["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "features-card"}}}
    ]


def test_production_opens_scoring_to_known_callers_over_tls_alone() -> None:
    """No setting trusts the network, and the one who calls brings a CA and a token."""
    found = {name: environment_of("production", w) for name, w in workloads("production").items()}
    scoring = ScoringSettings.model_validate(
        {
            name.removeprefix("FRAUD_SCORING_").lower(): value
            for name, value in found["scoring"].items()
            if name.startswith("FRAUD_SCORING_")
        }
    )

    assert scoring.tls_cert_file
    assert scoring.callers_file
    assert not scoring.trusts_network
    assert (
        "grpc" not in pod_of(workloads("production")["scoring"])["containers"][0]["readinessProbe"]
    )
    assert {"FRAUD_FEATURES_SCORING_CA_FILE", "FRAUD_FEATURES_SCORING_TOKEN_FILE"} <= set(
        found["features-card"]
    )


def test_key_of_scoring_is_mounted_nowhere_else() -> None:
    """Features gets the CA of that secret, not its key."""
    holders = {
        name
        for name, workload in workloads("production").items()
        for volume in pod_of(workload)["volumes"]
        for item in volume.get("secret", {}).get("items", ())
        if item["key"] == "tls.key"
    }

    assert holders == {"scoring"}


def test_production_images_carry_a_version() -> None:
    """`latest` cannot be rolled back."""
    for workload in workloads("production").values():
        assert re.search(r":\d+\.\d+\.\d+$", pod_of(workload)["containers"][0]["image"])
