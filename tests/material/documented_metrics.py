"""The metrics that the pages name, read from the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from harness.processes import PROJECT_FOLDER

ROOT: Final = PROJECT_FOLDER
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_NAME: Final = re.compile(r"(?<![:\w])(fraud_[a-z0-9_]+)(?:\{([^}\n]*)\})?")
_LABEL: Final = re.compile(r'([a-z_]+)(?:="([^"]*)")?')

Named = tuple[str, tuple[tuple[str, str], ...]]


def named_in(text: str) -> Iterator[Named]:
    """Yield each metric that a text names, with its labels; a label without a value has "".

    >>> list(named_in('`fraud_x_total{outcome="late", role}`'))
    [('fraud_x_total', (('outcome', 'late'), ('role', '')))]
    """
    for name, labels in _NAME.findall(text):
        yield name, tuple(_LABEL.findall(labels))


def documented() -> dict[str, set[Named]]:
    """Return the metrics that each page names, by the page's path."""
    found = {str(page.relative_to(ROOT)): set(named_in(page.read_text())) for page in PAGES}
    return {page: names for page, names in found.items() if names}
