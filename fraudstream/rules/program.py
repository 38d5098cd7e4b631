"""A whole rule set as one CEL program, evaluated once a transaction.

Each condition is read and tried alone first, so an error names its rule; then all of them become
one list, whose values say which rules fire. A second, shorter list holds what needs no model: it
stands in where there is none.

Budget: 50 rules on one transaction in 60 microseconds (`loadtest/figures/scoring/rules_50.py`).
Most of it is the copy of the variables into the evaluator, which gets only what the set names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

from fraudstream.errors import RuleSetRefused
from fraudstream.rules.cel_library import cel
from fraudstream.rules.conditions import Condition, flat_name, read_condition
from fraudstream.rules.reading import ModelInputs, VariableReader
from fraudstream.rules.rule_set import Rule, RuleSet
from fraudstream.rules.signals import Lookup, Signal
from fraudstream.rules.tokens import condition_refused
from fraudstream.rules.variables import SCORE, Value, samples_of
from fraudstream.telemetry.metrics import RULE_FAULTS
from fraudstream.transaction.actions import STRICTNESS
from fraudstream.v1.transaction_pb2 import Transaction

# Of all conditions together. A set of this size takes half a millisecond.
MAX_TOKENS: Final = 8_000
_SYNTAX: Final = re.compile(r"Syntax error: (.*?)(?: expecting|$)", re.MULTILINE)
# What an evaluator raises for a division by zero, a number that is none, or types that do not fit.
_FAULTS: Final = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)


@dataclass(frozen=True, slots=True)
class _Conditions:
    """Some rules as one program, with the variables of the transaction that is evaluated."""

    signals: tuple[Signal, ...]
    whole: cel.Program
    alone: tuple[cel.Program, ...]
    reader: VariableReader
    variables: cel.Context

    def fired(self, values: dict[str, Value | None]) -> list[Signal]:
        """Return the signals whose conditions hold, in their order."""
        self.variables.update(values)
        try:
            found = self.whole.execute(self.variables)
        except _FAULTS:
            found = [_holds(program, self.variables) for program in self.alone]
        return list(compress(self.signals, found))


def _holds(program: cel.Program, variables: cel.Context) -> bool:
    """Return whether one condition holds; one that cannot be told does not, and is counted."""
    try:
        return program.execute(variables) is True
    except _FAULTS:
        RULE_FAULTS.inc()
        return False


class RuleProgram:
    """A rule set that is ready: checked and compiled. Use it from one thread at a time."""

    def __init__(self, rule_set: RuleSet) -> None:
        """Check and compile.

        Raises:
            RuleSetRefused: `RULES_CONDITION` or `RULES_FILE`; the message names the rule.
        """
        self.rule_set = rule_set
        self.hash = rule_set.hash
        codes: dict[str, int] = {}
        conditions = _read(rule_set, codes)
        pairs = list(zip(rule_set.rules, conditions, strict=True))
        lists = [Lookup.of_list(name, found) for name, found in rule_set.lists.items()]
        self._lists = [each for each in lists if each.until_ms]
        empty = {each.variable: False for each in lists if not each.until_ms}
        self._full = _compile(pairs, codes, empty)
        bare = [pair for pair in pairs if not pair[1].needs_model]
        self._bare = _compile(bare, codes, empty)

    @property
    def codes_that_need_model(self) -> list[str]:
        """Return the rules that read a score or a feature, and so say nothing of a stand-in."""
        bare = {signal.code for signal in self._bare.signals}
        return [signal.code for signal in self._full.signals if signal.code not in bare]

    def signals(self, transaction: Transaction, inputs: ModelInputs | None) -> list[Signal]:
        """Return the lists that name a transaction, then the rules that fire, strictest first.

        Args:
            transaction: Canonical, with its card token.
            inputs: What the model saw and said; None where it did not: then only rules speak that
                need neither.

        Raises:
            FeatureSpecMismatch: A rule needs a feature that was not sent.
        """
        values: dict[str, Value | None] = {
            each.variable: each.names(transaction) for each in self._lists
        }
        found = [each.signal for each in self._lists if values[each.variable]]
        conditions = self._bare if inputs is None else self._full
        if conditions.signals:
            conditions.reader.read(transaction, inputs, values)
            found += conditions.fired(values)
        if len(found) > 1:
            # Keeps the order of equals.
            found.sort(key=lambda each: STRICTNESS[each.action], reverse=True)
        return found


def _read(rule_set: RuleSet, codes: dict[str, int]) -> list[Condition]:
    """Read each condition and try its parts on a sample; collect the texts that have codes."""
    samples = samples_of(frozenset(rule_set.lists))
    values = {
        flat_name(f"{space}.{name}"): value
        for space, names in samples.items()
        for name, value in names.items()
    } | {SCORE: 0.5, **{f"coded_{field}": 1 for field in samples["transaction"]}}
    conditions = []
    for rule in rule_set.rules:
        try:
            condition = read_condition(rule.when, samples, codes)
            _try_parts(rule, condition, values)
        except RuleSetRefused as exc:
            raise RuleSetRefused(exc.reason, f"rule {rule.code} {exc.message}") from exc
        conditions.append(condition)
    length = sum(condition.tokens for condition in conditions)
    if length > MAX_TOKENS:
        msg = f"expected at most {MAX_TOKENS} words and marks in all conditions, found {length}"
        raise RuleSetRefused("RULES_FILE", msg)
    return conditions


def _try_parts(rule: Rule, condition: Condition, values: dict[str, Value]) -> None:
    """Evaluate each part of a condition alone, then the whole."""
    for column, source in [*condition.parts, (1, condition.source)]:
        shown = rule.when[column - 1 : column + 59]
        try:
            found = cel.compile(source).execute(values)
        except _FAULTS as exc:
            msg = f"{shown!r} cannot be evaluated: {_said(exc)}"
            raise condition_refused(column, msg) from exc
        if not isinstance(found, bool):
            msg = f"expected true or false, {shown!r} is a {type(found).__name__}"
            raise condition_refused(column, msg)


def _said(exc: Exception) -> str:
    """Return what the evaluator said, without the expression that it repeats."""
    text = str(exc)
    found = _SYNTAX.search(text)
    return (found.group(1) if found else text.splitlines()[0].partition("Convert")[0])[:160]


def _compile(
    pairs: Sequence[tuple[Rule, Condition]], codes: Mapping[str, int], empty: Mapping[str, bool]
) -> _Conditions:
    """Compile conditions; what lists without an entry say is known once for all."""
    sources = [condition.source for _, condition in pairs]
    variables = {name for _, condition in pairs for name in condition.variables}
    return _Conditions(
        tuple(Signal.of_rule(rule) for rule, _ in pairs),
        cel.compile(f"[{', '.join(f'({source})' for source in sources)}]"),
        tuple(map(cel.compile, sources)),
        VariableReader(variables, codes),
        cel.Context(dict(empty)),
    )
