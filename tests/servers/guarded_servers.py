"""Servers that ask who comes: Kafka with SASL and ACLs, Valkey with users, as `ops/` sets them up.

The principals are made by the commands and scripts that an operator uses; a test gives a service
the environment of its own principal, with its passwords in files.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)

from fraudstream.settings import KafkaSettings
from harness.processes import PROJECT_FOLDER, free_port
from harness.servers import ApacheKafka, ValkeyServer
from services.ingest.setup.privileges_command import ADMINISTRATOR, KAFKA, STORE, user_name

ROOT: Final = PROJECT_FOLDER
PREFIX: Final = "bank-"
_MECHANISM: Final = "SCRAM-SHA-512"
_OPERATIONS: Final = {
    "Read": ACLOperation.READ,
    "Write": ACLOperation.WRITE,
    "Create": ACLOperation.CREATE,
    "Describe": ACLOperation.DESCRIBE,
    "DescribeConfigs": ACLOperation.DESCRIBE_CONFIGS,
}
_TOOLS: Final = {
    "AclCommand": "org.apache.kafka.tools.AclCommand",
    "ConfigCommand": "kafka.admin.ConfigCommand",
}
_LIGHT_JAVA: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m")
_PROPERTIES: Final = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},GUARDED://127.0.0.1:{guarded},CONTROLLER://127.0.0.1:{{controller_port}}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},GUARDED://127.0.0.1:{guarded}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.guarded.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""  # noqa: E501  # lines of a file


def run_ingest(arguments: list[str], environment: Mapping[str, str]) -> str:
    """Run a command of ingest; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "services.ingest", *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    return done.stdout


@dataclass(frozen=True, slots=True)
class Guarded:
    """Servers with users, and the passwords of all principals.

    Attributes:
        kafka: Kafka; `bootstrap` is the listener that asks nobody, for the test alone.
        port: The listener that asks who comes.
        valkey: The store.
        passwords: Folder of `privileges passwords`.
    """

    kafka: ApacheKafka
    port: int
    valkey: ValkeyServer
    passwords: Path

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a principal: its own login, and nobody else's."""
        found = {
            "FRAUD_KAFKA_BOOTSTRAP": f"127.0.0.1:{self.port}",
            "FRAUD_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "FRAUD_KAFKA_SASL_MECHANISM": _MECHANISM,
            "FRAUD_KAFKA_SASL_USERNAME": self.user(name),
            "FRAUD_KAFKA_SASL_PASSWORD_FILE": str(self.passwords / KAFKA / name),
            "FRAUD_KAFKA_TOPIC_PREFIX": PREFIX,
        }
        if (self.passwords / STORE / name).exists():
            server = self.valkey.url.rpartition("@")[2]
            found["FRAUD_REDIS_URL"] = f"redis://{self.user(name)}@{server}"
            found["FRAUD_REDIS_PASSWORD_FILE"] = str(self.passwords / STORE / name)
        return found

    def settings(self, name: str) -> KafkaSettings:
        """Return Kafka's settings of a principal."""
        told = self.environment(name).items()
        prefix = "FRAUD_KAFKA_"
        return KafkaSettings.model_validate(
            {n.removeprefix(prefix).lower(): v for n, v in told if n.startswith(prefix)}
        )

    def user(self, name: str) -> str:
        """Return the user of a principal."""
        return user_name(KafkaSettings(topic_prefix=PREFIX), name)

    def password(self, server: str, name: str) -> str:
        """Return a principal's password for one of the servers."""
        return (self.passwords / server / name).read_text().strip()


