"""The services of the line as processes on this machine: keys, ports, topics, start and stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from fraudstream.broker.wire.record_keys import DIRECTORY, make_files
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.transaction.card_token import write_token_keys
from harness.model_repository import DEMO_MODEL, HEAD, PEOPLE, REPOSITORY, prepare_repository
from harness.processes import ProcessFailed, free_port, is_port_open
from harness.service_process import ServiceProcess, service_name

TOPICS_TIMEOUT_S: Final = 60.0
# Numba compiles the kernel at the very first start on a machine.
READY_TIMEOUT_S: Final = 120.0
# A service whose watchdog gave up is started again, as a supervisor would; not for ever.
_RESTARTS: Final = 3

# Cautious; the copy that the images hold.
DEMO_RULES: Final = Path(__file__).parents[1] / "services" / "scoring" / "rules.toml"
_MODEL_VARIABLE: Final = "FRAUD_SCORING_MODEL"
_USUAL_PORTS: Final = (50_051, 50_052, 8_080)
_FIRST_METRICS_PORT: Final = 9_101

# Module and arguments, in the order in which a transaction meets them.
SERVICES: Final = (
    ("services.scoring", ()),
    ("services.features", ("card",)),
    ("services.features", ("entity",)),
    ("services.features", ("label",)),
    ("services.ingest", ()),
    ("services.console", ()),
)


@dataclass(frozen=True, slots=True)
class LinePorts:
    """TCP ports of the services on loopback.

    Attributes:
        scoring: Of callers.
        scoring_internal: Of features.
        console: Of analysts.
        metrics: Of each process's metrics, by its name; none where it is left out.
    """

    scoring: int
    scoring_internal: int
    console: int
    metrics: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def free(cls) -> Self:
        """Return ports that nobody listens on now."""
        return cls(free_port(), free_port(), free_port())

    @classmethod
    def usual(cls) -> Self:
        """Return the services' own defaults, and a free port for each that is taken."""
        names = [service_name(*service) for service in SERVICES]
        metrics = {name: _usual(port) for port, name in enumerate(names, _FIRST_METRICS_PORT)}
        scoring, internal, console = map(_usual, _USUAL_PORTS)
        return cls(scoring, internal, console, metrics)


def _usual(port: int) -> int:
    return free_port() if is_port_open(port) else port


