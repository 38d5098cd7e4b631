"""What speaks about a transaction: a rule that fires, or a list that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from fraudstream.rules.conditions import flat_name
from fraudstream.rules.entries import EntryField, address_key, entry_key
from fraudstream.rules.rule_set import EntityList, ListKind, Rule, code_of_list
from fraudstream.v1.decision_pb2 import Action, Reason
from fraudstream.v1.transaction_pb2 import Transaction

_ACTION_OF_LIST: Final = {
    ListKind.BLOCK: Action.ACTION_DECLINE,
    ListKind.WATCH: Action.ACTION_REVIEW,
    ListKind.ALLOW: Action.ACTION_APPROVE,
}


@dataclass(frozen=True, slots=True)
class Signal:
    """A rule or list that speaks about a transaction.

    Attributes:
        code: Its stable code.
        action: What it wants; approve takes the model's own action back.
        reason: As a decision carries it.
    """

    code: str
    action: Action
    reason: Reason

    @classmethod
    def of_rule(cls, rule: Rule) -> Self:
        """Return what a rule says where it fires."""
        reason = Reason(code=rule.code, text=rule.text, from_rule=True)
        return cls(rule.code, rule.action, reason)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A list as transactions are looked up in it.

    Attributes:
        signal: What it says where it names one.
        variable: By which conditions know it.
        field: Of the transaction, that is looked up.
        until_ms: Ends of its entries, by their keys.
    """

    signal: Signal
    variable: str
    field: EntryField
    until_ms: Mapping[str, int]

    @classmethod
    def of_list(cls, name: str, found: EntityList) -> Self:
        """Return the lookup of a list."""
        code = code_of_list(name)
        reason = Reason(code=code, text=found.text, from_rule=True)
        signal = Signal(code, _ACTION_OF_LIST[found.kind], reason)
        until_ms: dict[str, int] = {}
        for value, end_ms in found.entries.items():  # several spellings of one: the longest counts
            key = entry_key(found.of, value)
            until_ms[key] = max(end_ms, until_ms.get(key, 0))
        return cls(signal, flat_name(f"lists.{name}"), found.of, until_ms)

    def names(self, transaction: Transaction) -> bool:
        """Return whether an entry names a transaction, and has not ended by its event time."""
        value = getattr(transaction, self.field)
        if value and self.field is EntryField.IP:  # of a record from before addresses had one
            value = address_key(value)
        until_ms = self.until_ms.get(value) if value else None
        return until_ms is not None and transaction.event_time_ms < until_ms
