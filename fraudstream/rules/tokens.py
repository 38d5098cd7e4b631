"""The words and marks of a condition, and which brackets belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import RuleSetRefused

MAX_CHARACTERS: Final = 2_000
MAX_TOKENS: Final = 400
# The evaluator goes down the stack with each bracket; 190 of them are an error, not a crash.
MAX_NESTING: Final = 16

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>"(?:[^"\\\n]|\\["'\\])*"|'(?:[^'\\\n]|\\["'\\])*')
    |(?P<number>(?:\d+\.\d+|\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<name>[A-Za-z_]\w*)
    |(?P<mark>&&|\|\||==|!=|<=|>=|[<>!+\-*/%()\[\],.])""",
    re.VERBOSE | re.ASCII,
)
_OPENS: Final = {"(": ")", "[": "]"}
LOGIC: Final = frozenset({"&&", "||"})
_HINTS: Final = {
    "?": "write two rules instead of a conditional",
    "{": "maps are not part of conditions",
    "=": "equality is ==",
    "&": "and is &&",
    "|": "or is ||",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a condition.

    Attributes:
        kind: `text`, `number`, `name` or `mark`.
        text: As it is evaluated.
        column: Where it begins, the first character is 1.
        variable: What it reads; empty where it reads nothing.
    """

    kind: str
    text: str
    column: int
    variable: str = ""


def condition_refused(column: int, message: str) -> RuleSetRefused:
    """Return the error of a condition, with the column of the fault; the first character is 1."""
    return RuleSetRefused("RULES_CONDITION", f"at character {column}: {message}")


def read_tokens(text: str) -> list[Token]:
    """Return the tokens of a condition; its length, marks and brackets are as they may be.

    Raises:
        RuleSetRefused: `RULES_CONDITION`.

    >>> [token.text for token in read_tokens("score>0.5")]
    ['score', '>', '0.5']
    """
    if len(text) > MAX_CHARACTERS:
        msg = f"expected at most {MAX_CHARACTERS} characters, found {len(text)}"
        raise condition_refused(1, msg)
    tokens = _tokens(text)
    if not 1 <= len(tokens) <= MAX_TOKENS:
        msg = f"expected 1 to {MAX_TOKENS} words and marks, found {len(tokens)}"
        raise condition_refused(1, msg)
    _check_nesting(tokens)
    return tokens


def _tokens(text: str) -> list[Token]:
    tokens = []
    column = 0
    while column < len(text):
        found = _TOKEN.match(text, column)
        if found is None:
            hint = _HINTS.get(text[column], "a text is one line in quotes")
            raise condition_refused(column + 1, f"{text[column]!r} does not belong here; {hint}")
        kind = str(found.lastgroup)
        if kind != "space":
            tokens.append(Token(kind, found.group(), column + 1))
        column = found.end()
    return tokens


def _check_nesting(tokens: Sequence[Token]) -> None:
    """Refuse brackets that do not match or go too deep."""
    opened: list[Token] = []
    for token in tokens:
        if token.kind != "mark":
            continue
        if token.text in _OPENS:
            opened.append(token)
            if len(opened) > MAX_NESTING:
                msg = f"more than {MAX_NESTING} brackets within each other"
                raise condition_refused(token.column, msg)
        elif token.text in _OPENS.values() and (
            not opened or _OPENS[opened.pop().text] != token.text
        ):
            raise condition_refused(token.column, f"{token.text} closes nothing")
    if opened:
        raise condition_refused(opened[-1].column, f"{opened[-1].text} is not closed")


def split_logic(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """Return the sides of the `&&` and `||` that stand in no bracket."""
    sides: list[Sequence[Token]] = []
    depth = begin = 0
    for column, token in enumerate(tokens):
        if token.kind != "mark":
            continue
        depth += (token.text in _OPENS) - (token.text in _OPENS.values())
        if depth == 0 and token.text in LOGIC:
            sides.append(tokens[begin:column])
            begin = column + 1
    sides.append(tokens[begin:])
    if len(sides) > 1 and not all(sides):
        column = next(token.column for token in tokens if token.text in LOGIC)
        raise condition_refused(column, "expected a condition on both sides of && and ||")
    return sides


def closing_of(tokens: Sequence[Token]) -> int:
    """Return where the bracket is closed that the first token opens."""
    depth = 0
    for column, token in enumerate(tokens):
        if token.kind == "mark":
            depth += (token.text in _OPENS) - (token.text in _OPENS.values())
        if depth == 0:
            return column
    return len(tokens)
