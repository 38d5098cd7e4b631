"""The console's tables inside a test's own process, and Django's client before its pages."""

from __future__ import annotations

import tempfile
from pathlib import Path

from django.conf import settings as django_settings
from pydantic import SecretStr

from services.console.django_settings import configure_django
from services.console.settings import ConsoleSettings


def clear_tables() -> None:
    """Configure Django for this process if it is not yet, and empty every table."""
    from django.core.management import call_command

    if not django_settings.configured:
        folder = Path(tempfile.mkdtemp(prefix="console-tables-"))
        database_url = SecretStr(f"sqlite:///{folder / 'console.sqlite3'}")
        configure_django(ConsoleSettings(database_url=database_url, allowed_hosts="testserver"))
        call_command("migrate", verbosity=0)
    call_command("flush", verbosity=0, interactive=False)
