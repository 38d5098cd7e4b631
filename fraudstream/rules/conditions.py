"""One condition: a safe part of CEL, read into tokens, its names checked, its parts told apart.

Allowed are comparisons, arithmetic, `in [...]`, `&&`, `||`, `!`, parentheses and five functions;
no loop, no conditional, no regular expression. So a condition costs no more than its length, and
every part of it can be tried alone: no `&&` hides what stands behind it.

The evaluator copies every variable that it is given, a namespace as a whole. So `features.amount`
becomes the plain variable `features_amount`, and only what a rule set names is copied. A text costs
ten times a number to copy: where it is only compared with others, numbers stand for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fraudstream.rules.tokens import (
    LOGIC,
    Token,
    closing_of,
    condition_refused,
    read_tokens,
    split_logic,
)
from fraudstream.rules.variables import SCORE, WORDS_OF, Value, nearest

FUNCTIONS: Final = ("contains", "double", "endsWith", "int", "size", "startsWith")

_EQUAL: Final = frozenset({"==", "!=", "in", "[", "]", "(", ")", ",", "!"})
_ESCAPE: Final = re.compile(r"\\(.)")
_ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%"})
_WORDS: Final = frozenset({"in", "true", "false"})


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition whose names are known.

    Attributes:
        source: As it is evaluated.
        variables: What it reads: `score`, or a namespace and a name, as in `features_amount`;
            `coded_mcc` is the number that stands for a text.
        parts: What stands between its `&&` and `||`, with its column: each must be true or false by
            itself.
        tokens: How long it is.
    """

    source: str
    variables: frozenset[str]
    parts: tuple[tuple[int, str], ...]
    tokens: int

    @property
    def needs_model(self) -> bool:
        """Whether it cannot be told without a score or features."""
        return any(name == SCORE or name.startswith("features_") for name in self.variables)


def flat_name(name: str) -> str:
    """Return the variable that stands for a name.

    >>> flat_name("features.amount")
    'features_amount'
    """
    return name.replace(".", "_")


def read_condition(
    text: str, samples: Mapping[str, Mapping[str, Value]], codes: dict[str, int]
) -> Condition:
    """Read a condition.

    Args:
        text: As it was written.
        samples: The names of each namespace.
        codes: Numbers that stand for texts, from 1; texts that are not there yet are added.

    Raises:
        RuleSetRefused: `RULES_CONDITION`, with the column of the fault.

    >>> read_condition("score > 0.5", {}, {}).variables
    frozenset({'score'})
    """
    raw = read_tokens(text)
    tokens = _resolve(raw, samples)
    parts = _parts(tokens)
    for part in parts:
        _check_kinds(part, samples)
    made = [_guarded(_coded(part, codes)) for part in parts]
    # What was made of each token, by its column.
    changed = {token.column: token for part in made for token in part}
    final = [changed.get(token.column, token) for token in tokens]
    variables = {token.variable for token in final if token.variable}
    tried = tuple((part[0].column, source_of(part)) for part in made)
    return Condition(source_of(final), frozenset(variables), tried, len(raw))


def source_of(tokens: Sequence[Token]) -> str:
    """Return tokens as the evaluator reads them."""
    return " ".join(token.text for token in tokens)


def _resolve(raw: Sequence[Token], samples: Mapping[str, Mapping[str, Value]]) -> list[Token]:
    """Return the tokens with one variable for each `namespace.name`."""
    tokens: list[Token] = []
    rest = list(reversed(raw))
    while rest:
        token = rest.pop()
        if token.kind == "name" and not _is_function(tokens, token, rest):
            name = flat_name(_name_at(token, rest, samples))
            variable = "" if name in _WORDS else name
            token = Token("name", name, token.column, variable)
        tokens.append(token)
    return tokens


def _is_function(before: Sequence[Token], token: Token, rest: Sequence[Token]) -> bool:
    """Return whether a name is a function's; refuse one that is not allowed."""
    is_called = bool(rest) and rest[-1].text == "("
    is_method = bool(before) and before[-1].text == "."
    if is_method and not is_called:
        raise condition_refused(token.column, f"{token.text!r}: nothing here has fields of its own")
    if not is_called or token.text in _WORDS:
        return False
    if token.text not in FUNCTIONS:
        hint = nearest(token.text, list(FUNCTIONS))
        raise condition_refused(token.column, f"no function {token.text!r}; {hint}")
    return True


