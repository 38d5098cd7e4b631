"""Rooms: how many files a folder may hold, and that each package has an order."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

from harness.processes import PROJECT_FOLDER

_ROOTS = ("fraudstream", "services", "training", "harness", "demo", "loadtest", "tests")
_MOST_FILES = 16


def _rooms() -> Counter[Path]:
    """Return how many Python files each folder holds, but for `__init__.py` and generated ones."""
    files = (file for root in _ROOTS for file in (PROJECT_FOLDER / root).rglob("*.py"))
    return Counter(
        file.parent.relative_to(PROJECT_FOLDER)
        for file in files
        if file.name != "__init__.py" and file.parent.name != "v1"
    )


def test_no_room_is_full() -> None:
    """Who looks for something reads the names of one folder."""
    assert {str(room): files for room, files in _rooms().items() if files > _MOST_FILES} == {}


def test_every_package_of_rooms_has_an_order() -> None:
    """A package with rooms of its own has a `layers` contract, so that no import goes upwards."""
    tools = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text())["tool"]
    ordered = {
        container
        for contract in tools["importlinter"]["contracts"]
        for container in contract.get("containers", ())
    }
    rooms_of = Counter(room.parent for room in _rooms() if room.parts[0] != "tests")
    packages = {
        ".".join(package.parts)
        for package, rooms in rooms_of.items()
        if rooms > 1 and package not in (Path(), Path("services"))
    }

    assert packages - ordered == set()
