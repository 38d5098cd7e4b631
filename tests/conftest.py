"""Real servers for tests, and what sets one test apart from the next on a shared server.

Fixtures:
    broker, kafka_broker: a running broker: embedded, Apache Kafka.
    any_broker: Apache Kafka where it is; each of the two where a test is marked `both_brokers`.
    valkey: a running Valkey.
    line_env, any_line_env: environment of one test: broker, store, own topic and key prefix.
    topics: all topics of `line_env`, made.
    service: starts services with `line_env`, ends them after the test.
    data_dir, browser_path: what the machine may lack; the test is skipped with its reason.

Waiting is `harness.processes.wait_until(predicate, timeout_s)`; nothing here or in a test sleeps.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fraudstream.runtime.allowance import MOST_TOLD, Allowance
from harness.processes import ProcessFailed
from harness.servers import ApacheKafka, Broker, EmbeddedBroker, ValkeyServer, lacking_for_kafka
from harness.service_process import ServiceProcess
from harness.settings import MachineSettings

ServiceLauncher = Callable[..., ServiceProcess]


@pytest.fixture(autouse=True)
def _reports_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test see what is reported, whatever was told or set up before it in this process.

    A process tells its log once of a record and of so many a minute, and a command that ran in it
    has left its log handler, whose stream is closed.
    """
    process = "fraudstream.broker.quarantine._Process"
    monkeypatch.setattr(f"{process}.allowance", Allowance(MOST_TOLD))
    monkeypatch.setattr(f"{process}.writer", None)
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def machine() -> MachineSettings:
    """What this machine has."""
    return MachineSettings()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The embedded broker, running."""
    embedded = EmbeddedBroker(tmp_path_factory.mktemp("broker"))
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture(scope="session")
def kafka_broker(
    tmp_path_factory: pytest.TempPathFactory, machine: MachineSettings
) -> Iterator[ApacheKafka]:
    """Apache Kafka, running; skips where KAFKA_HOME or Java is missing."""
    lacking = lacking_for_kafka(machine)
    if lacking or machine.kafka_home is None or machine.java is None:
        pytest.skip(lacking)
    kafka = ApacheKafka(machine.kafka_home, tmp_path_factory.mktemp("kafka"), machine.java)
    kafka.start()
    yield kafka
    kafka.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test Apache Kafka where the machine has it, the embedded broker elsewhere.

    A test that is marked `both_brokers` gets each of them in turn.
    """
    if "any_broker" not in metafunc.fixturenames:
        return
    brokers = ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)]
    if metafunc.definition.get_closest_marker("both_brokers") is None:
        brokers = brokers[:1] if lacking_for_kafka(MachineSettings()) else brokers[1:]
    metafunc.parametrize("any_broker", brokers, indirect=True)


@pytest.fixture
def any_broker(request: pytest.FixtureRequest) -> Broker:
    """The broker that `pytest_generate_tests` chose, running."""
    name = "broker" if request.param == "embedded" else "kafka_broker"
    found: Broker = request.getfixturevalue(name)
    return found


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """Valkey, running, with nothing in it but what tests put under their own prefix."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


def environment_of_test(broker: Broker, valkey: ValkeyServer) -> dict[str, str]:
    """Return the variables of one test: servers, and prefixes that nobody else has."""
    mark = f"t{uuid.uuid4().hex[:8]}"
    prefixes = {"FRAUD_KAFKA_TOPIC_PREFIX": f"{mark}-", "FRAUD_REDIS_KEY_PREFIX": mark}
    return {**broker.environment(), **valkey.environment(), **prefixes}


@pytest.fixture
def line_env(broker: Broker, valkey: ValkeyServer) -> dict[str, str]:
    """Variables of this test on the embedded broker."""
    return environment_of_test(broker, valkey)


@pytest.fixture
def any_line_env(any_broker: Broker, valkey: ValkeyServer) -> dict[str, str]:
    """Variables of this test on `any_broker`."""
    return environment_of_test(any_broker, valkey)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceLauncher]:
    """Start services; all are ended after the test, the last started first.

    Call as `service("services.features", ["card"], env)`; returns when it said `ready`.
    """
    started: list[ServiceProcess] = []

    def launch(
        module: str, arguments: list[str], environment: Mapping[str, str], timeout_s: float = 60.0
    ) -> ServiceProcess:
        process = ServiceProcess(module, arguments, environment, tmp_path / "services")
        started.append(process)
        process.start(timeout_s)
        return process

    yield launch
    for process in reversed(started):
        process.stop()


@pytest.fixture
def topics(line_env: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """Make the topics of `line_env`, and return `line_env`."""
    create_topics(line_env, tmp_path)
    return line_env


def create_topics(environment: Mapping[str, str], folder: Path, *options: str) -> None:
    """Make every topic that `environment` names, by the command that an operator uses."""
    arguments = ["topics", "create", *options]
    command = ServiceProcess("services.ingest", arguments, environment, folder)
    command.launch()
    if not command.wait_end(timeout_s=60.0) or command.exit_code != 0:
        command.kill()
        raise ProcessFailed(f"topics create failed: {command.log_text()[-1_000:]}")


@pytest.fixture(scope="session")
def data_dir(machine: MachineSettings) -> Path:
    """Folder of the data sets; skips where FRAUD_DATA_DIR does not name one."""
    if machine.fraud_data_dir is None or not machine.fraud_data_dir.is_dir():
        pytest.skip("FRAUD_DATA_DIR does not name a folder with the data sets")
    return machine.fraud_data_dir


@pytest.fixture(scope="session")
def browser_path(machine: MachineSettings) -> Path:
    """Chromium or Chrome; skips where none is on the PATH."""
    if machine.browser is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    return machine.browser
