"""Which rows of a card shard count, and what labels say of them over time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.v1.label_pb2 import Disposition
from training.offline.layout import FRAUD, LABEL, MISSING, NONE, UNSAID
from training.offline.work import Records

Ints = NDArray[np.int64]
CONFIRMED: Final = int(Disposition.DISPOSITION_CONFIRMED_FRAUD)
LABELLED_GENUINE: Final = int(Disposition.DISPOSITION_GENUINE)
UNDETERMINED: Final = int(Disposition.DISPOSITION_UNDETERMINED)


@dataclass(frozen=True, slots=True)
class Groups:
    """Transactions, numbered: which each row, label and decision is about; each int64 [n].

    Attributes:
        count: How many transactions there are.
        of_rows: Of each row.
        of_labels: Of each label.
        of_decisions: Of each decision.
    """

    count: int
    of_rows: Ints
    of_labels: Ints
    of_decisions: Ints


def group_transactions(rows: Records, labels: Records, decided: Records) -> Groups:
    """Number the transactions of a card shard: a card and an id of it are one."""
    chunks = (rows, labels, decided)
    card = np.concatenate([chunk["card"] for chunk in chunks])
    transaction = np.concatenate([chunk["transaction"] for chunk in chunks])
    order = np.lexsort((transaction, card))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (np.diff(card[order]) != 0) | (np.diff(transaction[order]) != 0)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(is_first) - 1
    ends = np.cumsum([len(chunk) for chunk in chunks])
    return Groups(int(is_first.sum()), *np.split(group, ends[:2].tolist()))


@dataclass(frozen=True, slots=True)
class Judged:
    """Which rows count.

    Attributes:
        counted: bool [N].
        row_of: Which row counts for each transaction, -1 for none.
        duplicates: Further copies of a row that counts.
        conflicts: Rows with another content than the decision or the row that counts.
    """

    counted: NDArray[np.bool_]
    row_of: Ints
    duplicates: int
    conflicts: int


def judge_rows(rows: Records, groups: Groups, decided: Records) -> Judged:
    """Count each transaction once, as the stream does.

    It is the first row with the digest of the transaction's first decision; where there is no
    decision, the first row.

    Args:
        rows: `PACKED_ROW` [N] in order.
        groups: Which transaction each is.
        decided: `DECIDED` [D].
    """
    digest = np.zeros(groups.count, np.uint64)
    has_decision = np.zeros(groups.count, np.bool_)
    latest_first = np.argsort(-decided["place"], kind="stable")
    # Of several assignments to one index the last stays: the first decision.
    digest[groups.of_decisions[latest_first]] = decided["digest"][latest_first]
    has_decision[groups.of_decisions] = True
    fits = ~has_decision[groups.of_rows] | (rows["digest"] == digest[groups.of_rows])
    candidates = np.flatnonzero(fits)
    row_of = np.full(groups.count, NONE, np.int64)
    row_of[groups.of_rows[candidates][::-1]] = candidates[::-1]
    counted = np.zeros(len(rows), np.bool_)
    counted[row_of[row_of >= 0]] = True
    dropped = np.flatnonzero(~counted)
    kept = row_of[groups.of_rows[dropped]]
    same = (kept >= 0) & (rows["digest"][dropped] == rows["digest"][kept])
    return Judged(counted, row_of, int(same.sum()), int((~same).sum()))


def own_labels(rows: Records, groups: Groups, counted: NDArray[np.bool_]) -> tuple[Records, Ints]:
    """Return the labels that stand in counted rows themselves, and their transactions."""
    index = np.flatnonzero(counted & (rows["label_arrival_ms"] >= 0))
    labels = np.zeros(len(index), LABEL)
    labels["card"], labels["transaction"] = rows["card"][index], rows["transaction"][index]
    labels["arrival_ms"] = rows["label_arrival_ms"][index]
    labels["place"] = rows["number"][index]
    labels["is_fraud"] = rows["is_fraud"][index]
    labels["event_ms"], labels["entities"] = NONE, MISSING
    return labels, groups.of_rows[index]


@dataclass(frozen=True, slots=True)
class OrderedLabels:
    """Labels in the order in which their transactions learn of them.

    Attributes:
        labels: `LABEL` [L], by transaction, then as they arrived.
        group: Transaction of each, int64 [L].
        change: Of the known frauds: +1 or -1 where the label turns, else 0; int64 [L].
        doubts: `LABEL` of labels that could not tell; they change nothing.
        doubted: Transaction of each of those.
    """

    labels: Records
    group: Ints
    change: Ints
    doubts: Records
    doubted: Ints

    def final(self, groups: Groups, until_ms: int) -> tuple[NDArray[np.int8], Ints]:
        """Return the last label of each transaction that arrived before `until_ms` (-1: of all).

        Returns:
            Number of its disposition, int8 [G], 0 for none, and when a label that tells first
            arrived, int64 [G], -1 for never.
        """
        found = np.zeros(groups.count, np.int8)
        arrival = np.full(groups.count, NONE, np.int64)
        found[self.doubted[_arrived(self.doubts, until_ms)]] = UNDETERMINED
        turns = self._is_first() | (self.change != 0)
        known = turns & _arrived(self.labels, until_ms)
        is_fraud = self.labels["is_fraud"][known] == FRAUD
        found[self.group[known]] = np.where(is_fraud, CONFIRMED, LABELLED_GENUINE)
        arrival[self.group[known]] = self.labels["arrival_ms"][known]
        return found, arrival

    def _is_first(self) -> NDArray[np.bool_]:
        first = np.ones(len(self.group), np.bool_)
        first[1:] = self.group[1:] != self.group[:-1]
        return first


def _arrived(labels: Records, until_ms: int) -> NDArray[np.bool_]:
    return np.asarray((labels["arrival_ms"] < until_ms) | (until_ms < 0))


def order_labels(labels: Records, group: Ints) -> OrderedLabels:
    """Order labels by transaction and arrival, and tell what each changes."""
    is_doubt = labels["is_fraud"] == UNSAID
    doubts, doubted = labels[is_doubt], group[is_doubt]
    labels, group = labels[~is_doubt], group[~is_doubt]
    order = np.lexsort((labels["place"], labels["arrival_ms"], group))
    labels, group = labels[order], group[order]
    before = np.zeros(len(labels), np.int64)
    follows = group[1:] == group[:-1]
    before[1:] = np.where(follows, labels["is_fraud"][:-1], 0)
    change = labels["is_fraud"].astype(np.int64) - before
    return OrderedLabels(labels, group, change, doubts, doubted)


def complete_labels(ordered: OrderedLabels, rows: Records, judged: Judged) -> tuple[Records, int]:
    """Fill in what labels leave to their transactions.

    Returns:
        `LABEL` [L] with `event_ms` -1 where nothing tells it, and how many labels are about
        transactions that are not there.
    """
    labels = ordered.labels.copy()
    row = judged.row_of[ordered.group]
    has_row = row >= 0
    fills = has_row & (labels["event_ms"] == NONE)
    labels["event_ms"][fills] = rows["row"]["event_ms"][row[fills]]
    for kind in range(labels["entities"].shape[1]):
        is_missing = labels["entities"][:, kind] == MISSING
        labels["entities"][is_missing & ~has_row, kind] = 0
        fills = is_missing & has_row
        labels["entities"][fills, kind] = rows["entities"][row[fills], kind]
    return labels, int((~has_row).sum())
