"""The Kubernetes files: valid, hardened, and naming only settings that exist. Needs no cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kubernetes_validate
import pytest
import yaml

from fraudstream.broker.wire.record_keys import files_of
from fraudstream.privileges import principal
from fraudstream.rules.cel_library import cel
from fraudstream.settings import KafkaSettings
from harness.processes import PROJECT_FOLDER
from services.ingest.setup.privileges_command import user_name
from services.scoring.settings import ScoringSettings
from tests.contract.deployment.deployed_settings import faults_of

K8S = PROJECT_FOLDER / "k8s"
_PASSWORDS = "/etc/fraudstream-passwords"
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
    return kustomized(K8S / "overlays" / overlay)


def kustomized(folder: Path) -> tuple[Object, ...]:
    """Return the objects of a folder as `kubectl kustomize` makes them."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: overlays are not rendered")
    text = subprocess.run(
        ["kubectl", "kustomize", str(folder)],
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

    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert re.fullmatch(r"v1\.\d+", labels["pod-security.kubernetes.io/enforce-version"])


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
    assert scoring.tls_client_ca_file
    assert scoring.callers_file
    assert not scoring.trusts_network
    assert (
        "grpc" not in pod_of(workloads("production")["scoring"])["containers"][0]["readinessProbe"]
    )
    brought = ("CA", "CERT", "KEY", "TOKEN")
    assert {f"FRAUD_FEATURES_SCORING_{file}_FILE" for file in brought} <= set(
        found["features-card"]
    )


def secrets_of(workload: Object) -> set[str]:
    """Return the secrets that a pod mounts."""
    return {v["secret"]["secretName"] for v in pod_of(workload)["volumes"] if "secret" in v}


def test_a_private_key_is_mounted_by_its_owner_alone() -> None:
    """Scoring and features have a certificate each, and neither the other's key."""
    holders = {
        (name, volume["secret"]["secretName"])
        for name, workload in workloads("production").items()
        for volume in pod_of(workload)["volumes"]
        for item in volume.get("secret", {}).get("items", ())
        if item["key"] == "tls.key"
    }

    assert holders == {
        ("scoring", "fraudstream-scoring-tls"),
        ("features-card", "fraudstream-features-tls"),
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_has_a_login_of_its_own(overlay: str, name: str) -> None:
    """The user of its row in the table of privileges, with passwords that nobody else mounts."""
    found = workloads(overlay)
    environment = environment_of(overlay, found[name])
    mine = f"fraudstream-passwords-{name}"
    (items,) = (
        [item["key"] for item in volume["secret"]["items"]]
        for volume in pod_of(found[name])["volumes"]
        if volume.get("secret", {}).get("secretName") == mine
    )

    assert environment["FRAUD_KAFKA_SASL_USERNAME"] == user_name(KafkaSettings(), name)
    assert environment["FRAUD_KAFKA_SASL_PASSWORD_FILE"] == f"{_PASSWORDS}/kafka"
    has_store = principal(name).store is not None
    assert set(items) == ({"kafka", "store"} if has_store else {"kafka"})
    assert ("FRAUD_REDIS_URL" in environment) == has_store
    if has_store:
        user = urlsplit(environment["FRAUD_REDIS_URL"]).username
        assert user == user_name(KafkaSettings(), name)
    assert [n for n, other in found.items() if mine in secrets_of(other)] == [name]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_a_variable(overlay: str) -> None:
    """Variables are shown by `describe` and inherited by children; a file is read once."""
    for workload in workloads(overlay).values():
        container = pod_of(workload)["containers"][0]
        assert all("secretRef" not in source for source in container.get("envFrom", ()))
        sources = [entry.get("valueFrom", {}) for entry in container["env"]]
        assert all("secretKeyRef" not in source for source in sources)


def test_keys_are_mounted_by_whom_they_serve() -> None:
    """Keys of card tokens for those that make tokens, the public key for those that seal."""
    holders: dict[str, set[str]] = {}
    for name, workload in workloads("production").items():
        for volume in pod_of(workload)["volumes"]:
            if volume.get("secret", {}).get("secretName") == "fraudstream-keys":
                for item in volume["secret"]["items"]:
                    holders.setdefault(item["key"], set()).add(name)

    assert holders == {
        "token-keys.json": {"ingest", "scoring"},
        "seal-public.key": {"ingest", "features-card"},
        "people.json": {"scoring"},
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_keys_of_records_are_mounted_by_who_writes_and_reads_them(overlay: str) -> None:
    """A workload that is taken over signs for nobody but its own room."""
    for name, workload in workloads(overlay).items():
        volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
        items = volumes["record-keys"]["secret"]["items"]

        assert [item["path"] for item in items] == files_of(principal(name)), name


def test_who_holds_keys_can_open_wrapped_ones() -> None:
    """Production refuses plain key files, and every workload has keys of records at least."""
    for name, workload in workloads("production").items():
        environment = environment_of("production", workload)

        assert environment["FRAUD_KEYS_REQUIRES_WRAPPED"] == "true", name
        assert environment["FRAUD_KEYS_KEK_FILE"] == "/etc/fraudstream-kek/kek.json", name
        assert mounted_at(workload, "/etc/fraudstream-kek") == {
            "secret": {"secretName": "fraudstream-kek", "defaultMode": 0o440}
        }, name


def mounted_at(workload: Object, path: str) -> Object:
    """Return the volume that a workload's container finds at a path, without its name."""
    (name,) = (
        mount["name"]
        for mount in pod_of(workload)["containers"][0]["volumeMounts"]
        if mount["mountPath"] == path
    )
    (volume,) = (volume for volume in pod_of(workload)["volumes"] if volume["name"] == name)
    return {key: value for key, value in volume.items() if key != "name"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_scoring_trusts_lies_outside_the_repository(overlay: str) -> None:
    """Whoever writes the repository's volume can neither add a person nor cut the ledger."""
    scoring = workloads(overlay)["scoring"]
    environment = environment_of(overlay, scoring)
    mounts = {
        mount["mountPath"]: mount for mount in pod_of(scoring)["containers"][0]["volumeMounts"]
    }

    def volume_of(path: str) -> str:
        return next(str(m["name"]) for at, m in mounts.items() if path.startswith(f"{at}/"))

    repository = mounts[environment["FRAUD_SCORING_MODEL"]]
    assert repository["readOnly"] is True
    head = environment["FRAUD_SCORING_MODEL_HEAD_FILE"]
    others = {volume_of(head), volume_of(environment["FRAUD_SCORING_PEOPLE_FILE"])}
    assert len({repository["name"], *others}) == 3
    kept = next(v for v in pod_of(scoring)["volumes"] if v["name"] == volume_of(head))
    assert "persistentVolumeClaim" in kept


def test_production_speaks_tls_to_every_server() -> None:
    """Each server is known by its certificate."""
    for name, workload in workloads("production").items():
        environment = environment_of("production", workload)
        assert environment["FRAUD_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        assert environment["FRAUD_TELEMETRY_OTLP_ENDPOINT"].startswith("https://")
        assert environment.get("FRAUD_REDIS_URL", "rediss://").startswith("rediss://")
        assert all(
            address.endswith(":9093") for address in environment["FRAUD_KAFKA_BOOTSTRAP"].split(",")
        )
        authorities = [volume for volume in pod_of(workload)["volumes"] if volume["name"] == "ca"]
        assert authorities, f"{name} has no CA"
    console = environment_of("production", workloads("production")["console"])
    options = dict(parse_qsl(urlsplit(console["FRAUD_CONSOLE_DATABASE_URL"]).query))
    assert options["sslmode"] == "verify-full"
    assert options["sslrootcert"] == "/etc/fraudstream-ca/ca.crt"
    assert console["FRAUD_CONSOLE_DATABASE_TRUSTS_NETWORK"] == "false"


def test_every_peer_of_production_is_named_by_its_pod() -> None:
    """A namespace holds more than the one that may come; the ingress alone is a namespace."""
    nameless = []
    for name, policy in of_kind("production", "NetworkPolicy").items():
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, ()):
                nameless += [
                    name
                    for peer in rule[side]
                    if not peer.get("podSelector", {}).get("matchLabels")
                    or peer.get("namespaceSelector") == {}
                ]

    assert nameless == ["ingress-console"]


def test_production_reaches_kafka_by_tls_alone_and_the_store_where_it_has_a_user() -> None:
    """No plain port is open, and whom the table gives no key does not reach the store."""
    policies = of_kind("production", "NetworkPolicy")
    (kafka,) = policies["egress-kafka"]["spec"]["egress"]
    (store,) = policies["egress-store"]["spec"]["podSelector"]["matchExpressions"]

    assert [port["port"] for port in kafka["ports"]] == [9093]
    assert set(store["values"]) == {name for name in WORKLOADS if principal(name).store}


def test_production_images_are_named_by_digest() -> None:
    """A tag can be moved; the placeholder of zeros is no image of anybody's."""
    for workload in workloads("production").values():
        assert re.search(r"@sha256:[0-9a-f]{64}$", pod_of(workload)["containers"][0]["image"])


def test_cluster_refuses_pods_without_digest() -> None:
    """One policy for every pod of the namespace, tags and placeholder alike."""
    (policy,) = of_kind("production", "ValidatingAdmissionPolicy").values()
    (binding,) = of_kind("production", "ValidatingAdmissionPolicyBinding").values()
    (variable,), (rule,) = policy["spec"]["variables"], policy["spec"]["validations"]
    images_of, holds = cel.compile(variable["expression"]), cel.compile(rule["expression"])

    def is_taken(*images: str) -> bool:
        """Return what the policy says of a pod: an ordinary container, then initial ones."""
        first, *initial = [{"image": image} for image in images]
        spec = {"containers": [first]} | ({"initContainers": initial} if initial else {})
        images_found = images_of.execute({"object": {"spec": spec}})
        return bool(holds.execute({"variables": {variable["name"]: images_found}}))

    assert binding["spec"]["validationActions"] == ["Deny"]
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    good = f"r/fraudstream/ingest@sha256:{'0a' * 32}"
    assert is_taken(good)
    assert is_taken(good, good)
    assert not is_taken(good, "r/sidecar:1")
    assert not is_taken(f"r/fraudstream/ingest@sha256:{'0' * 64}")
    assert not is_taken("r/fraudstream/ingest:0.1.0")
    assert not is_taken(f"{good}:latest")


def test_production_fits_its_quota_twice() -> None:
    """A roll-out has room, a mistake has not."""
    (quota,) = of_kind("production", "ResourceQuota").values()
    hard = quota["spec"]["hard"]
    total = {"cpu": 0.0, "memory": 0.0}
    for workload in workloads("production").values():
        limits = pod_of(workload)["containers"][0]["resources"]["limits"]
        replicas = workload["spec"]["replicas"]
        total["cpu"] += replicas * float(limits["cpu"])
        total["memory"] += replicas * mib_of(limits["memory"])

    assert total["cpu"] <= float(hard["limits.cpu"]) / 1.5
    assert total["memory"] <= mib_of(hard["limits.memory"]) / 1.5
    assert of_kind("production", "LimitRange")


def mib_of(quantity: str) -> float:
    """Return a quantity of memory in MiB."""
    return float(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]
