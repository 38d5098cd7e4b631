"""Checks the variables of a deployment file against the settings classes that read them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from fraudstream.strict_settings import StrictSettings

SERVICES = ("ingest", "features", "scoring", "console", "archive")


def settings_classes() -> dict[str, type[StrictSettings]]:
    """Return every settings class of the shared package and the services by its prefix."""
    importlib.import_module("fraudstream.keys.settings")
    for service in SERVICES:
        importlib.import_module(f"services.{service}.settings")
    rooms = ("fraudstream.", "services.")
    found = [c for c in StrictSettings.__subclasses__() if c.__module__.startswith(rooms)]
    return {str(c.model_config.get("env_prefix")): c for c in found}


def faults_of(environment: Mapping[str, str]) -> list[str]:
    """Return what the settings classes would refuse in an environment."""
    classes = settings_classes()
    values: dict[str, dict[str, str]] = {}
    faults = []
    for name, value in environment.items():
        if not name.startswith("FRAUD_"):
            continue
        prefix = next((p for p in classes if name.startswith(p)), None)
        field = name.removeprefix(prefix or "").lower()
        if prefix is None or field not in classes[prefix].model_fields:
            faults.append(f"{name} is read by no settings class")
        else:
            values.setdefault(prefix, {})[field] = value
    for prefix, fields in values.items():
        try:
            classes[prefix].model_validate(fields)
        except ValueError as exc:
            faults.append(f"{prefix}*: {exc}")
    return faults
