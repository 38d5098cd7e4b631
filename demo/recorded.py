"""A recorded data set (the Handbook's columns) as the messages that a bank would have sent."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow.parquet as pq

from demo.past import Past
from fraudstream.features.codec import terminal_key
from fraudstream.features.history import History
from fraudstream.money import indicative_rate_table
from fraudstream.privacy import Tokeniser
from fraudstream.v1 import transaction_pb2 as pb
from fraudstream.v1.label_pb2 import DISPOSITION_CONFIRMED_FRAUD, LABEL_SOURCE_CHARGEBACK, Label
from training.dataset import HANDBOOK_BANK, handbook_history
from training.messages import pan_of

CURRENCY: Final = indicative_rate_table().reference_currency


@dataclass(frozen=True)
class Recorded:
    """A whole data set, in time order.

    Attributes:
        history: Its columns, as the offline driver reads them.
        ids: int64 [N], the file's transaction ids.
    """

    history: History
    ids: np.ndarray[tuple[int], np.dtype[np.int64]]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a Parquet file.

        Raises:
            InvalidSettings: It is missing or lacks a column.
        """
        history = handbook_history(path)
        ids = pq.read_table(path, columns=["TRANSACTION_ID"])["TRANSACTION_ID"].to_numpy()
        return cls(history, np.sort(ids).astype(np.int64))

    def past(self, until_ms: int, tokeniser: Tokeniser) -> Past:
        """Return the history before a moment."""
        kept = self.history.event_time_ms < until_ms
        columns = {f.name: getattr(self.history, f.name)[kept] for f in fields(self.history)}
        history = History(**columns)
        cards = range(int(history.card.max(initial=-1)) + 1)
        terminals = range(int(history.terminal.max(initial=-1)) + 1)
        return Past(
            history,
            [tokeniser.token_of(HANDBOOK_BANK, pan_of(card)) for card in cards],
            [terminal_key(HANDBOOK_BANK, str(number)) for number in terminals],
        )

    def rows_between(self, from_ms: int, until_ms: int) -> list[int]:
        """Return the places of the rows of a span, in time order."""
        times = self.history.event_time_ms
        return [int(row) for row in np.flatnonzero((times >= from_ms) & (times < until_ms))]

    def transaction(self, row: int) -> pb.Transaction:
        """Return one row as a bank sends it: local time as UTC, one card a customer.

        An amount of zero is what a bank sends as a verification, not as a purchase.
        """
        history = self.history
        amount = int(history.amount_reference_minor[row])
        card = int(history.card[row])
        return pb.Transaction(
            bank_id=HANDBOOK_BANK,
            transaction_id=str(self.ids[row]),
            pan=pan_of(card),
            kind=pb.TRANSACTION_KIND_PURCHASE if amount else pb.TRANSACTION_KIND_VERIFICATION,
            customer_id=str(card),
            terminal_id=str(history.terminal[row]),
            amount_minor=amount,
            currency=CURRENCY,
            event_time_ms=int(history.event_time_ms[row]),
            channel=pb.CHANNEL_POS,
        )

    def label(self, row: int, tokeniser: Tokeniser) -> Label:
        """Return the label that says that a row was a fraud."""
        return Label(
            label_id=f"recorded-{self.ids[row]}",
            bank_id=HANDBOOK_BANK,
            transaction_id=str(self.ids[row]),
            card_token=tokeniser.token_of(HANDBOOK_BANK, pan_of(int(self.history.card[row]))),
            event_time_ms=int(self.history.event_time_ms[row]),
            disposition=DISPOSITION_CONFIRMED_FRAUD,
            source=LABEL_SOURCE_CHARGEBACK,
            terminal_id=str(self.history.terminal[row]),
            settled_at_ms=int(self.history.label_arrival_ms[row]),
        )

    def labels_after(self, after_ms: int) -> list[int]:
        """Return the places of frauds whose labels arrive after a moment, in arrival order."""
        arrival = self.history.label_arrival_ms
        rows = np.flatnonzero(arrival > after_ms)
        return [int(row) for row in rows[np.argsort(arrival[rows], kind="stable")]]