@contextmanager
def guarded_servers(home: Path, java: Path, folder: Path) -> Iterator[Guarded]:
    """Start Kafka and Valkey with the principals of the table; end them afterwards."""
    prefixed = {"FRAUD_KAFKA_TOPIC_PREFIX": PREFIX}
    passwords = folder / "passwords"
    run_ingest(["privileges", "passwords", str(passwords)], prefixed)
    users = folder / "users.acl"
    users.write_text(run_ingest(["privileges", STORE, "--passwords", str(passwords)], prefixed))
    administrator = (passwords / STORE / ADMINISTRATOR).read_text().strip()
    port = free_port()
    guarded = Guarded(
        ApacheKafka(home, folder / "kafka", java, _PROPERTIES.format(guarded=port)),
        port,
        ValkeyServer(
            folder / "valkey",
            administrator,
            acl_file=users,
            user=user_name(KafkaSettings(topic_prefix=PREFIX), ADMINISTRATOR),
        ),
        passwords,
    )
    guarded.valkey.start()
    guarded.kafka.start()
    try:
        _make_users(guarded)
        grant(guarded, run_ingest(["privileges", KAFKA], prefixed))
        # By the rights of its own principal: nobody else may make topics.
        run_ingest(["topics", "create"], guarded.environment(ADMINISTRATOR))
        yield guarded
    finally:
        guarded.kafka.stop()
        guarded.valkey.stop()


def run_tool(
    guarded: Guarded, programs: tuple[Path, Path], tool: str, script: str, *words: str
) -> None:
    """Run a script of `ops/kafka` with Kafka's own tool, as the broker's administrator."""
    java, home = programs
    command = " ".join([str(java), *_LIGHT_JAVA, _TOOLS[tool]])
    told = {"CLASSPATH": f"{home}/libs/*", "BOOTSTRAP": guarded.kafka.bootstrap, "PREFIX": PREFIX}
    tools = {"KAFKA_ACLS": command, "KAFKA_CONFIGS": command}
    subprocess.run(
        ["sh", "-s", "--", *words],
        input=script,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **told, **tools},
    )


def grant(guarded: Guarded, script: str) -> None:
    """Do in one request what the script does, which starts Java for each of its commands."""
    acls = [acl for line in script.splitlines() if line.startswith("allow ") for acl in _acls(line)]
    with closing(_admin(guarded)) as admin:
        failed = admin.create_acls(acls)["failed"]
    assert not failed, failed


def rights_of(user: str) -> ACLFilter:
    """Return what finds the rights of a user."""
    return ACLFilter(
        principal=f"User:{user}",
        host=None,
        operation=ACLOperation.ANY,
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
    )


def granted(guarded: Guarded, name: str) -> set[tuple[str, str, str]]:
    """Return the rights of a principal: operation, kind and name of each resource."""
    with closing(_admin(guarded)) as admin:
        found = admin.describe_acls(rights_of(guarded.user(name)))[0]
    return {
        (
            acl.operation.name,
            acl.resource_pattern.resource_type.name,
            acl.resource_pattern.resource_name,
        )
        for acl in found
    }


def _acls(line: str) -> Iterator[ACL]:
    """Return the rights that one `allow` of the script gives."""
    _, user, *words = shlex.split(line)
    pairs = list(zip(words[::2], words[1::2], strict=True))
    for option, resource in pairs:
        if option == "--operation":
            continue
        kind = {"--topic": ResourceType.TOPIC, "--group": ResourceType.GROUP}[option]
        for operation in (word for name, word in pairs if name == "--operation"):
            yield ACL(
                principal=user,
                host="*",
                operation=_OPERATIONS[operation],
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePattern(kind, resource, ACLResourcePatternType.LITERAL),
            )


def _admin(guarded: Guarded) -> KafkaAdminClient:
    options: dict[str, Any] = {"bootstrap_servers": guarded.kafka.bootstrap}
    return KafkaAdminClient(**options)


def _make_users(guarded: Guarded) -> None:
    """Make every user in one request, where `ops/kafka/users.sh` starts Java once for each."""
    with closing(_admin(guarded)) as admin:
        failed = admin.alter_user_scram_credentials(
            [
                UserScramCredentialUpsertion(
                    guarded.user(file.name), _MECHANISM, file.read_text().strip()
                )
                for file in (guarded.passwords / KAFKA).iterdir()
            ]
        )
    assert not any(failed.values()), failed