class Line:
    """All services of one line, sharing a folder for keys and logs.

    Args:
        folder: For keys, the console's database and the logs.
        servers: Variables that name broker, store and prefixes.
        more: Further variables for every service, such as telemetry. A model that they name is
            served from a repository of the line's own.
        services: What to run, of `SERVICES`.
        ports: Where they listen; free ones where not given.
    """

    def __init__(
        self,
        folder: Path,
        servers: Mapping[str, str],
        more: Mapping[str, str] | None = None,
        services: tuple[tuple[str, tuple[str, ...]], ...] = SERVICES,
        ports: LinePorts | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.ports = ports or LinePorts.free()
        told = {_MODEL_VARIABLE: str(DEMO_MODEL), **servers, **(more or {})}
        self._model = Path(told[_MODEL_VARIABLE])
        self.environment = {**told, **self._wiring(), **(more or {}), **self._served()}
        self.services = [
            ServiceProcess(
                module,
                list(arguments),
                self.environment | self._metrics_port(module, arguments),
                self.folder / "logs",
            )
            for module, arguments in services
        ]
        self._restarts: dict[str, int] = {}

    @property
    def console_url(self) -> str:
        """Address of the console."""
        return f"http://127.0.0.1:{self.ports.console}/"

    @property
    def token_keys(self) -> Path:
        """Key file of the tokeniser."""
        return self.folder / "token-keys.json"

    def prepare(self) -> None:
        """Make the keys, the model repository and the topics.

        Raises:
            ProcessFailed: The topics could not be made.
            ModelRefused: The model would not be served.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.token_keys.exists():
            write_token_keys(self.token_keys)
            write_seal_keys(self.folder / "seal-private.key", self.folder / "seal-public.key")
        make_files(self.folder / "record-keys")
        prepare_repository(self._model, self.folder)
        self.run_command("services.ingest", ["topics", "create"])

    def start(self) -> None:
        """Start every service that is not started, and return when all said `ready`.

        Raises:
            ProcessFailed: One of them ended, or was not ready in time.
        """
        for service in self.services:
            if not service.is_running:
                service.launch()
        for service in self.services:
            service.wait_ready(READY_TIMEOUT_S)

    def start_early(self, *names: str) -> None:
        """Start services by name without waiting: those that need nothing of what comes yet."""
        for service in self.services:
            if service.name in names:
                service.launch()

    def stop(self) -> dict[str, int | None]:
        """End all, those first that take records in. Returns exit codes by name."""
        for service in reversed(self.services):
            service.terminate()
        return {service.name: service.stop() for service in reversed(self.services)}

    def revive(self) -> list[str]:
        """Start ended services again, without waiting. Returns their names.

        Raises:
            ProcessFailed: One of them ended too often.
        """
        ended = [service for service in self.services if not service.is_running]
        for service in ended:
            self._restarts[service.name] = self._restarts.get(service.name, 0) + 1
            if self._restarts[service.name] > _RESTARTS:
                tail = "\n".join(service.log_text().splitlines()[-10:])
                raise ProcessFailed(f"{service.name} ended {_RESTARTS} times:\n{tail}")
            service.launch()
        return [service.name for service in ended]

    def run_command(self, module: str, arguments: list[str]) -> str:
        """Run a service's command to its end and return what it printed.

        Raises:
            ProcessFailed: It failed or took too long.
        """
        command = ServiceProcess(module, arguments, self.environment, self.folder / "logs")
        command.launch()
        if not command.wait_end(TOPICS_TIMEOUT_S) or command.exit_code != 0:
            command.kill()
            raise ProcessFailed(f"{command.name} failed: {command.log_text()[-1_000:]}")
        return command.log_text()

    def _metrics_port(self, module: str, arguments: tuple[str, ...]) -> dict[str, str]:
        """Return what gives a process a port of its own: several share one variable."""
        port = self.ports.metrics.get(service_name(module, arguments))
        service = module.rpartition(".")[2].upper()
        return {} if port is None else {f"FRAUD_{service}_METRICS_PORT": str(port)}

    def _served(self) -> dict[str, str]:
        """Return what tells scoring of the model repository."""
        return {
            _MODEL_VARIABLE: str(self.folder / REPOSITORY),
            "FRAUD_SCORING_PEOPLE_FILE": str(self.folder / PEOPLE),
            "FRAUD_SCORING_MODEL_HEAD_FILE": str(self.folder / HEAD),
        }

    def _wiring(self) -> dict[str, str]:
        """Return what tells the services of each other and of their files."""
        seal_public = str(self.folder / "seal-public.key")
        return {
            DIRECTORY: str(self.folder / "record-keys"),
            "FRAUD_INGEST_TOKEN_KEYS_FILE": str(self.token_keys),
            "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": seal_public,
            "FRAUD_INGEST_SEAL_PRIVATE_KEY_FILE": str(self.folder / "seal-private.key"),
            "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE": seal_public,
            "FRAUD_FEATURES_SCORING_ADDRESS": f"127.0.0.1:{self.ports.scoring_internal}",
            "FRAUD_FEATURES_STATE_DIR": str(self.folder / "features"),
            "FRAUD_SCORING_TOKEN_KEYS_FILE": str(self.token_keys),
            # Load tests call with tokens of their own, as a bank does that makes them itself.
            "FRAUD_SCORING_TOKEN_KEY_IDS": "loadtest",
            "FRAUD_SCORING_RULE_SET_FILE": str(DEMO_RULES),
            "FRAUD_SCORING_PORT": str(self.ports.scoring),
            "FRAUD_SCORING_INTERNAL_PORT": str(self.ports.scoring_internal),
            "FRAUD_CONSOLE_PORT": str(self.ports.console),
            "FRAUD_CONSOLE_DATABASE_URL": f"sqlite:///{self.folder}/console.sqlite3",
            "FRAUD_CONSOLE_DEMO_LOGINS": "true",
            "FRAUD_TELEMETRY_SAMPLE_RATIO": "1",
        }
