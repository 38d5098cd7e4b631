"""What a ledger says is served: champion, challengers, and the rules for what may come next. Pure.

The rules, each with its own refusal:

- Two people: a promotion takes a proposal of one approver and the order of another. Who signed
  the artefact may propose it, but not also approve it. An override (a promotion without a passed
  gate) takes two approvers neither of whom signed the artefact.
- Rolling back to the champion of before takes one approver: at 3 a.m. one is awake, and that model
  was approved by two already. Rolling back further takes two, as a promotion does.
- A version lower than the live one of its name is never promoted: that is a rollback, and says so.
- A canary is a promotion for some cards: it takes the same proposal, the same two people, and the
  proposal stays open for the promotion. Rolling back to the live champion ends it.
- A change of champion ends a canary and voids all open proposals: their evidence was against
  another champion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from fraudstream.errors import ModelRefused
from fraudstream.models.ledger_entry import LedgerAction, LedgerEntry, LedgerHead, ModelRef, Order
from fraudstream.signing import SignerRole

_A: Final = LedgerAction
_CHANGES_CHAMPION: Final = (_A.PROMOTE, _A.ROLLBACK)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the models of a repository stand after some ledger.

    Attributes:
        head: Of the ledger.
        time_ms: Of its last entry.
        added: Entry of each addition, by `NAME/VERSION`.
        champions: Every champion that is not rolled back, the first first; the last one is live.
        canary: The challenger that decides some cards, None for none.
        shadows: Challengers that score beside the champion, by `NAME/VERSION`, the oldest first.
        retired: Models that are never served again, by `NAME/VERSION`.
        proposals: Open ones, by `NAME/VERSION`.
    """

    head: LedgerHead = field(default_factory=LedgerHead)
    time_ms: int = 0
    added: Mapping[str, LedgerEntry] = field(default_factory=dict)
    champions: tuple[LedgerEntry, ...] = ()
    canary: LedgerEntry | None = None
    shadows: Mapping[str, LedgerEntry] = field(default_factory=dict)
    retired: Mapping[str, LedgerEntry] = field(default_factory=dict)
    proposals: Mapping[str, LedgerEntry] = field(default_factory=dict)

    @property
    def champion(self) -> ModelRef | None:
        """The model that is served, None for none yet."""
        return self.champions[-1].order.model if self.champions else None

    @property
    def previous(self) -> ModelRef | None:
        """The champion that a rollback goes back to, None for none."""
        return self.champions[-2].order.model if len(self.champions) > 1 else None

    @property
    def challengers(self) -> tuple[ModelRef, ...]:
        """The models that score beside the champion."""
        return tuple(entry.order.model for entry in self.shadows.values())

    def after(self, entry: LedgerEntry) -> Standing:
        """Return the standing after one more entry, whose signature was checked.

        Raises:
            ModelRefused: `MODEL_LEDGER` for a broken chain, `MODEL_TWO_PEOPLE`, `MODEL_PROPOSAL`,
                `MODEL_ROLLBACK` and `MODEL_UNKNOWN` for orders that the rules forbid.
        """
        _check_position(self, entry)
        _RULES[entry.order.action](self, entry)
        moved = _moved(self, entry)
        return replace(moved, head=entry.head(), time_ms=entry.time_ms)


def roles_for(action: LedgerAction) -> SignerRole:
    """Return what the signer of an action must be.

    >>> roles_for(LedgerAction.ADD).value
    'trainer'
    """
    return SignerRole.TRAINER if action is _A.ADD else SignerRole.APPROVER


def _check_position(standing: Standing, entry: LedgerEntry) -> None:
    if entry.sequence != standing.head.sequence + 1:
        expected = standing.head.sequence + 1
        raise _refused("LEDGER", f"expected entry {expected}, found {entry.sequence}")
    if entry.previous != standing.head.sha256:
        msg = f"the chain is broken at entry {entry.sequence}: the entry before it was changed"
        raise _refused("LEDGER", msg)
    if entry.time_ms < standing.time_ms:
        msg = f"entry {entry.sequence} is older than the entry before it"
        raise _refused("LEDGER", msg)


