"""docs/data.md against the code: the table of canonical columns."""

from __future__ import annotations

import pyarrow as pa

from fraudstream.archive.columns import ACCEPTED_COLUMNS, CODE, NEEDED
from harness.processes import PROJECT_FOLDER


def test_the_document_lists_every_canonical_column() -> None:
    """Name, type, unit and what stands in for it, as the code has them."""
    page = (PROJECT_FOLDER / "docs" / "data.md").read_text()
    types = {CODE: "text", pa.string(): "text", pa.float64(): "number"}

    for column in ACCEPTED_COLUMNS:
        type_name = types.get(column.type, f"whole ({column.type})")
        default = f"**{NEEDED}**" if column.default == NEEDED else column.default
        assert f"| `{column.name}` | {type_name} | {column.unit} | {default} |" in page
