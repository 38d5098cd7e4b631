"""The console's process: gunicorn in front, one worker with its pages and its two streams.

One worker, because its streams are singletons of this process; threads answer requests. A worker
that dies is started again by gunicorn, and the streams with it.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from typing import Any, Final

from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # ships no types
from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # ships no types

from fraudstream.broker.quarantine import open_quarantine
from fraudstream.errors import InvalidSettings
from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.runtime.readiness import say_ready
from fraudstream.settings import KafkaSettings, TelemetrySettings
from fraudstream.telemetry.exported_metrics import serve_metrics
from fraudstream.telemetry.spans import Telemetry
from services.console.alerts.consumer import AlertConsumer
from services.console.alerts.store import AlertStore
from services.console.labels.publisher import LabelPublisher
from services.console.loop_health import LoopHealth
from services.console.runtime import Runtime
from services.console.settings import ConsoleSettings
from services.console.sign_in.users import create_demo_users
from services.console.streams import Streams
from services.console.web.whole_requests import WholeRequestWorker, places_within
from services.console.wsgi import ConsoleApplication

_LOG: Final = logging.getLogger(__name__)
_GRACEFUL_STOP_S: Final = 10
# Any number that no other program uses on the same PostgreSQL database.
_MIGRATION_LOCK: Final = 0x66726175


class Worker:
    """What runs in gunicorn's worker: made after the fork, stopped before it ends.

    Args:
        settings: The console's.
        kafka: Where Kafka is.
        telemetry: Where spans go.
    """

    def __init__(
        self, settings: ConsoleSettings, kafka: KafkaSettings, telemetry: TelemetrySettings
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._telemetry_settings = telemetry
        self._streams: Streams | None = None
        self._telemetry: Telemetry | None = None

    def application(self) -> ConsoleApplication:
        """Wire the web application and the streams, and start the streams."""
        self._telemetry = Telemetry(self._telemetry_settings, "console")
        open_quarantine(self._kafka, "console")
        runtime = Runtime(
            reference_currency=self._settings.reference_currency,
            policy=self._settings.sign_in_policy,
            security_contact=self._settings.security_contact,
        )
        alerts, labels = LoopHealth("alerts"), LoopHealth("labels")
        store = AlertStore(epoch_ms)
        consumer = AlertConsumer(self._kafka, store, self._telemetry, epoch_us, alerts)
        publisher = LabelPublisher(self._kafka, runtime.wake_publisher, epoch_ms, labels)
        self._streams = Streams(
            ((alerts, consumer.run), (labels, publisher.run)), runtime.wake_publisher
        )
        scheme = "https" if self._settings.is_https else "http"
        return ConsoleApplication(runtime, self._streams, scheme)

    def start(self, worker: object) -> None:
        """Start the streams and say that the console is ready (gunicorn's `post_worker_init`)."""
        del worker
        serve_metrics("console", self._settings.metrics_port)
        if self._streams:
            self._streams.start()
        say_ready()

    def stop(self, server: object, worker: object) -> None:
        """Stop the streams and send the last spans (gunicorn's `worker_exit`)."""
        del server, worker
        if self._streams:
            self._streams.stop()
        if self._telemetry:
            self._telemetry.close()


class GunicornLogger(Logger):  # type: ignore[misc]  # its base ships no types
    """Gunicorn's messages through our own handlers; requests are not logged."""

    def setup(self, cfg: object) -> None:
        """Leave all handlers as they are (called by gunicorn)."""
        del cfg
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


class GunicornServer(BaseApplication):  # type: ignore[misc]  # its base ships no types
    """Gunicorn with our options in place of its command line.

    Args:
        options: Gunicorn's settings by name.
        make_application: Called in the worker.
    """

    def __init__(
        self, options: dict[str, Any], make_application: Callable[[], ConsoleApplication]
    ) -> None:
        self._options = options
        self._make_application = make_application
        super().__init__()

    def load_config(self) -> None:
        """Take the options (called by gunicorn)."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> ConsoleApplication:
        """Make the application (called by gunicorn in the worker)."""
        return self._make_application()


def prepare_database(settings: ConsoleSettings) -> None:
    """Bring the tables up to date, one console at a time, and make the demo logins if asked."""
    is_shared = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if is_shared:
            cursor.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        if settings.database_migrates:
            call_command("migrate", verbosity=0, interactive=False)
        if is_shared:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATION_LOCK])
    _refuse_other_tables()
    if settings.demo_logins:
        create_demo_users(epoch_ms())
    # A connection must not be shared with the worker that gunicorn forks.
    connections.close_all()


def _refuse_other_tables() -> None:
    """Refuse a database that lacks a change of this release.

    Raises:
        InvalidSettings: It does.
    """
    executor = MigrationExecutor(connection)
    lacking = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if lacking:
        names = ", ".join(f"{change.app_label} {change.name}" for change, _ in lacking[:3])
        msg = (
            f"the database lacks {len(lacking)} changes of this release ({names} …): run"
            " `fraudstream console migrate` as the owner of its tables"
        )
        raise InvalidSettings(msg)


def build(
    settings: ConsoleSettings, kafka: KafkaSettings, telemetry: TelemetrySettings
) -> GunicornServer:
    """Wire the console. Django is configured and the database prepared before."""
    worker = Worker(settings, kafka, telemetry)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    options = {
        "bind": f"{host}:{settings.port}",
        "workers": 1,
        "worker_class": WholeRequestWorker,
        "threads": settings.threads,
        "worker_connections": places_within(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        "timeout": 30,
        "graceful_timeout": _GRACEFUL_STOP_S,
        # One answer fits into a connection's buffer, so no thread waits for a client that reads
        # nothing; of two it would.
        "keepalive": 0,
        "proc_name": "fraudstream-console",
        "control_socket_disable": True,
        # No header says what the path or the scheme is: a proxy passes on what a browser sent.
        "forwarded_allow_ips": "",
        "accesslog": None,
        "logger_class": GunicornLogger,
        "post_worker_init": worker.start,
        "worker_exit": worker.stop,
    }
    return GunicornServer(options, worker.application)
