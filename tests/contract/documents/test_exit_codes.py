"""The error tree is whole; the runbook's table has every exit code that there is."""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import grpc
import pytest

from fraudstream import errors
from fraudstream.errors import ErrorWithReason, FraudStreamError, Retry
from tests.material.documented_metrics import ROOT

_ROOMS: Final = ("fraudstream", "services", "training", "demo")
_TREE: Final = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, FraudStreamError)
]
_NAMED: Final = re.compile(r"\bos\.(EX_[A-Z]+)\b")
_NUMBERED: Final = re.compile(
    r"^_[A-Z_, ]+(?:: Final)? = ((?:6[4-9]|7[0-8])(?:, (?:6[4-9]|7[0-8]))*)\b", re.MULTILINE
)


def _used() -> set[int]:
    texts = [file.read_text() for room in _ROOMS for file in (ROOT / room).rglob("*.py")]
    named = {getattr(os, name) for text in texts for name in _NAMED.findall(text)}
    numbered = {
        int(code)
        for text in texts
        for found in _NUMBERED.findall(text)
        for code in found.split(", ")
    }
    return (named | numbered) - {os.EX_OK}


def _documented() -> set[int]:
    page = (ROOT / "docs" / "runbook.md").read_text()
    table = page.partition("## Exit codes")[2].partition("\n## ")[0]
    return {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}


def test_every_exit_code_is_in_the_runbook() -> None:
    """A code that no page explains is looked up in vain at three in the morning."""
    assert _used() - _documented() == set()


def test_every_documented_code_is_one_that_is_used() -> None:
    """1 is what a comparison returns; all others are of sysexits."""
    assert _documented() - _used() == {1}


def _error_classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield every class of the project that derives from one of the tree."""
    known = {error.__name__ for error in _TREE}
    for room in (*_ROOMS, "harness"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                bases = {getattr(base, "id", "") for base in getattr(node, "bases", ())}
                if isinstance(node, ast.ClassDef) and (bases & known or node.name in known):
                    yield str(file), node


@pytest.mark.parametrize("error", _TREE, ids=lambda error: error.__name__)
def test_every_error_has_its_line_of_the_table(error: type[FraudStreamError]) -> None:
    """A gRPC status, an advice, an exit code of the runbook; only the bases are faults of ours."""
    outcome = error.outcome
    is_base = error in (FraudStreamError, ErrorWithReason)

    assert hasattr(grpc.StatusCode, outcome.status)
    assert isinstance(outcome.retry, Retry)
    assert outcome.exit_code in _documented()
    assert (outcome is FraudStreamError.outcome) == is_base


def test_errors_outside_the_tree_have_a_line_and_a_name_of_their_own() -> None:
    """What derives from the base alone says its outcome; two classes of one name would be mixed."""
    classes = list(_error_classes())

    for file, node in classes:
        if file != errors.__file__ and "FraudStreamError" in {ast.unparse(b) for b in node.bases}:
            assert "outcome =" in ast.unparse(node), f"{file}: {node.name}"
    assert {name for name, n in Counter(node.name for _, node in classes).items() if n > 1} == set()
