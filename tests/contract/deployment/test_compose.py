"""compose.yaml and the Dockerfiles: whole, hardened, naming only what exists. Needs no Docker."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from harness.processes import PROJECT_FOLDER
from tests.contract.deployment.deployed_settings import SERVICES, faults_of

ROOT = PROJECT_FOLDER
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
LINE = (
    "ingest",
    "labels",
    "features-card",
    "features-entity",
    "features-label",
    "scoring",
    "console",
    "archive",
)
SERVERS = ("kafka", "valkey", "postgres", "otel-collector")


def instructions(service: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions with what follows them, continued lines joined."""
    text = (ROOT / "services" / service / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_compose_brings_every_server_and_every_service() -> None:
    """One command brings the whole line."""
    assert set(LINE) | set(SERVERS) <= set(COMPOSE["services"])


@pytest.mark.parametrize("name", [*LINE, "topics"])
def test_environment_is_one_that_the_service_accepts(name: str) -> None:
    """Every FRAUD_ name is a setting, and every value is within its bounds."""
    assert faults_of(COMPOSE["services"][name]["environment"]) == []


@pytest.mark.parametrize("name", LINE)
def test_container_is_restricted(name: str) -> None:
    """Read-only root, no capabilities, no new privileges."""
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_ports_are_published_on_loopback_only() -> None:
    """Nothing of a laptop's stack is reachable from its network."""
    published = [port for s in COMPOSE["services"].values() for port in s.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_what_a_service_waits_for_exists() -> None:
    """A condition on a service that is not there would fail at the first start."""
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])


def test_no_service_holds_the_private_key() -> None:
    """What seals and what checks is public; what opens and what signs stays with a person."""
    holders = {
        name
        for name, service in COMPOSE["services"].items()
        if any(str(volume).startswith("private:") for volume in service.get("volumes", ()))
    }

    assert holders == {"keys", "model"}
    assert holders.isdisjoint(LINE)


@pytest.mark.parametrize("service", SERVICES)
def test_image_is_built_in_two_stages_and_runs_as_nobody(service: str) -> None:
    """The image holds no build tools of ours, and its user is not root."""
    steps = instructions(service)

    assert [kind for kind, _ in steps].count("FROM") == 2
    assert ("USER", "10001:10001") in steps
    entry = dict(steps)["ENTRYPOINT"]
    assert entry == f'["python", "-m", "services.{service}"]'
    assert "--require-hashes" in " ".join(text for kind, text in steps if kind == "RUN")


@pytest.mark.parametrize("service", SERVICES)
def test_image_copies_what_exists_and_no_other_service(service: str) -> None:
    """A service's image holds the shared package and that service."""
    copied = [
        name
        for kind, text in instructions(service)
        if kind == "COPY" and "--from" not in text
        for name in text.split()[:-1]
    ]

    assert all((ROOT / name).exists() for name in copied)
    others = {f"services/{other}" for other in SERVICES if other != service}
    assert not others & set(copied)
