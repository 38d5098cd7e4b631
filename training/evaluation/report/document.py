"""A document of sections with tables and plots, as one HTML file or as Markdown.

The HTML refers to nothing outside itself and has no script; all text is escaped. Nothing in it
depends on when or where it is made: the same content gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES: Final = Path(__file__).parent / "templates"
_MARKS: Final = re.compile(r"([\\`*_{}\[\]<>|#])")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        tone: `bad` or `good` for what deserves a look, empty for the rest.
    """

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows, and in which units.
        head: Names of the columns.
        rows: Cells, a plain text is one without a tone.
        texts: First columns that hold words; the others hold numbers and stand to the right.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    texts: int = 1

    @property
    def cells(self) -> list[list[Cell]]:
        """Return the rows with every cell in its full form."""
        return [
            [cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows
        ]


_Row = TypeVar("_Row")
# What a column is called, and what it says of a row.
Column = tuple[str, Callable[[_Row], str | Cell]]


def table_of(
    caption: str,
    rows: Iterable[_Row],
    *columns: Column[_Row],
    texts: int = 1,
    more: Iterable[Sequence[str | Cell]] = (),
) -> Table:
    """Return a table of some rows, column by column, and of `more` rows that are written already.

    >>> table_of("Squares.", [2, 3], ("n", str), ("n²", lambda n: str(n * n))).rows
    [['2', '4'], ['3', '9']]
    """
    filled: list[Sequence[str | Cell]] = [[text(row) for _, text in columns] for row in rows]
    return Table(caption, [name for name, _ in columns], [*filled, *more], texts)


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot.

    Attributes:
        caption: What it shows, and how to read it.
        svg: An `<svg>` element.
    """

    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Section:
    """A section: sentences, points, plots and tables, in this order."""

    title: str
    paragraphs: Sequence[str] = ()
    points: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()

    @property
    def anchor(self) -> str:
        """Return the section's name in links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Document:
    """A page.

    Attributes:
        title: Of the page.
        subtitle: What it is about, in a line.
        sections: In order.
        facts: Names and values that identify what was evaluated.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]] = field(default_factory=tuple)


def html_of(document: Document) -> str:
    """Return the document as one HTML file."""
    return _render("page.html.j2", document, is_escaped=True)


def markdown_of(document: Document) -> str:
    """Return the document as Markdown; plots are left out."""
    return _render("page.md.j2", document, is_escaped=False)


def _render(template: str, document: Document, is_escaped: bool) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=is_escaped,  # noqa: S701  # Markdown has its own marks, which `plain` escapes
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = _plain
    environment.filters["drawn"] = Markup  # our own plots only: their text is escaped already
    return environment.get_template(template).render(page=document)


def _plain(text: str) -> str:
    """Return a text in which Markdown reads no marks."""
    return _MARKS.sub(r"\\\1", text)