def _check_add(standing: Standing, entry: LedgerEntry) -> None:
    model, order = entry.order.model, entry.order
    if str(model) in standing.added:
        msg = f"{model} is in the repository already; a changed model takes a new version"
        raise _refused("UNKNOWN", msg)
    if order.trainer is None:
        raise _refused("LEDGER", f"entry {entry.sequence} adds {model} without naming its trainer")


def _check_propose(standing: Standing, entry: LedgerEntry) -> None:
    model = _known(standing, entry.order)
    if entry.order.asks not in _CHANGES_CHAMPION:
        msg = f"entry {entry.sequence}: a proposal asks for promote or rollback"
        raise _refused("PROPOSAL", msg)
    if entry.order.asks is _A.PROMOTE:
        _check_may_rise(standing, model)
        if entry.order.evidence is None:
            raise _refused("PROPOSAL", f"the proposal of {model} has no evidence")
    else:
        _place_below(standing, model)


def _check_promote(standing: Standing, entry: LedgerEntry) -> None:
    model = _known(standing, entry.order)
    _check_may_rise(standing, model)
    proposal = _proposal_of(standing, entry, _A.PROMOTE)
    if entry.order.evidence != proposal.order.evidence:
        msg = f"the {entry.order.action} order of {model} rests on other evidence than its proposal"
        raise _refused("PROPOSAL", msg)
    if entry.order.is_override != proposal.order.is_override:
        is_used = proposal.order.is_override
        msg = f"the proposal of {model} used {'' if is_used else 'no '}--override"
        advice = "repeat it" if is_used else "leave it out"
        raise _refused("PROPOSAL", f"{msg}: {advice} in the {entry.order.action} order")
    _check_two_people(standing, entry, proposal)


def _check_canary(standing: Standing, entry: LedgerEntry) -> None:
    if entry.order.share_permille is None:
        msg = f"entry {entry.sequence}: a canary order says its share of the cards"
        raise _refused("LEDGER", msg)
    if standing.champion is None:
        msg = f"there is no champion beside which {entry.order.model} could be a canary"
        raise _refused("PROPOSAL", msg)
    _check_promote(standing, entry)


def _check_rollback(standing: Standing, entry: LedgerEntry) -> None:
    model = _known(standing, entry.order)
    if _ends_canary(standing, model):
        return
    if _place_below(standing, model) == len(standing.champions) - 2:
        return
    proposal = _proposal_of(standing, entry, _A.ROLLBACK)
    _check_two_people(standing, entry, proposal)


def _check_shadow(standing: Standing, entry: LedgerEntry) -> None:
    model = _known(standing, entry.order)
    if model == standing.champion or str(model) in standing.shadows:
        raise _refused("UNKNOWN", f"{model} scores already")


def _check_retire(standing: Standing, entry: LedgerEntry) -> None:
    model = _known(standing, entry.order)
    if model == standing.champion:
        raise _refused("UNKNOWN", f"{model} is live: promote another or roll back first")


def _ends_canary(standing: Standing, model: ModelRef) -> bool:
    """Return whether a rollback to a model gives the live champion its cards back."""
    return standing.canary is not None and model == standing.champion


def _check_two_people(standing: Standing, entry: LedgerEntry, proposal: LedgerEntry) -> None:
    """Refuse one person as two, and a trainer's approval of their own model."""
    model = entry.order.model
    trainer = standing.added[str(model)].order.trainer
    if entry.signer == proposal.signer:
        msg = f"two-person rule: {entry.signer!r} proposed {model}; another approver must sign it"
        raise _refused("TWO_PEOPLE", msg)
    if entry.signer == trainer:
        msg = f"two-person rule: {trainer!r} signed the artefact of {model} and cannot approve it"
        raise _refused("TWO_PEOPLE", msg)
    if entry.order.is_override and proposal.signer == trainer:
        msg = (
            f"two-person rule: an override takes two approvers, and {trainer!r}, who proposed "
            f"{model}, signed its artefact"
        )
        raise _refused("TWO_PEOPLE", msg)


