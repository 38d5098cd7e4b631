"""The package's dependencies: what `requirements/run.in` names, so that they stand in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RunRequirements(MetadataHookInterface):  # type: ignore[misc]  # hatchling ships no types
    """Hatchling's hook for metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the dependencies."""
        lines = Path(__file__).with_name("run.in").read_text().splitlines()
        metadata["dependencies"] = [line for line in lines if line and not line.startswith("#")]
