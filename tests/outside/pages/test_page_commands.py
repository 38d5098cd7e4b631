"""Every command in a page is run by a test, or says why not; the list is printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from tests.outside.pages.pages import PAGES, ROOT, Command, commands_of, page_name

# The first word of these is a group of commands.
_GROUPS: Final = {"topics", "dlq", "keys", "rules", "labels"}
_START: Final = "outside/pages/test_start_page.py"
_ACCOUNTS: Final = "integration/console/test_accounts.py"
_KEYS: Final = "outside/pages/test_keys_page.py"
_RULES: Final = "contract/documents/test_rules_document.py"
_LABELS: Final = "outside/pages/test_labels_page.py"
_PROMOTION: Final = "integration/training/test_promotion_command.py"

RUN_BY: Final[Mapping[str, str]] = {
    "demo": "integration/demo/test_run.py",
    "demo replay": "integration/demo/test_replay.py",
    "demo send": _START,
    "fraudstream.tools.feature_table": "unit/features/test_catalogue.py",
    "fraudstream.keys kek": _KEYS,
    "fraudstream.keys rewrap": _KEYS,
    "fraudstream.keys show": _KEYS,
    "fraudstream.keys wrap": _KEYS,
    "services.archive": _START,
    "services.archive check": "integration/archive/test_archive.py",
    "services.console": _START,
    "services.console audit": _ACCOUNTS,
    "services.console change-user": _ACCOUNTS,
    "services.console create-user": _START,
    "services.console list-users": _ACCOUNTS,
    "services.console migrate": "integration/keys/test_database_privileges.py",
    "services.features card": _START,
    "services.features entity": _START,
    "services.features label": _START,
    "services.features rebuild": "integration/features/test_rebuild_topics.py",
    "services.ingest": _START,
    "services.ingest dlq list": "integration/ingest/test_ingest.py",
    "services.ingest dlq replay": "integration/ingest/test_ingest.py",
    "services.ingest dlq show": "integration/ingest/test_ingest.py",
    "services.ingest keys records": "unit/broker/test_record_macs.py",
    "services.ingest keys pan": _KEYS,
    "services.ingest keys public": _KEYS,
    "services.ingest keys seal": _START,
    "services.ingest keys token": _START,
    "services.ingest labels follow": "integration/ingest/test_label_follow.py",
    "services.ingest labels import": _LABELS,
    "services.ingest privileges": "contract/deployment/test_privilege_files.py",
    "services.ingest topics check": _START,
    "services.ingest topics create": _START,
    "services.scoring": _START,
    "services.scoring replay": "integration/scoring/test_replay.py",
    "services.scoring rules check": _START,
    "services.scoring rules test": _RULES,
    "services.scoring token": "integration/scoring_doors/test_access.py",
    "training add": _START,
    "training canary": _PROMOTION,
    "training dataset": "contract/offline/test_dataset.py",
    "training distil": "contract/models/test_distil.py",
    "training drift": "contract/evaluation/test_drift.py",
    "training evaluate": "contract/evaluation/test_handbook.py",
    "training parity": "e2e/test_parity.py",
    "training person": _START,
    "training promote": _START,
    "training propose": _START,
    "training quantise": "contract/models/test_int8.py",
    "training rollback": _PROMOTION,
    "training search": "contract/models/test_search.py",
    "training shadow": _PROMOTION,
    "training sign": _START,
    "training status": _START,
    "training train": "contract/models/test_command.py",
}
"""Each command of ours that a page names, and the test that runs it."""

# Tests that run all that stands in a page.
_PAGE_OF: Final = {_START: "start.md", _KEYS: "keys.md"}

NOT_RUN: Final[Mapping[str, str]] = {
    "loadtest.bench": "measures for minutes; its parts are run by unit/loadtest/test_bench.py",
    "loadtest.engines": "needs a GPU",
}
"""Each one that no test runs, and why."""


def name_of(command: Command) -> str:
    """Return a command by its module and sub-command, without its arguments."""
    kept = 2 if command.words[:1] and command.words[0] in _GROUPS else 1
    return " ".join((command.module, *command.words[:kept]))


def named_commands() -> dict[str, set[str]]:
    """Return every command of ours that a page names, with the pages."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for command in commands_of(page.read_text()):
            if (ROOT / command.module.split(".")[0]).is_dir():
                found.setdefault(name_of(command), set()).add(page_name(page))
    return found


def test_each_command_of_a_page_is_run_or_says_why_not() -> None:
    """A command that nothing runs is one that a reader finds out about."""
    named = named_commands()
    for name, pages in sorted(named.items()):
        how = f"by {RUN_BY[name]}" if name in RUN_BY else f"not run: {NOT_RUN.get(name)}"
        print(f"python -m {name:32} {how:48} {', '.join(sorted(pages))}")

    assert set(named) == set(RUN_BY) | set(NOT_RUN)


@pytest.mark.parametrize("name", RUN_BY)
def test_the_test_that_runs_a_command_names_it(name: str) -> None:
    """The file is there, and types the command or calls its entry point by its words."""
    file = ROOT / "tests" / RUN_BY[name]
    page = _PAGE_OF.get(RUN_BY[name])
    text = file.read_text() + ((ROOT / "docs" / page).read_text() if page else "")

    assert all(word in text for word in name.split()[1:]), f"{RUN_BY[name]} does not say {name}"
