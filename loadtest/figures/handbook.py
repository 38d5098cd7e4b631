"""The Handbook's transactions for figures, and shares of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraudstream.features.history import History
from harness.settings import MachineSettings

FILE: Final = "handbook_2018.parquet"


def lacking_for_handbook(machine: MachineSettings) -> str:
    """Return why the Handbook's data cannot be read here, empty where they can."""
    is_there = machine.fraud_data_dir is not None and handbook_path(machine).is_file()
    return "" if is_there else f"FRAUD_DATA_DIR does not name a folder with {FILE}"


def handbook_path(machine: MachineSettings) -> Path:
    """Return where the data are; `lacking_for_handbook` has said that they are there."""
    return (machine.fraud_data_dir or Path()) / FILE


def first_rows(history: History, count: int) -> History:
    """Return the first rows of a history; labels that arrive later change nothing for them."""
    entities = {entity: numbers[:count] for entity, numbers in history.entities.items()}
    return replace(
        history,
        rows=history.rows[:count],
        card=history.card[:count],
        arrival_ms=history.arrival_ms[:count],
        entities=entities,
    )


def write_cards(machine: MachineSettings, cards: int, path: Path) -> int:
    """Write the rows of the first cards into a file of the same form; return how many there are."""
    table = pq.read_table(handbook_path(machine))
    customers = np.unique(table["CUSTOMER_ID"].to_numpy())
    chosen = table.filter(
        pc.less(table["CUSTOMER_ID"], int(customers[min(cards, len(customers) - 1)]))
    )
    pq.write_table(chosen, path)
    return int(chosen.num_rows)
