"""One condition: a safe part of CEL, read into tokens, its names checked, its parts told apart.

Allowed are comparisons, arithmetic, `in [...]`, `&&`, `||`, `!`, parentheses and five functions;
no loop, no conditional, no regular expression. So a condition costs no more than its length, and
every part of it can be tried alone: no `&&` hides what stands behind it.

The evaluator copies every variable that it is given, a namespace as a whole. So `features.amount`
becomes the plain variable `features_amount`, and only what a rule set names is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

_WORDS: Final = frozenset({"in", "true", "false"})


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition whose names are known.

    Attributes:
        source: As it is evaluated.
        names: What it reads, `namespace.name` or `score`.
        parts: What stands between its `&&` and `||`: each must be true or false by itself.
        tokens: How long it is.
    """

    source: str
    names: frozenset[str]
    parts: tuple[tuple[Token, ...], ...]
    tokens: int

    @property
    def needs_model(self) -> bool:
        """Whether it cannot be told without a score or features."""
        return any(name == SCORE or name.startswith("features.") for name in self.names)


def flat_name(name: str) -> str:
    """Return the variable that stands for a name.

    >>> flat_name("features.amount")
    'features_amount'
    """
    return name.replace(".", "_")


def read_condition(text: str, samples: Mapping[str, Mapping[str, Value]]) -> Condition:
    """Read a condition.

    Args:
        text: As it was written.
        samples: The names of each namespace.

    Raises:
        RuleSetRefused: `RULES_CONDITION`, with the place of the fault.

    >>> read_condition("score > 0.5", {}).names
    frozenset({'score'})
    """
    raw = read_tokens(text)
    tokens, names = _resolve(raw, samples)
    parts = tuple(_parts(tokens))
    for part in parts:
        _check_words(part)
    return Condition(source_of(tokens), frozenset(names), parts, len(raw))


def source_of(tokens: Sequence[Token]) -> str:
    """Return tokens as the evaluator reads them."""
    return " ".join(token.text for token in tokens)


def _resolve(
    raw: Sequence[Token], samples: Mapping[str, Mapping[str, Value]]
) -> tuple[list[Token], set[str]]:
    """Return the tokens with one variable for each `namespace.name`, and those names."""
    tokens: list[Token] = []
    names: set[str] = set()
    rest = list(reversed(raw))
    while rest:
        token = rest.pop()
        if token.kind == "name" and not _is_function(tokens, token, rest):
            name = _name_at(token, rest, samples)
            if name not in _WORDS:
                names.add(name)
            token = Token("name", flat_name(name), token.place)
        tokens.append(token)
    return tokens, names


def _is_function(before: Sequence[Token], token: Token, rest: Sequence[Token]) -> bool:
    """Return whether a name is a function's; refuse one that is not allowed."""
    is_called = bool(rest) and rest[-1].text == "("
    is_method = bool(before) and before[-1].text == "."
    if is_method and not is_called:
        raise condition_refused(token.place, f"{token.text!r}: nothing here has fields of its own")
    if not is_called or token.text in _WORDS:
        return False
    if token.text not in FUNCTIONS:
        hint = nearest(token.text, list(FUNCTIONS))
        raise condition_refused(token.place, f"no function {token.text!r}; {hint}")
    return True


def _name_at(token: Token, rest: list[Token], samples: Mapping[str, Mapping[str, Value]]) -> str:
    """Return the whole name that begins with a token, and take what belongs to it."""
    if token.text == SCORE or token.text in _WORDS:
        return token.text
    known = samples.get(token.text)
    if known is None:
        hint = nearest(token.text, [SCORE, *(f"{name}.…" for name in samples)])
        raise condition_refused(token.place, f"unknown name {token.text!r}; {hint}")
    if len(rest) < 2 or rest[-1].text != "." or rest[-2].kind != "name":
        raise condition_refused(token.place, f"expected {token.text}.NAME")
    rest.pop()
    field = rest.pop()
    if field.text not in known:
        hint = nearest(field.text, list(known))
        raise condition_refused(field.place, f"unknown name {token.text}.{field.text}; {hint}")
    return f"{token.text}.{field.text}"


def _parts(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """Return what stands between the `&&` and `||` of a condition, through its parentheses.

    Raises:
        RuleSetRefused: Logic stands within a comparison, where a part could not be tried alone.
    """
    sides = split_logic(tokens)
    if len(sides) > 1:
        return [part for side in sides for part in _parts(side)]
    (whole,) = sides
    if not any(token.text in LOGIC for token in whole):
        return [tuple(whole)]
    inner = list(whole)
    while inner and inner[0].text == "!":
        inner.pop(0)
    if inner[0].text == "(" and closing_of(inner) == len(inner) - 1:
        return _parts(inner[1:-1])
    place = next(token.place for token in whole if token.text in LOGIC)
    raise condition_refused(
        place, "&& and || join whole conditions, they are not compared or passed on"
    )


def _check_words(part: Sequence[Token]) -> None:
    """Refuse a word that the enum beside it does not have: the part could never be true."""
    fields = [f for f in WORDS_OF if any(t.text == f"transaction_{f}" for t in part)]
    if len(fields) != 1:
        return
    known = WORDS_OF[fields[0]]
    for token in part:
        if token.kind == "text" and token.text[1:-1] not in known:
            hint = nearest(token.text[1:-1], sorted(known - {""}))
            raise condition_refused(token.place, f"{fields[0]} is never {token.text}; {hint}")
