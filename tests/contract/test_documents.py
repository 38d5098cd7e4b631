"""What the documents promise exists: links, commands, variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.deployed_settings import settings_classes

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "k8s").rglob("*.md"),
]
# Read by the demo, the tests and the crash points: not settings of a service.
OTHER_NAMES = {"FRAUD_DATA_DIR", "FRAUD_CRASH_AT", "FRAUD_CRASH_LOG"}


def page_name(page: Path) -> str:
    """Return a page's path from the root, for test names."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_to_files(page: Path) -> None:
    """A link or picture within the repository names a file that is there."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())

    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_make_targets_exist(page: Path) -> None:
    """`make X` in a document is a target."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z.][a-z./-]*):", makefile, re.MULTILINE))

    asked = set(re.findall(r"(?:^|`)make ([a-z.][a-z./-]*)", page.read_text(), re.MULTILINE))

    assert asked <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_modules_can_be_run(page: Path) -> None:
    """`python -m X` of ours names a module or a package with `__main__`."""
    asked = set(re.findall(r"python -m ([a-z_.]+)", page.read_text()))

    ours = [m for m in asked if (ROOT / m.split(".")[0]).is_dir()]

    for module in ours:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_variables_are_settings(page: Path) -> None:
    """A FRAUD_ name in a document is one that something reads."""
    known = OTHER_NAMES | {
        f"{prefix}{name}".upper()
        for prefix, settings in settings_classes().items()
        for name in settings.model_fields
    }

    asked = set(re.findall(r"\bFRAUD_[A-Z0-9_]+(?<!_)\b", page.read_text()))

    assert asked <= known