def _check_may_rise(standing: Standing, model: ModelRef) -> None:
    live = standing.champion
    if model == live:
        raise _refused("PROPOSAL", f"{model} is the champion already")
    if live is not None and live.name == model.name and model.version < live.version:
        msg = (
            f"version {model.version} of {model.name} is lower than the live {live.version}: "
            "that takes a signed rollback order (`fraudstream training rollback`)"
        )
        raise _refused("ROLLBACK", msg)


def _place_below(standing: Standing, model: ModelRef) -> int:
    """Return where a former champion stands in the line of champions."""
    models = [entry.order.model for entry in standing.champions[:-1]]
    if model not in models:
        msg = f"{model} is no champion of before: a rollback cannot make it one, a promotion can"
        raise _refused("ROLLBACK", msg)
    return len(models) - 1 - models[::-1].index(model)


def _proposal_of(standing: Standing, entry: LedgerEntry, asks: LedgerAction) -> LedgerEntry:
    model = entry.order.model
    proposal = standing.proposals.get(str(model))
    if proposal is None or proposal.order.asks is not asks:
        msg = (
            f"two-person rule: no open proposal to {asks} {model}; one approver proposes "
            "(`fraudstream training propose`), another signs. A change of champion voids proposals"
        )
        raise _refused("PROPOSAL", msg)
    return proposal


def _known(standing: Standing, order: Order) -> ModelRef:
    """Return the model of an order, which must be there, be the same, and not be retired."""
    model = order.model
    added = standing.added.get(str(model))
    if added is None:
        raise _refused("UNKNOWN", f"{model} is not in the repository; add it first")
    if added.order.model != model:
        msg = f"{model} was added with another manifest than the one that is ordered"
        raise _refused("LEDGER", msg)
    if str(model) in standing.retired:
        raise _refused("UNKNOWN", f"{model} is retired and never served again")
    return model


def _moved(standing: Standing, entry: LedgerEntry) -> Standing:
    """Return the standing with an allowed entry's effect."""
    order = entry.order
    key = str(order.model)
    if order.action is _A.ADD:
        return replace(standing, added={**standing.added, key: entry})
    if order.action is _A.PROPOSE:
        return replace(standing, proposals={**standing.proposals, key: entry})
    if order.action is _A.SHADOW:
        return replace(standing, shadows={**standing.shadows, key: entry})
    if order.action is _A.CANARY:
        return replace(standing, canary=entry)
    if order.action is _A.RETIRE:
        is_canary = standing.canary is not None and order.model == standing.canary.order.model
        return replace(
            standing,
            canary=None if is_canary else standing.canary,
            shadows=_without(standing.shadows, key),
            proposals=_without(standing.proposals, key),
            # A retired champion keeps its place in the line: without it, the one before it would be
            # the previous champion, which one approver may roll back to.
            retired={**standing.retired, key: entry},
        )
    return _crowned(standing, entry)


def _crowned(standing: Standing, entry: LedgerEntry) -> Standing:
    """Return the standing with another champion, or with the live one for all cards again."""
    champions = (*standing.champions, entry)
    if standing.canary is not None and _ends_canary(standing, entry.order.model):
        failed = str(standing.canary.order.model)
        return replace(standing, canary=None, proposals=_without(standing.proposals, failed))
    if entry.order.action is _A.ROLLBACK:
        champions = standing.champions[: _place_below(standing, entry.order.model) + 1]
    shadows = _without(standing.shadows, str(entry.order.model))
    return replace(standing, champions=champions, canary=None, shadows=shadows, proposals={})


def _without(entries: Mapping[str, LedgerEntry], key: str) -> Mapping[str, LedgerEntry]:
    return {name: entry for name, entry in entries.items() if name != key}


def _refused(reason: str, message: str) -> ModelRefused:
    return ModelRefused(f"MODEL_{reason}", message)


_RULES: Final[Mapping[LedgerAction, Callable[[Standing, LedgerEntry], None]]] = {
    _A.ADD: _check_add,
    _A.PROPOSE: _check_propose,
    _A.PROMOTE: _check_promote,
    _A.ROLLBACK: _check_rollback,
    _A.CANARY: _check_canary,
    _A.SHADOW: _check_shadow,
    _A.RETIRE: _check_retire,
}
