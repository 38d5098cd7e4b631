"""The console's process: gunicorn in front, one worker with its pages and its two streams.

One worker, because its streams are singletons of this process; threads answer requests. A worker
that dies is started again by gunicorn, and the streams with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from django.core.management import call_command
from django.db import connection, connections
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # ships no types
from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # ships no types

from fraudstream.readiness import say_ready
from fraudstream.settings import KafkaSettings, TelemetrySettings
from fraudstream.telemetry import Telemetry, serve_metrics
from services.console.alert_consumer import AlertConsumer
from services.console.alert_store import AlertStore
from services.console.label_publisher import LabelPublisher
from services.console.runtime import Runtime, epoch_ms, epoch_us
from services.console.settings import ConsoleSettings
from services.console.streams import Streams
from services.console.users import create_demo_users
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
        runtime = Runtime(reference_currency=self._settings.reference_currency)
        consumer = AlertConsumer(self._kafka, AlertStore(epoch_ms), self._telemetry, epoch_us)
        publisher = LabelPublisher(self._kafka, runtime.wake_publisher, epoch_ms)
        self._streams = Streams(
            {"alerts": consumer.run, "labels": publisher.run}, runtime.wake_publisher
        )
        return ConsoleApplication(runtime, self._streams.silent)

    def start(self, worker: object) -> None:
        """Start the streams and say that the console is ready (gunicorn's `post_worker_init`)."""
        del worker
        serve_metrics(self._settings.metrics_port)
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
        call_command("migrate", verbosity=0, interactive=False)
        if is_shared:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATION_LOCK])
    if settings.demo_logins:
        create_demo_users()
    # A connection must not be shared with the worker that gunicorn forks.
    connections.close_all()


def build(
    settings: ConsoleSettings, kafka: KafkaSettings, telemetry: TelemetrySettings
) -> GunicornServer:
    """Wire the console. Django is configured and the database prepared before."""
    worker = Worker(settings, kafka, telemetry)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    options = {
        "bind": f"{host}:{settings.port}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": settings.threads,
        "timeout": 30,
        "graceful_timeout": _GRACEFUL_STOP_S,
        "keepalive": 5,
        "proc_name": "fraudstream-console",
        "control_socket_disable": True,
        "accesslog": None,
        "logger_class": GunicornLogger,
        "post_worker_init": worker.start,
        "worker_exit": worker.stop,
    }
    return GunicornServer(options, worker.application)
