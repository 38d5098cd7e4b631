"""The console's tables inside a test's own process, and Django's client before its pages."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings as django_settings
from pydantic import SecretStr

from services.console.django_settings import configure_django
from services.console.runtime import ENVIRON_KEY, Runtime
from services.console.settings import ConsoleSettings

if TYPE_CHECKING:
    from django.test import Client

NOW_MS = 1_790_000_000_000


class FakeClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def new_browser(runtime: Runtime) -> Client:
    """A browser that has never been here, before pages with a runtime."""
    from django.test import Client

    client = Client()
    vars(client)["defaults"][ENVIRON_KEY] = runtime
    return client


def clear_tables() -> None:
    """Configure Django for this process if it is not yet, and empty every table."""
    from django.core.management import call_command

    if not django_settings.configured:
        folder = Path(tempfile.mkdtemp(prefix="console-tables-"))
        database_url = SecretStr(f"sqlite:///{folder / 'console.sqlite3'}")
        configure_django(ConsoleSettings(database_url=database_url, allowed_hosts="testserver"))
        # The real one takes a third of a second a guess, on purpose.
        django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
        call_command("migrate", verbosity=0)
    call_command("flush", verbosity=0, interactive=False)
