"""The console as a Django application."""

from __future__ import annotations

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """Name and label of the application."""

    name = "services.console"
    label = "console"
    default_auto_field = "django.db.models.BigAutoField"
