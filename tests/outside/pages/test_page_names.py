"""What a page names is there: links, commands and options, settings, topics, files, codes."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from fraudstream.cli.table import PROGRAMS, module_of
from fraudstream.client import BlockingScoringClient, ScoringClient
from fraudstream.topics import ALL
from tests.contract.deployment.deployed_settings import settings_classes
from tests.outside.pages.pages import (
    PAGES,
    ROOT,
    Command,
    blocks_of,
    code_of,
    commands_of,
    page_name,
)

MODULES: Final = {module_of(program): entry for program, entry in PROGRAMS.items()}
# Read by the demo, the tests and the crash points: not settings of a service.
OTHER_SETTINGS: Final = {"FRAUD_DATA_DIR", "FRAUD_CRASH_AT", "FRAUD_CRASH_LOG"}
ROOMS: Final = (
    "fraudstream", "services", "training", "demo", "loadtest", "proto", "samples", "models", "k8s",
    "docs", "ops", "tests", "requirements", "feature_repo",
)  # fmt: skip
SOURCES: Final = ("fraudstream", "services", "training", "demo", "loadtest", "feature_repo")
# What stands for a value in a page, where a command looks at the value's form.
EXAMPLES: Final = {"DECISION_ID": "0" * 32}
# Capitals that are others' names: of Parquet's encodings, of the machine's own variables.
OTHERS_CODES: Final = {"BYTE_STREAM_SPLIT", "KAFKA_HOME", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"}
# What commands of the pages write that nobody else may have.
SECRETS: Final = tuple(
    re.compile(form)
    for form in (
        r"keys token ([\w./-]+)",
        r"keys seal ([\w./-]+) ",
        r"keys pan ([\w./-]+)",
        r"keys records (?:make|add) ([\w./-]+)",
        r"keys kek ([\w./-]+)",
        r"privileges passwords ([\w./-]+)",
        r"privileges store .*>([\w./-]+)",
        r"--key ([\w./-]+)",
        r"--(?:people|file) ([\w./-]+)",
        r"> ?((?:[\w./-]*)(?:key|password)[\w.]*)$",
        r"cat > (line\.env)",
        r"< (password[\w.]*)",
    )
)
FOLDERS: Final = {"passwords", "record-keys", "keys/pan", "keys/records"}
by_page = pytest.mark.parametrize("page", PAGES, ids=page_name)
# The change log also names what was renamed or taken away.
by_current_page = pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=page_name
)


def slug_of(heading: str) -> str:
    """Return the anchor that a heading gets from the usual Markdown renderers."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    return {slug_of(h) for h in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}


@cache
def source_text() -> str:
    """Return all of our own source and contracts as one text."""
    files = [f for room in SOURCES for f in (ROOT / room).rglob("*.py")]
    files += [*(ROOT / "proto").rglob("*.proto"), ROOT / "demo" / "rules.toml"]
    return "\n".join(f.read_text() for f in files)


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    """A link or picture within the repository names a file that is there, and a heading in it."""
    missing = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            missing.append(f"{target}#{anchor}")

    assert missing == []


@by_current_page
def test_make_targets_exist(page: Path) -> None:
    """`make X` in a page is a target."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z.][a-z./-]*):", makefile, re.MULTILINE))

    asked = set(re.findall(r"(?:^|`|\$ )make ([a-z.][a-z./-]*)", page.read_text(), re.MULTILINE))

    assert asked <= targets


def help_of(command: Command, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command's `--help` prints, having run its own parser."""
    module, _, name = MODULES[command.module].partition(":")
    run: Callable[[list[str]], int] = getattr(importlib.import_module(module), name)
    words = [EXAMPLES.get(word, word) for word in command.words]
    try:
        code = run([*words, "--help"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    assert code == 0, f"python -m {command.module} {' '.join(command.words)}: {said.err}"
    return said.out


@by_current_page
def test_commands_are_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each `python -m` of ours is a command that there is, with the options that the page gives."""
    wrong = []
    for command in commands_of(page.read_text()):
        if command.module.split(".")[0] not in ROOMS:
            continue
        if command.module not in MODULES:
            assert importlib.util.find_spec(command.module), command.module
            continue
        text = help_of(command, capsys)
        wrong += [(command, o) for o in command.options if not re.search(rf"{o}(?![\w-])", text)]

    assert wrong == []


@by_current_page
def test_variables_are_settings(page: Path) -> None:
    """A FRAUD_ name in a page is one that something reads."""
    known = OTHER_SETTINGS | {
        f"{prefix}{name}".upper()
        for prefix, settings in settings_classes().items()
        for name in settings.model_fields
    }

    asked = set(re.findall(r"\bFRAUD_[A-Z0-9_]+(?<!_)\b", page.read_text()))

    assert asked <= known


def test_secrets_that_pages_have_made_are_none_of_gits(tmp_path: Path) -> None:
    """Whoever types a page in the working tree and adds all of it commits no key or password."""
    text = "\n".join(block.text for page in PAGES for block in blocks_of(page.read_text()))
    made = {name for form in SECRETS for found in form.findall(text) for name in found.split()}
    names = sorted(name for name in made if re.fullmatch(r"[a-z][\w./-]*", name))
    assert {"token-keys.json", "seal-private.key", "passwords", "record-keys"} <= set(names)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    # Folders and files alike: a pattern for a folder fits what is in it.
    asked = [f"{name}/x" if "." not in name and name in FOLDERS else name for name in names]

    done = subprocess.run(
        ["git", "-C", str(tmp_path), "check-ignore", *asked],
        capture_output=True,
        text=True,
        check=False,
    )

    assert sorted(set(asked) - set(done.stdout.split())) == []


@by_current_page
def test_topics_exist(page: Path) -> None:
    """A name of the form of a topic is one."""
    known = {topic.name for topic in ALL}

    asked = set(re.findall(r"(?<![\w.])[a-z]+\.[a-z_]+\.v\d\b", page.read_text()))

    assert asked - {"fraudstream.v1"} <= known


@by_current_page
def test_files_exist(page: Path) -> None:
    """A path that begins with one of our folders is there."""
    named = {
        word
        for code in code_of(page.read_text())
        for word in code.split()
        if word.split("/")[0] in ROOMS and re.fullmatch(r"[\w./{},*-]+", word) and "/" in word
    }
    patterns = {re.sub(r"\{[^}]*\}", "*", word).rstrip("/") for word in named}

    assert [p for p in patterns if not any(ROOT.glob(p))] == []


@by_current_page
def test_codes_are_used_by_the_code(page: Path) -> None:
    """A reason, status or cause in capitals stands in the source, or in a contract's full name."""
    codes = {c for c in code_of(page.read_text()) if re.fullmatch(r"[A-Z]+(?:_[A-Z]+)+", c)}

    ours = {code for code in codes if not code.startswith("FRAUD_")} - OTHERS_CODES

    assert [code for code in ours if not re.search(rf"(?:\b|_){code}\b", source_text())] == []


@by_current_page
def test_python_names_can_be_imported(page: Path) -> None:
    """`fraudstream.module.name` in a page is there."""
    for name in code_of(page.read_text()):
        if re.fullmatch(r"fraudstream(?:\.\w+)+", name) and not name.startswith("fraudstream.v1"):
            assert pkgutil.resolve_name(name)


@by_current_page
def test_client_methods_exist(page: Path) -> None:
    """A method of the client that a page calls is one of both clients."""
    for name in re.findall(r"\bclient\.(\w+)\(", page.read_text()):
        assert hasattr(ScoringClient, name) or hasattr(BlockingScoringClient, name)
