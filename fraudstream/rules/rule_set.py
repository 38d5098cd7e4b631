"""A rule set as its author writes it: one TOML file of rules, lists and the stand-in policy.

Nothing has a default that decides: without a stand-in policy there is no rule set. A list's entry
ends by itself: it counts for transactions whose event time lies before its end, so that a decision
that is made again, later or elsewhere, is the same.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fraudstream.card_data.detector import kind_of
from fraudstream.errors import RuleSetRefused
from fraudstream.rules.entries import EntryField, entry_key
from fraudstream.rules.variables import WORDS_OF
from fraudstream.transaction.actions import ACTION_WORDS
from fraudstream.transaction.card_token import CARD_TOKEN
from fraudstream.transaction.limits import TIMES_MS
from fraudstream.v1.decision_pb2 import Action

MAX_BYTES: Final = 512 * 1024
MAX_RULES: Final = 300
MAX_LISTS: Final = 50
MAX_ENTRIES: Final = 20_000
MAX_CAPS: Final = 100
# Of the dots of each line, squared, in all: what a key of 4,000 parts has, 64 MB.
MAX_SQUARED_DOTS: Final = 16_000_000

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True)
_CODE: Final = r"^[A-Z][A-Z0-9_]{2,39}$"
_NAME: Final = r"^[a-z][a-z0-9_]{0,38}$"


class ListKind(StrEnum):
    """What it does to a transaction that it names somebody of it."""

    ALLOW = "allow"
    BLOCK = "block"
    WATCH = "watch"


def _action(value: object) -> object:
    found = ACTION_WORDS.get(value) if isinstance(value, str) else None
    if found is None:
        msg = f"expected one of {', '.join(ACTION_WORDS)}"
        raise ValueError(msg)
    return found


def _until_ms(value: object) -> object:
    """Return the end of an entry: of a day in UTC, or of a moment with its offset."""
    if isinstance(value, datetime):
        end = value if value.tzinfo else None
    elif isinstance(value, date):
        end = datetime.combine(value, time(), UTC) + timedelta(days=1)
    else:
        end = None
    if end is None or int(end.timestamp() * 1_000) not in TIMES_MS:
        msg = "expected the end of the entry: 2027-01-31, or 2027-01-31T12:00:00Z"
        raise ValueError(msg)
    return int(end.timestamp() * 1_000)


if TYPE_CHECKING:
    WrittenAction = Action
else:  # protobuf's enums are plain integers when they run
    WrittenAction = Annotated[int, BeforeValidator(_action)]
_UntilMs = Annotated[int, BeforeValidator(_until_ms)]
_Text = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Rule(BaseModel):
    """A rule: where its condition holds, its action is wanted.

    Attributes:
        code: Reason code, stable.
        when: Condition, in the part of CEL that `conditions` reads.
        action: What is wanted at least; `approve` takes the model's own action back.
        text: The reason in words.
    """

    model_config = _STRICT

    code: str = Field(pattern=_CODE)
    when: str
    action: WrittenAction
    text: _Text


class EntityList(BaseModel):
    """A list of cards, merchants or the like.

    Attributes:
        kind: `block` declines, `watch` asks for a review, `allow` takes the model's action back.
        of: Which field of a transaction is looked up.
        text: The reason in words.
        entries: Values of the field, each with the epoch millisecond of its end.
    """

    model_config = _STRICT

    kind: Annotated[ListKind, Field(strict=False)]
    of: Annotated[EntryField, Field(strict=False)]
    text: _Text
    entries: dict[str, _UntilMs] = Field(max_length=MAX_ENTRIES)

    @model_validator(mode="after")
    def _check_entries(self) -> EntityList:
        for value in self.entries:
            entry_key(self.of, value)
        return self


class Cap(BaseModel):
    """What stands in for the model at some transactions.

    Attributes:
        channels: Where; empty for anywhere.
        mccs: Merchant category codes; empty for all.
        up_to_minor: Largest amount, in minor units of the reference currency.
        action: Up to that amount.
        above: Over it.
    """

    model_config = _STRICT

    channels: tuple[str, ...] = Field(default=(), strict=False)
    mccs: tuple[Annotated[str, Field(pattern=r"^[0-9]{4}$")], ...] = Field(default=(), strict=False)
    up_to_minor: int = Field(ge=0, le=10**15)
    action: WrittenAction
    above: WrittenAction

    @model_validator(mode="after")
    def _check_channels(self) -> Cap:
        known = WORDS_OF["channel"] - {""}
        if not known.issuperset(self.channels):
            msg = f"channels: expected some of {', '.join(sorted(known))}"
            raise ValueError(msg)
        return self


class StandIn(BaseModel):
    """The policy where no model answers: the first cap that fits, else `otherwise`."""

    model_config = _STRICT

    otherwise: WrittenAction
    caps: tuple[Cap, ...] = Field(default=(), max_length=MAX_CAPS, strict=False)


class RuleSet(BaseModel):
    """A rule set.

    Attributes:
        id: Of the set; its versions follow each other.
        version: Grows with every publication.
        stand_in: What decides without a model.
        rules: In the order of their reasons.
        lists: By the name that conditions use.
    """

    model_config = _STRICT

    id: str = Field(pattern=_NAME)
    version: int = Field(ge=1, le=10**9)
    stand_in: StandIn
    rules: tuple[Rule, ...] = Field(default=(), max_length=MAX_RULES, strict=False)
    lists: dict[Annotated[str, Field(pattern=_NAME)], EntityList] = Field(
        default={}, max_length=MAX_LISTS
    )

    @model_validator(mode="after")
    def _check_codes(self) -> RuleSet:
        codes = [*(rule.code for rule in self.rules), *map(code_of_list, self.lists)]
        twice = {code for code in codes if codes.count(code) > 1}
        if twice:
            msg = f"expected each code once (a list's is its name): {', '.join(sorted(twice))}"
            raise ValueError(msg)
        if sum(len(found.entries) for found in self.lists.values()) > MAX_ENTRIES:
            msg = f"lists: expected at most {MAX_ENTRIES} entries in all"
            raise ValueError(msg)
        return self

    @property
    def hash(self) -> str:
        """Return the SHA-256 of what the set says, whatever the order of its keys."""
        said = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(said.encode()).hexdigest()


def code_of_list(name: str) -> str:
    """Return the reason code of a list.

    >>> code_of_list("blocked_merchants")
    'BLOCKED_MERCHANTS'
    """
    return name.upper()


def parse_rule_set(content: str) -> RuleSet:
    r"""Read a rule set.

    Raises:
        RuleSetRefused: `RULES_FILE`, with the path of the fault.

    >>> parse_rule_set('id="a" \n version=1 \n stand_in.otherwise="review"').id
    'a'
    """
    size = len(content.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise _refused(f"expected at most {MAX_BYTES} bytes, found {size}")
    _refuse_deep_keys(content)
    for number, line in enumerate(content.splitlines(), 1):
        _refuse_card(line, f"line {number}")
    try:
        written = tomllib.loads(content)
        _refuse_cards(written)
        return RuleSet.model_validate(written)
    except ValidationError as exc:
        raise _refused(_first_fault(exc)) from exc
    except (ValueError, RecursionError, OverflowError) as exc:  # of TOML; the message has no value
        raise _refused(f"expected TOML: {exc}") from exc


def _refuse_deep_keys(content: str) -> None:
    """Refuse keys of many parts: the TOML reader keeps the beginnings of each, squared memory.

    20,000 parts, a key of 40 kB, take it 1.6 GB. Dots in texts count too, for whether one stands in
    a text only the reader knows.
    """
    squared = sum(line.count(".") ** 2 for line in content.splitlines())
    if squared > MAX_SQUARED_DOTS:
        raise _refused("a line has thousands of dots; expected keys of a few parts")


def _refuse_cards(written: dict[str, object]) -> None:
    """Refuse card data in any name or text as TOML means it: its escapes hide them in a line."""
    waiting: list[tuple[str, object]] = [("", written)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            for name in value:
                _refuse_card(str(name), f"a name in {path or 'the file'}")
            waiting += [(f"{path}.{name}".lstrip("."), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(path, inner) for inner in value]
        elif isinstance(value, str):
            _refuse_card(value, path)


def _refuse_card(text: str, path: str) -> None:
    """Refuse card data; card tokens may stand there."""
    if kind_of(CARD_TOKEN.sub("", text)):
        raise _refused(f"{path} holds a card number; write its card token")


def _first_fault(exc: ValidationError) -> str:
    """Return where the first fault is and what was expected, without the value itself."""
    fault = exc.errors(include_url=False, include_input=False)[0]
    return f"{_path_of(fault['loc'])}{fault['msg'].removeprefix('Value error, ')}"


def _path_of(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{path.lstrip('.')}: " if path else ""


def _refused(message: str) -> RuleSetRefused:
    return RuleSetRefused("RULES_FILE", message)
