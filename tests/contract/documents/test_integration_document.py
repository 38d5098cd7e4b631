"""docs/integration.md names every error and test transaction that there is, and no other."""

from __future__ import annotations

import ast
import re

from fraudstream.errors import CALLER_ERRORS
from harness.processes import PROJECT_FOLDER
from services.scoring.api import sandbox
from services.scoring.rpc.grants import AccessRole

PAGE = (PROJECT_FOLDER / "docs" / "integration.md").read_text()


def table(heading: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_error_table_is_that_of_the_code() -> None:
    """Class, status and advice of each error that a caller can meet, in order."""
    expected = [
        [f"`{error.__name__}`", f"`{error.outcome.status}`", error.outcome.retry.value]
        for error in CALLER_ERRORS
    ]

    assert [row[:3] for row in table("Errors")] == expected


def test_every_test_transaction_is_listed() -> None:
    """What can be forced is what the page says."""
    named = [name for row in table("Test transactions") for name in re.findall("`(.+?)`", row[0])]

    assert named == [*sandbox.DECISIONS, *sandbox.ERRORS]


def test_every_role_is_listed() -> None:
    """And no role that nobody can have."""
    assert [row[0].strip("`") for row in table("TLS, tokens and roles")] == list(AccessRole)


def test_example_is_python_whose_imports_exist() -> None:
    """What is copied from the page starts."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    tree = compile(block, "docs/integration.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    imports = [line for line in block.splitlines() if line.startswith("from ")]

    assert tree
    exec("\n".join(imports), {})  # noqa: S102  # our own page
