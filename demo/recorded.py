"""A recorded data set (the Handbook's columns) as the messages that a bank would have sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow.parquet as pq

from demo.past import Past
from fraudstream.features.catalogue import Entity
from fraudstream.features.history import Ints
from fraudstream.transaction.card_token import Tokeniser
from fraudstream.transaction.money import indicative_rate_table
from fraudstream.v1 import transaction_pb2 as pb
from fraudstream.v1.label_pb2 import DISPOSITION_CONFIRMED_FRAUD, LABEL_SOURCE_CHARGEBACK, Label
from training.simulator.histories import HANDBOOK_BANK, LabelledHistory, handbook_history
from training.simulator.messages import pan_of

CURRENCY: Final = indicative_rate_table().reference_currency


@dataclass(frozen=True)
class Recorded:
    """A whole data set, in time order.

    Attributes:
        history: Its rows, as the offline driver reads them.
        ids: int64 [N], the file's transaction ids.
        terminals: int64, the file's id of each terminal number.
    """

    history: LabelledHistory
    ids: Ints
    terminals: Ints

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a Parquet file.

        Raises:
            InvalidSettings: It is missing or lacks a column.
        """
        history = handbook_history(path)
        columns = pq.read_table(path, columns=["TRANSACTION_ID", "TERMINAL_ID"])
        ids, terminals = (
            columns[name].to_numpy().astype(np.int64) for name in columns.column_names
        )
        return cls(history, np.sort(ids), np.unique(terminals))

    def past(self, until_ms: int, tokeniser: Tokeniser) -> Past:
        """Return the history before a moment."""
        labelled = self.history.until(until_ms)
        cards = range(int(labelled.history.card.max(initial=-1)) + 1)
        tokens = [tokeniser.token_of(HANDBOOK_BANK, pan_of(card)) for card in cards]
        return Past(labelled, tokens, [HANDBOOK_BANK] * len(tokens))

    def rows_between(self, from_ms: int, until_ms: int) -> list[int]:
        """Return the indices of the rows of a span, in time order."""
        times = self.history.event_time_ms
        return [int(row) for row in np.flatnonzero((times >= from_ms) & (times < until_ms))]

    def transaction(self, row: int) -> pb.Transaction:
        """Return one row as a bank sends it: one card a customer.

        An amount of zero is what a bank sends as a verification, not as a purchase.
        """
        amount = int(self.history.amount_minor[row])
        card = self._card(row)
        return pb.Transaction(
            bank_id=HANDBOOK_BANK,
            transaction_id=str(self.ids[row]),
            pan=pan_of(card),
            kind=pb.TRANSACTION_KIND_PURCHASE if amount else pb.TRANSACTION_KIND_VERIFICATION,
            terminal_id=self._terminal(row),
            amount_minor=amount,
            currency=CURRENCY,
            event_time_ms=int(self.history.event_time_ms[row]),
            utc_offset_minutes=int(self.history.history.rows["utc_offset"][row]),
            channel=pb.CHANNEL_POS,
        )

    def label(self, row: int, tokeniser: Tokeniser) -> Label:
        """Return the label that says that a row was a fraud."""
        return Label(
            label_id=f"recorded-{self.ids[row]}",
            bank_id=HANDBOOK_BANK,
            transaction_id=str(self.ids[row]),
            card_token=tokeniser.token_of(HANDBOOK_BANK, pan_of(self._card(row))),
            event_time_ms=int(self.history.event_time_ms[row]),
            disposition=DISPOSITION_CONFIRMED_FRAUD,
            source=LABEL_SOURCE_CHARGEBACK,
            terminal_id=self._terminal(row),
            settled_at_ms=int(self.history.label_arrival_ms[row]),
        )

    def labels_after(self, after_ms: int) -> list[int]:
        """Return the indices of frauds whose labels arrive after a moment, in arrival order."""
        arrival = self.history.label_arrival_ms
        rows = np.flatnonzero(arrival > after_ms)
        return [int(row) for row in rows[np.argsort(arrival[rows], kind="stable")]]

    def _card(self, row: int) -> int:
        return int(self.history.history.card[row])

    def _terminal(self, row: int) -> str:
        return str(self.terminals[self.history.history.entities[Entity.TERMINAL][row]])