def _name_at(token: Token, rest: list[Token], samples: Mapping[str, Mapping[str, Value]]) -> str:
    """Return the whole name that begins with a token, and take what belongs to it."""
    if token.text == SCORE or token.text in _WORDS:
        return token.text
    known = samples.get(token.text)
    if known is None:
        hint = nearest(token.text, [SCORE, *(f"{name}.…" for name in samples)])
        raise condition_refused(token.column, f"unknown name {token.text!r}; {hint}")
    if len(rest) < 2 or rest[-1].text != "." or rest[-2].kind != "name":
        raise condition_refused(token.column, f"expected {token.text}.NAME")
    rest.pop()
    field = rest.pop()
    if field.text not in known:
        hint = nearest(field.text, list(known))
        raise condition_refused(field.column, f"unknown name {token.text}.{field.text}; {hint}")
    return f"{token.text}.{field.text}"


def _parts(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """Return what stands between the `&&` and `||` of a condition, through its parentheses.

    Raises:
        RuleSetRefused: Logic stands within a comparison, where a part could not be tried alone.
    """
    sides = split_logic(tokens)
    if len(sides) > 1:
        return [part for side in sides for part in _parts(side)]
    inner = list(tokens)
    while inner and inner[0].text == "!":
        inner.pop(0)
    if inner and inner[0].text == "(" and closing_of(inner) == len(inner) - 1:
        return _parts(inner[1:-1])
    for token in tokens:
        if token.text in LOGIC:
            msg = "a && or || expression cannot be compared or used as an argument"
            raise condition_refused(token.column, msg)
    return [tuple(tokens)]


def _coded(part: Sequence[Token], codes: dict[str, int]) -> Sequence[Token]:
    """Return a part with numbers for its texts, where it does nothing but compare them."""
    fields = [token for token in part if token.variable]
    is_plain = all(token.variable or token.kind == "text" or token.text in _EQUAL for token in part)
    if len(fields) != 1 or not fields[0].variable.startswith("transaction_") or not is_plain:
        return part
    if not any(token.kind == "text" for token in part):
        return part
    coded = "coded_" + fields[0].variable.removeprefix("transaction_")
    return [
        replace(token, text=coded, variable=coded)
        if token.variable
        else replace(token, text=str(codes.setdefault(_unquoted(token), len(codes) + 1)))
        if token.kind == "text"
        else token
        for token in part
    ]


def _guarded(part: Sequence[Token]) -> Sequence[Token]:
    """Return a part that is false where a feature in it is missing (null).

    A feature is a whole number or a float, as it happens to be. Comparisons take both together,
    arithmetic does not: there it is made a float.
    """
    features = {token.variable for token in part if token.variable.startswith("features_")}
    if not features:
        return part
    has_arithmetic = any(token.text in _ARITHMETIC for token in part)
    texts = [
        f"double({token.text})" if has_arithmetic and token.variable in features else token.text
        for token in part
    ]
    guard = " && ".join(f"{name} != null" for name in sorted(features))
    texts[0] = f"({guard} && {texts[0]}"
    texts[-1] = f"{texts[-1]})"
    return [replace(token, text=text) for token, text in zip(part, texts, strict=True)]


def _check_kinds(part: Sequence[Token], samples: Mapping[str, Mapping[str, Value]]) -> None:
    """Refuse a literal of another kind than all beside it: the two would never be equal."""
    named = [token.variable for token in part if token.variable]
    if not named or any(token.text in FUNCTIONS for token in part):
        return
    values = [_sample(name, samples) for name in named]
    kinds = {
        "text": any(isinstance(value, str) for value in values),
        "number": any(type(value) in (int, float) for value in values),
    }
    known = WORDS_OF.get(named[0].removeprefix("transaction_")) if len(named) == 1 else None
    for token in part:
        if not kinds.get(token.kind, True):
            msg = (
                f"{token.kind} {token.text} is compared with no {token.kind}: they are never equal"
            )
            raise condition_refused(token.column, msg)
        if token.kind == "text" and known and _unquoted(token) not in known:
            hint = nearest(_unquoted(token), sorted(known - {""}))
            raise condition_refused(
                token.column, f"{named[0].partition('_')[2]} is never {token.text}; {hint}"
            )


def _sample(variable: str, samples: Mapping[str, Mapping[str, Value]]) -> Value:
    space, _, name = variable.partition("_")
    return samples.get(space, {}).get(name, 0.5)


def _unquoted(token: Token) -> str:
    return _ESCAPE.sub(r"\1", token.text[1:-1])
