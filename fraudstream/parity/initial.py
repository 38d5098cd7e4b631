"""States that were loaded into the store and not counted from the log: where a rebuild begins.

A bank may bring a past that its log never held. What was loaded is kept in one Parquet file: role,
kind and key of each state, and its bytes. Memory: 2.7 KB a card, 1 KB a shared entity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.errors import InvalidSettings
from fraudstream.features.state import LAYOUT_HASH
from fraudstream.store.shard import Role

_LAYOUT: Final = b"fraudstream.layout"
_SCHEMA: Final = pa.schema(
    [("role", pa.string()), ("kind", pa.string()), ("key", pa.string()), ("state", pa.binary())]
)
_ROWS: Final = 10_000

# Role, kind and key of a state, and the state.
InitialState = tuple[Role, str, str, bytes]


@dataclass(frozen=True, slots=True)
class InitialStates:
    """What was loaded, by role and kind, then by key.

    Attributes:
        states: Empty where nothing was loaded.
        sha256: Of the file; empty for none.
    """

    states: Mapping[tuple[Role, str], Mapping[str, bytes]] = field(default_factory=dict)
    sha256: str = ""

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """Read the file that `write_initial` wrote; nothing was loaded where there is none.

        Raises:
            InvalidSettings: It is no such file, or of another layout of states.
        """
        if path is None:
            return cls()
        try:
            table = pq.read_table(path, schema=_SCHEMA)
        except (OSError, ValueError) as exc:
            msg = f"{path}: expected the file of a loaded past, found {type(exc).__name__}"
            raise InvalidSettings(msg) from exc
        layout = (pq.read_schema(path).metadata or {}).get(_LAYOUT, b"").decode()
        if layout != LAYOUT_HASH:
            msg = f"{path}: expected states of layout {LAYOUT_HASH}, found {layout or 'none'}"
            raise InvalidSettings(msg)
        states: dict[tuple[Role, str], dict[str, bytes]] = {}
        for role, kind, key, state in zip(*table.to_pydict().values(), strict=True):
            states.setdefault((Role(role), kind), {})[key] = state
        with path.open("rb") as file:
            return cls(states, hashlib.file_digest(file, "sha256").hexdigest())

    @property
    def number(self) -> int:
        """How many states were loaded."""
        return sum(map(len, self.states.values()))

    def of(self, role: Role, kind: str) -> Mapping[str, bytes]:
        """Return the states of a kind, by key."""
        return self.states.get((role, kind), {})


def write_initial(path: Path, states: Iterable[InitialState]) -> None:
    """Write the file of a loaded past. Keep it for as long as its decisions are to be proven."""
    waiting = iter(states)
    schema = _SCHEMA.with_metadata({_LAYOUT: LAYOUT_HASH.encode()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while some := list(islice(waiting, _ROWS)):
            columns = [list(column) for column in zip(*some, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
